"""A recording, unkeyed: adds up its rows."""

from __future__ import annotations

import msgspec

from headrace import Context, Event, ReplaySource, Workflow


class Row(msgspec.Struct, frozen=True):
    """A number."""

    number: int


class Sum(msgspec.Struct):
    """Of what was seen."""

    count: int = 0
    total: int = 0


def add(event: Event[Row], ctx: Context[Sum]) -> None:
    """Each row once."""
    ctx.state.count += 1
    ctx.state.total += event.data.number


workflow = Workflow("replayed", keyed=False)
rows = workflow.source(ReplaySource("parts/*.csv", Row))
rows.to(workflow.node(add))
