"""A recording in a keyed workflow: each sensor keeps its numbers."""

from __future__ import annotations

import msgspec

from headrace import Context, Event, ReplaySource, Workflow


class Row(msgspec.Struct, frozen=True):
    """Of a sensor."""

    sensor: str
    number: int


def keep(event: Event[Row], ctx: Context[list[int]]) -> None:
    """In the order in which they come."""
    ctx.state.append(event.data.number)


workflow = Workflow("keyed-replay", partitions=4)
rows = workflow.source(ReplaySource("rows.csv", Row, key="sensor"))
rows.to(workflow.node(keep))
