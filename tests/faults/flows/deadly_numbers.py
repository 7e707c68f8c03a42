"""Counts numbers; one of them ends the process, wherever it runs."""

from __future__ import annotations

import os
import signal

from headrace import Context, Event, KafkaSource, Node, Workflow

DEADLY = 13


class Count(Node[int, list[int], None]):
    """Keeps what it has seen."""

    def process(self, event: Event[int], ctx: Context[list[int]]) -> None:
        """One number."""
        if event.data == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        ctx.state.append(event.data)


workflow = Workflow("deadly_numbers", partitions=1)
numbers = workflow.source(KafkaSource("READINGS", int))
numbers.to(workflow.node(Count()))
