"""Traces in workers and nodes: what their cores and runners are given. Loads OpenTelemetry only if it is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from headrace.tracing.options import TracesNotInstalled, Tracing, installed
from headrace.workflows.plan import Plan
from headrace.workflows.traced_run import Scope
from headrace.workflows.tracing import Trace, Tracer

if TYPE_CHECKING:
    from headrace.tracing.exporting import Export


class ProcessTraces:
    """Traces of one worker's or node's process.

    Args:
        tracing: As the deployment has it; None: there are none, and nothing is loaded.
        plan: The workflow.
        process: `worker/0`, `node/1/0`.
        incarnation: Id of the workflow's life.

    Raises:
        TracesNotInstalled: This machine lacks what the deployment asks for.
    """

    def __init__(self, tracing: Tracing | None, plan: Plan, process: str, incarnation: str) -> None:
        self.scope: Scope | None = None
        """Shows spans to the code of nodes."""
        self.tracer: Tracer | None = None
        """For the cores of a worker's partitions."""
        self._export: Export | None = None
        if tracing is None:
            return
        if not installed():
            raise TracesNotInstalled
        from headrace.tracing.current import scope  # noqa: PLC0415  needs the extra
        from headrace.tracing.exporting import Lot, open_export, resource_of, serve_nodes  # noqa: PLC0415
        from headrace.tracing.spans import SpanMaker  # noqa: PLC0415

        resource = resource_of(tracing, plan.name, f"{plan.name}/{process}")
        export = self._export = open_export(tracing)
        serve_nodes(export, resource)
        maker = SpanMaker(plan, resource.attributes, keys=tracing.keys)

        def deliver(traces: Sequence[Trace]) -> None:
            size = sum(1 + len(row.spans) for row in traces)
            export.put(Lot(size, partial(maker.request, traces)))

        self.scope = scope
        self.tracer = Tracer(f"{plan.name}/{incarnation}", tracing.sampling, time.time_ns, deliver)

    def counters(self) -> dict[str, int]:
        """Spans that have left, and those that were dropped."""
        export = self._export
        return (
            {"exported": 0, "dropped": 0}
            if export is None
            else {"exported": export.exported, "dropped": export.dropped}
        )

    def flush(self) -> None:
        """Send what waits now; takes seconds at most, and no time where the receiver is away anyway."""
        if self._export is not None:
            self._export.flush()

    def close(self) -> None:
        """Send what waits, and no more; takes seconds at most."""
        if self._export is not None:
            self._export.shutdown()
