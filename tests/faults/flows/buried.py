"""Numbers; those that are odd, and what is no number, become dead letters, which leave to a topic."""

from __future__ import annotations

from headrace import Context, DeadLetterMessage, Event, KafkaSink, KafkaSource, Node, Reject, Workflow


class Halve(Node[int, dict[str, int], int]):
    """Counts what it halves."""

    def process(self, event: Event[int], ctx: Context[dict[str, int]]) -> int:
        """Half of it."""
        if event.data % 2:
            raise Reject("odd")
        ctx.state["seen"] = ctx.state.get("seen", 0) + 1
        return event.data // 2


workflow = Workflow("buried", partitions=2)
numbers = workflow.source(KafkaSource("READINGS", int))
halve = workflow.node(Halve())
halves = workflow.sink(KafkaSink("ALERTS", int))
buried = workflow.sink(KafkaSink("BURIED", DeadLetterMessage))
numbers.to(halve)
halve.to(halves)
workflow.dead_letters.to(buried)
