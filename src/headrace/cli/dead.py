"""`dead`: what could not be processed, and why; looked at, taken out, sent back in."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog
from rich.text import Text

from headrace.actors.dead_letters import (
    Filter,
    Found,
    LetterPage,
    drop_letters,
    get_letter,
    list_letters,
    replay_letters,
)
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import who
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.times import ago
from headrace.settings import Loaded
from headrace.workflows.store import WorkflowDescriptor

Places: TypeAlias = Sequence[tuple[int, str]]
"""Partition and entry of each letter."""

log = structlog.get_logger(__name__)

_LONGEST: Final = 300
"""Characters of an error in a list."""
_AT_ONCE: Final = 500
"""Letters that are looked at together when they are to be dropped: each may have a megabyte."""


def show_list(
    workflow: str | None, loaded: Loaded, screen: Screen, wanted: Filter, *, limit: int, cursor: str, as_json: bool
) -> ExitCode:
    """Print a page of dead letters, the newest first.

    Raises:
        HeadraceError: See `found_workflow` and `list_letters`.
    """

    async def read() -> tuple[str, LetterPage]:
        async with found_workflow(workflow, loaded, Project(Path.cwd()), "dead list") as (registry, descriptor):
            return descriptor.name, await list_letters(
                registry, descriptor.name, descriptor.partitions, wanted, limit=limit, cursor=cursor
            )

    name, page = asyncio.run(read())
    if as_json:
        screen.json({"letters": [_for_programs(found) for found in page.letters], "cursor": page.cursor})
        return ExitCode.OK
    if not page.letters:
        screen.say(f"{name} has no dead letters{_of(wanted)}.")
    for found in page.letters:
        letter = found.letter
        screen.write(
            Text.assemble((found.address, "bold"), f"  {ago(letter.time)}  ", _place(found), "\n  ")
            .append(f"{letter.reason}: ", "red")
            .append(" ".join(letter.error.split())[:_LONGEST])
        )
    if page.cursor:
        options = "".join(f" --{option} {value}" for option, value in _options(wanted))
        screen.say(f"more: headrace dead list {name}{options} --limit {limit} --cursor {page.cursor}", "dim")
    return ExitCode.OK


def show_one(address: str, loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Print all of a dead letter, with its data and the user's part of the traceback.

    Raises:
        UsageError: That is no address of a letter.
        NothingRuns: It is not there.
        HeadraceError: See `found_workflow`.
    """
    name, partition, entry = _parts(address, "show")

    async def read() -> Found | None:
        async with found_workflow(name, loaded, Project(Path.cwd()), "dead show") as (registry, _):
            return await get_letter(registry, name, partition, entry)

    found = asyncio.run(read())
    if found is None:
        raise NothingRuns(f"There is no dead letter {address}. There are: headrace dead list {name}")
    if as_json:
        screen.json(_for_programs(found))
        return ExitCode.OK
    letter = found.letter
    screen.write(Text.assemble((found.address, "bold"), f"  {ago(letter.time)}  ", _place(found)))
    screen.write(Text.assemble((f"{letter.reason}: ", "red"), letter.error))
    if letter.traceback:
        screen.say(letter.traceback, "dim")
    rows = [("event", letter.id), ("attempts", str(letter.attempts)), ("type", letter.type or "-")]
    rows += [(f"header {key}", value.decode(errors="replace")) for key, value in letter.headers]
    for label, value in rows:
        screen.write(Text.assemble((f"{label}  ", "cyan"), value))
    screen.say("data", "cyan")
    screen.say(_readable(letter.data))
    return ExitCode.OK


def drop(
    targets: Sequence[str], wanted: Filter, loaded: Loaded, screen: Screen, *, everything: bool, yes: bool
) -> ExitCode:
    """Take dead letters out, for good, after asking.

    Args:
        targets: Addresses of letters, or one name of a workflow whose letters `wanted` chooses.
        wanted: Which, if a workflow is named.
        loaded: Settings.
        screen: Asks, and tells what was done.
        everything: All of the workflow's are meant if `wanted` chooses none.
        yes: Don't ask.

    Raises:
        UsageError: It is not clear which are meant, or nobody is there to be asked.
        HeadraceError: See `found_workflow`.
    """
    chosen = _choice(targets, wanted, "drop", everything=everything)
    return asyncio.run(_drop(chosen, loaded, screen, yes=yes))


def replay(
    targets: Sequence[str], wanted: Filter, loaded: Loaded, screen: Screen, *, everything: bool, yes: bool
) -> ExitCode:
    """Send dead letters back to where they stopped, after asking; arguments and errors as of `drop`.

    Raises:
        StoreFull: The workflow does not take them.
        DestinationEnded: The run of an unkeyed workflow has ended.
    """
    chosen = _choice(targets, wanted, "replay", everything=everything)
    return asyncio.run(_replay(chosen, loaded, screen, yes=yes))


class _Choice(NamedTuple):
    """Which letters are meant, and how that was said."""

    workflow: str
    addressed: list[tuple[str, int, str]]
    wanted: Filter

    @property
    def why(self) -> str:
        """For the audit."""
        chosen = " ".join(f"{option}={value}" for option, value in _options(self.wanted))
        return chosen or ("by address" if self.addressed else "all")


def _choice(targets: Sequence[str], wanted: Filter, verb: str, *, everything: bool) -> _Choice:
    name = targets[0].partition("/")[0]
    addressed = [_parts(target, verb) for target in targets if "/" in target]
    if len(addressed) != len(targets) and len(targets) > 1:
        raise UsageError("Name letters, or one workflow with --reason, --node or --all.")
    if any(other != name for other, _, __ in addressed):
        raise UsageError("Name letters of one workflow at a time.")
    if not addressed and wanted == Filter() and not everything:
        raise UsageError(f"Say which: headrace dead {verb} {name} --reason WORD, --node NAME, or --all")
    return _Choice(name, addressed, wanted)


async def _drop(chosen: _Choice, loaded: Loaded, screen: Screen, *, yes: bool) -> ExitCode:
    async def work(registry: Registry, places: Places, count: str) -> None:
        dropped = await drop_letters(registry, chosen.workflow, places, who=who(), why=chosen.why)
        log.info("dead_letters_dropped", workflow=chosen.workflow, count=dropped, who=who(), why=chosen.why)
        screen.say(f"Dropped {dropped} of {count}.")

    question = "Drop {count} at {address}, for good?"
    return await _agreed(chosen, "drop", loaded, screen, question, "Nothing was dropped.", work, yes=yes)


async def _replay(chosen: _Choice, loaded: Loaded, screen: Screen, *, yes: bool) -> ExitCode:
    name = chosen.workflow

    async def work(registry: Registry, places: Places, count: str) -> None:
        async with Store(registry.url, name, connections=2) as store:
            done = await replay_letters(store, places, who=who(), why=chosen.why)
        log.info("dead_letters_replayed", workflow=name, count=done.replayed, who=who(), why=chosen.why)
        screen.say(f"Replayed {done.replayed} of {count}.")
        if done.kept:
            screen.say(
                f"{done.kept} can't go back, and stay: they stand for records that a topic had lost before they were"
                " read (reason gap), or an earlier Headrace wrote them and did not note the way."
            )
        if done.replayed:
            screen.say(f"Those that stop again are dead letters again: headrace dead list {name}", "dim")

    question = "Send {count} at {address} back to where they stopped?"
    return await _agreed(chosen, "replay", loaded, screen, question, "Nothing was replayed.", work, yes=yes)


async def _agreed(
    chosen: _Choice, verb: str, loaded: Loaded, screen: Screen, question: str, refused: str,
    work: Callable[[Registry, Places, str], Awaitable[None]], *, yes: bool,
) -> ExitCode:  # fmt: skip
    """Do something with the letters that are meant, once a person has agreed."""
    name = chosen.workflow
    async with found_workflow(name, loaded, Project(Path.cwd()), f"dead {verb}") as (registry, descriptor):
        places = [(found.partition, found.entry) async for found in _meant(registry, descriptor, chosen)]
        if not places:
            screen.say(f"{name} has no such dead letters.")
            return ExitCode.OK
        count = f"{len(places)} dead letter{'' if len(places) == 1 else 's'} of {name}"
        if not yes and not screen.confirm(question.format(count=count, address=registry.address), "--yes"):
            screen.say(refused)
            return ExitCode.PROBLEMS
        await work(registry, places, count)
    return ExitCode.OK


async def _meant(registry: Registry, descriptor: WorkflowDescriptor, chosen: _Choice) -> AsyncIterator[Found]:
    """The letters: those addressed, else all that are wanted."""
    wanted, addressed = chosen.wanted, chosen.addressed
    for name, partition, entry in addressed:
        found = await get_letter(registry, name, partition, entry)
        if found is not None and wanted.fits(found.letter):
            yield found
    cursor: str | None = None if addressed else ""
    while cursor is not None:
        page = await list_letters(
            registry, descriptor.name, descriptor.partitions, wanted, limit=_AT_ONCE, cursor=cursor
        )
        for found in page.letters:
            yield found
        cursor = page.cursor


def _parts(address: str, verb: str) -> tuple[str, int, str]:
    parts = address.split("/")
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].replace("-", "", 1).isdecimal():  # noqa: PLR2004
        raise UsageError(
            f"{address!r} names no dead letter. Take what `headrace dead list` prints:"
            f" headrace dead {verb} WORKFLOW/3/1764168000000-0"
        )
    return parts[0], int(parts[1]), parts[2]


def _place(found: Found) -> str:
    letter = found.letter
    key = f" of {letter.key}" if letter.key else ""
    return f"{letter.source}{key}{f' at {letter.node}' if letter.node else ''}"


def _options(wanted: Filter) -> list[tuple[str, str]]:
    given = (("reason", wanted.reason), ("node", wanted.node))
    return [(option, value) for option, value in given if value is not None]


def _of(wanted: Filter) -> str:
    return "".join(f" with {option} {value}" for option, value in _options(wanted))


def _for_programs(found: Found) -> dict[str, Any]:
    """A letter as JSON: its data as it is where it is JSON, else as base64."""
    fields = msgspec.structs.asdict(found.letter)
    data = fields.pop("data")
    row: dict[str, Any] = {"address": found.address, "partition": found.partition, "entry": found.entry, **fields}
    row["headers"] = {name: value.decode(errors="replace") for name, value in found.letter.headers}
    if data is not None and _is_json(data):
        row["data"] = msgspec.Raw(data)
    else:
        row["data_base64"] = None if data is None else base64.b64encode(data).decode()
    return row


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return True


def _readable(data: bytes | None) -> str:
    if data is None:
        return "none"
    return msgspec.json.format(data, indent=2).decode() if _is_json(data) else repr(data)
