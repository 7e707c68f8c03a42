"""Dead letters that go back into the graph: where each enters it, and what it is there.

An event that stopped at a node goes back to that node, a message that could not leave to its sink, a record that was
no event to its source. All of them have the ids that they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from .calls import Path
from .codec import TOMBSTONE, type_name
from .commit import DeadLetter
from .intake import Taken
from .plan import SINK, Plan, Target
from .program import UnitProgram
from .records import Records, Reentry
from .transfers import Transfer
from .waves import goes_in_waves

_NEVER_CAME: Final = "gap"
"""Reason of letters that stand for records which a log has lost."""
_WENT_ROUND: Final = "hops"
"""Reason of events that went through too many nodes: they begin to count anew."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where the events of some records enter."""

    targets: tuple[Target, ...] = ()
    type: int = -1
    """Number of their data's type; -1: none is needed."""
    hops: int = 0
    """To be counted on from, in the unit that they enter."""
    problem: tuple[str, str] | None = None
    """Why they can't: a dead letter's reason, and a sentence."""


def can_go_back(letter: DeadLetter) -> bool:
    """There is something of it that can, and it says where to, as letters of nodes by an earlier Headrace don't."""
    return letter.reason != _NEVER_CAME and (letter.reentry is not None or letter.node is None)


def back(letter: DeadLetter, partition: int) -> Transfer:
    """A dead letter on its way back, as an entry of its partition's internal stream has it."""
    entry = letter.reentry
    if entry is not None and letter.reason == _WENT_ROUND:
        entry = msgspec.structs.replace(entry, visits=0)
    return Transfer(
        partition, 0, 0, letter.source, letter.id, letter.event_time, letter.key.encode() or None, letter.data,
        letter.headers, entry=entry,
    )  # fmt: skip


def way_of(plan: Plan, programs: Sequence[UnitProgram], records: Records, entry: Reentry) -> Way:
    """Where records with this entry enter the graph, as it is now."""
    if entry.sink:
        sink = next((row for row in plan.sinks if row.name == entry.sink), None)
        return _gone("sink", entry.sink) if sink is None else Way((SINK + sink.index,))
    if not entry.node:  # it had not begun
        if records.source < 0:
            return _gone("source", records.unknown)
        return Way(plan.entrance(records.source), plan.sources[records.source].type)
    node = plan.node_called(entry.node)
    if entry.execute:
        return Way(type=-1 if node is None else node.takes)
    if node is None:
        return _gone("node", entry.node)
    if entry.type:
        number = next((row.number for row in plan.types if type_name(row.type) == entry.type), None)
        if number is None:
            return _gone("type", entry.type)
    elif records.source < 0:
        return _gone("source", records.unknown)
    else:
        number = plan.sources[records.source].type
    program = programs[plan.unit_of[node.index]]
    before = 1
    if program.ways is not None and goes_in_waves(plan, program):
        before = next(
            depth for row, depth in zip(program.nodes, program.ways[1], strict=True) if row.index == node.index
        )
    return Way((node.index,), number, max(0, entry.visits - before))


def _gone(what: str, name: str) -> Way:
    sentence = f"it was to go back to the {what} {name!r}, which this version of the workflow does not have"
    return Way(problem=("version", sentence))


def taken_back(records: Records, way: Way) -> Taken:
    """The same records as columns of events."""
    taken = Taken(records, decoded=False)
    bad = {index: ("decode", fault) for index, fault in (records.faults or {}).items()}
    if way.problem is not None:
        bad = dict.fromkeys(range(len(records)), way.problem)
    taken.keys = [None if index in bad else (key or b"").decode() for index, key in enumerate(records.keys)]
    taken.values = [TOMBSTONE if value is None else value for value in records.values]
    taken.bad = [(index, *problem) for index, problem in bad.items()]
    return taken


def roots_and_paths(ids: Sequence[str], depth: int) -> tuple[list[str], list[Path]]:
    """Ids of the source's events that events came from, and their branch numbers from there.

    Args:
        ids: See `Event.id`.
        depth: How many branch numbers each of them ends with.
    """
    parts = [text.rsplit(".", depth) for text in ids]
    return [root for root, *_ in parts], [tuple(map(int, path)) for _, *path in parts]


def no_events(records: Records) -> Taken:
    """Messages of a sink, which go past the graph: they are no events of a run."""
    taken = Taken(records, decoded=False)
    taken.keys = [None] * len(records)
    return taken
