"""`parked`: events that stand still, before which node, and why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from headrace.actors.parked_views import Standing, StandingPage, list_standing
from headrace.cli.exits import ExitCode
from headrace.cli.finding import found_workflow
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.times import ago, duration
from headrace.settings import Loaded
from headrace.workflows.calls import PAUSED, SLOW, UNAVAILABLE
from headrace.workflows.parking import BEHIND

_LONGEST: Final = 200
"""Characters of an error."""
_WHY: Final = {
    PAUSED: "goes on once its node is resumed",
    UNAVAILABLE: "goes on once the process of its node answers",
    SLOW: "its call goes on; its result is taken when it comes",
}


def show_parked(
    workflow: str | None,
    loaded: Loaded,
    screen: Screen,
    *,
    node: str | None,
    key: str | None,
    limit: int,
    as_json: bool,
) -> ExitCode:
    """Print what stands still of a workflow.

    Raises:
        HeadraceError: See `found_workflow` and `list_standing`.
    """

    async def read() -> tuple[str, StandingPage]:
        async with found_workflow(workflow, loaded, Project(Path.cwd()), "parked") as (registry, descriptor):
            page = await list_standing(
                registry, descriptor.name, descriptor.partitions, node=node, key=key, limit=limit
            )
            return descriptor.name, page

    name, page = asyncio.run(read())
    if as_json:
        screen.json({"count": page.count, "events": [_for_programs(row) for row in page.rows]})
        return ExitCode.OK
    if not page.count:
        screen.say(f"Nothing of {name} stands still{_of(node, key)}.")
        return ExitCode.OK
    for row in page.rows:
        before = f" before {row.ticket.node}" if row.ticket.node else ", not begun"
        head = Text.assemble(
            (f"{name}/{row.event.key}", "bold"), f"  {row.event.id}{before}  since {ago(row.event.since)}"
        )
        screen.write(head.append(Text.assemble("\n  ", _why(row))))
    if page.count > len(page.rows):
        screen.say(f"{page.count - len(page.rows)} more: say --limit {page.count}", "dim")
    return ExitCode.OK


def _of(node: str | None, key: str | None) -> str:
    return (f" before {node}" if node else "") + (f" of the key {key}" if key else "")


def _why(row: Standing) -> Text:
    event = row.event
    if event.reason == BEHIND:
        return Text("behind another event of its key" if row.due is None else "goes on now", "dim")
    if event.reason in _WHY:
        tried = f", after {event.attempts} attempts" if event.attempts else ""
        return Text(f"{event.reason}: {_WHY[event.reason]}{tried}", "yellow")
    wait = (row.due or 0) / 1000 - time.time()
    when = "now" if wait <= 0 else f"in {duration(wait)}"
    error = " ".join(event.error.split())[:_LONGEST]
    return Text.assemble(f"attempt {event.attempts + 1} {when}", "  ", (f"after {error}", "red"))


def _for_programs(row: Standing) -> dict[str, Any]:
    event = row.event
    return {
        "partition": row.partition, "key": event.key, "node": row.ticket.node or None, "event": event.id,
        "source": event.source, "reason": event.reason, "attempts": event.attempts, "error": event.error or None,
        "since": event.since, "due": row.due,
    }  # fmt: skip
