"""`reset`: positions of a stopped workflow's Kafka sources, set anew by a person."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from headrace.actors.deployments import begin_change, end_change
from headrace.actors.resets import ResetPlan, To, plan_reset, reset
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import who
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.settings import Loaded

log = structlog.get_logger(__name__)


def parse(words: Sequence[str]) -> To:
    """What `--to` says.

    Raises:
        UsageError: It is none of the forms.
    """
    if len(words) == 1 and "=" not in words[0]:
        word = words[0]
        if word == "earliest":
            return "earliest"
        if word == "latest":
            return "latest"
        try:
            when = datetime.fromisoformat(word)
        except ValueError:
            raise _not_understood(word) from None
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    offsets: dict[tuple[str, int], int] = {}
    for word in words:
        place, equals, offset = word.rpartition("=")
        topic, slash, number = place.rpartition("/")
        if not (equals and slash and topic and number.isdecimal() and offset.isdecimal()):
            raise _not_understood(word)
        offsets[topic, int(number)] = int(offset)
    return offsets


def _not_understood(word: str) -> UsageError:
    return UsageError(
        f"--to {word} is not understood. Say earliest, latest, a time such as 2026-11-27T06:00:00Z, or, once for each,"
        " TOPIC/3=1734 (topic partition and offset)."
    )


class Order(NamedTuple):
    """What was typed."""

    workflow: str
    words: Sequence[str]
    drop_state: bool
    dry_run: bool
    yes: bool

    @property
    def why(self) -> str:
        """For the audit."""
        return f"to {' '.join(self.words)}{', states dropped' if self.drop_state else ''}"


def reset_workflow(order: Order, loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Set positions anew, after asking.

    Raises:
        UsageError: `--to` is not understood, or nobody can be asked.
        HeadraceError: See `found_workflow`, `plan_reset` and `reset`.
    """
    return asyncio.run(_reset(order, parse(order.words), loaded, screen, as_json=as_json))


async def _reset(order: Order, to: To, loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    name = order.workflow
    async with found_workflow(name, loaded, Project(Path.cwd()), f"reset {name}") as (registry, _):
        plan = await plan_reset(registry, name, to, drop_state=order.drop_state)
        if not as_json:
            _tell(plan, screen)
        if not order.dry_run:
            if not order.yes and not screen.confirm(f"Do that to {name} at {registry.address}?", "--yes"):
                screen.say("Nothing was changed.")
                return ExitCode.PROBLEMS
            await _do(registry, plan, order.why)
    if as_json:
        screen.json({"workflow": name, "reset": not order.dry_run, "moves": plan.moves, "left": plan.left,
                     "again": plan.again, "skipped": plan.skipped, "states_dropped": plan.states})  # fmt: skip
    elif order.dry_run:
        screen.say("Nothing was changed (--dry-run).")
    else:
        screen.say(f"{name} is reset. It goes on from there when you deploy or run it.")
    return ExitCode.OK


async def _do(registry: Registry, plan: ResetPlan, why: str) -> None:
    process = f"{socket.gethostname()}, process {os.getpid()}"
    await begin_change(registry, plan.workflow, process)
    try:
        await reset(registry, plan, who=who(), why=why)
    finally:
        await end_change(registry, plan.workflow, process)
    log.info("positions_reset", workflow=plan.workflow, moves=len(plan.moves), why=why)


def _tell(plan: ResetPlan, screen: Screen) -> None:
    for move in plan.moves:
        before = "never read" if move.before is None else str(move.before)
        screen.say(f"  {move.origin}: {before} -> {move.after}")
    if plan.drop_state:
        screen.say(f"{plan.states} keys go, for good: runs, and the states of all nodes.", "bold")
    if plan.again:
        over = "from empty states" if plan.drop_state else "over the states as they are: what they count, counts twice"
        screen.say(f"Up to {plan.again} events are processed again, {over}. Their outputs leave again.", "bold")
    if plan.skipped:
        screen.say(f"Up to {plan.skipped} events are never processed.", "bold")
    for name in plan.left:
        screen.say(f"  {name} stays where it is: only Kafka sources can be reset", "dim")
