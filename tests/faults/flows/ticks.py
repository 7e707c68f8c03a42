"""A schedule, unkeyed: keeps all times at which it was due."""

from __future__ import annotations

from datetime import datetime, timedelta

from headrace import Context, Event, ScheduleSource, Workflow


def keep(event: Event[datetime], ctx: Context[list[int]]) -> None:
    """In milliseconds since 1970 UTC."""
    ctx.state.append(round(event.data.timestamp() * 1000))


workflow = Workflow("ticks", keyed=False)
ticks = workflow.source(ScheduleSource(every=timedelta(milliseconds=100)))
ticks.to(workflow.node(keep))
