"""What a run has before it, in the eyes of another version: the wait that it stands at, and timers of its nodes.

Both are kept by name. Where the version has no such wait, or no node that could take such a timer, a run would stand
for ever, or miss its time without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from .plan import Plan
from .runs import WAIT_FIELD
from .timers import TIMERS, encode_stand, stand_of, timers_of

WAIT_NAME: Final = "@wait:"
"""Before the name of a wait, where it is named among states."""
TIMERS_NAME: Final = "@timers:"
"""The same before the name of a node, of whose timers is spoken."""


def unmet(plan: Plan, fields: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """What of a run the plan has no place for: how it is called, and why.

    Args:
        plan: The version that is to run.
        fields: Those of the run's hash.
    """
    wait = stand_of(fields.get(WAIT_FIELD)).wait
    if wait and plan.wait(wait) is None:
        yield WAIT_NAME + wait, "is gone"
    for name in timers_of(fields.get(TIMERS)).set_:
        node = plan.node_called(name)
        if node is None:
            yield TIMERS_NAME + name, "is gone"
        elif node.on_timer is None:
            yield TIMERS_NAME + name, "has no on_timer now"


def without(fields: Mapping[str, bytes], names: Collection[str]) -> dict[str, bytes]:
    """What to write to a run's hash, so that it has none of these (as `unmet` calls them).

    What lies in the index of times is passed over when it falls due.
    """
    written: dict[str, bytes] = {}
    stand = stand_of(fields.get(WAIT_FIELD))
    if WAIT_NAME + stand.wait in names:
        written[WAIT_FIELD] = encode_stand(msgspec.structs.replace(stand, wait="", since=0, due=0))
    timers = timers_of(fields.get(TIMERS))
    gone = [name for name in timers.set_ if TIMERS_NAME + name in names]
    for name in gone:
        timers.forget(name)
    if gone and (field := timers.field) is not None:
        written[TIMERS] = field
    return written


def sentence_of(name: str, why: str, runs: str) -> str:
    """What would be lost, for people.

    Args:
        name: As `unmet` calls it.
        why: The same.
        runs: How many, with the word.
    """
    if name.startswith(WAIT_NAME):
        return f"{runs} at the wait {name.removeprefix(WAIT_NAME)!r}, which {why}"
    return f"{name.removeprefix(TIMERS_NAME)} has set timers that are to come, in {runs}, and {why}"


def is_pending(name: str) -> bool:
    """Whether it is a name of what a run has before it."""
    return name.startswith((WAIT_NAME, TIMERS_NAME))
