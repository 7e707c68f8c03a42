"""Finds the nodes and sinks of a plan that a test names, by handle or by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from headrace.testing.problems import HarnessError
from headrace.workflows.handles import Accepts
from headrace.workflows.plan import NodePlan, SinkPlan

P = TypeVar("P", NodePlan, SinkPlan)


def part_of(rows: Sequence[P], part: Accepts[Any] | str, workflow: str) -> P:
    """The row of a plan that a handle stands for, also one of a workflow that is a node; or that has a name.

    Raises:
        HarnessError: There is none; or there are several, as that workflow is a node more than once.
    """
    kind = "sink" if rows and isinstance(rows[0], SinkPlan) else "node"
    name = part if isinstance(part, str) else part.name
    found = [] if isinstance(part, str) else [row for row in rows if row.written is part._item]
    found = found or [row for row in rows if row.name == name]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(row.name for row in rows) or "none"
        raise HarnessError(f"{kind} {name} is no part of workflow {workflow}, which has: {known}")
    choice = " or ".join(repr(row.name) for row in found)
    raise HarnessError(f"{kind} {name} is in workflow {workflow} {len(found)} times: name one, {choice}")
