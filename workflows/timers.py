"""Timers of runs: those that nodes set, and the members of the store's index of all that is to fall due.

A run keeps what it has set (`RunTimers`), with its state; the store's index says when each is due, so that nobody has
to hold or look through all of them. What falls due enters the graph as an event of its run, and counts only if the
run still has it: each setting has a generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from .actions import Timer
from .errors import HeadraceError

TIMERS: Final = "timers"
"""What records of firings have in place of an origin; and the field of a run that has its timers."""
SOURCE: Final = "(timers)"
"""What events that fell due have in place of the name of a source."""
NODE: Final = "timer"
"""Kind of what a node has set."""
IDLE: Final = "idle"
TOTAL: Final = "total"
"""Kinds of the workflow's time-outs."""
WAIT: Final = "wait"
"""Kind of the time-out of a wait."""
LONGEST: Final = timedelta(days=3660)
"""Ten years: what is longer is a mistake."""
NEVER: Final = 0
"""When a timer is due that never falls due: it only says that something is so."""
_NAME_CAP: Final = 200
_MILLISECOND: Final = timedelta(milliseconds=1)


class TimerError(HeadraceError):
    """A node set a timer that can't be: the event fails, and is not tried again."""

    final = True


class TimerFiring(Timer, frozen=True):
    """A timer as it comes to its node, which takes it only if the run still has this setting of it."""

    generation: int = 0
    """0: it has been taken already, and comes again."""


class Due(msgspec.Struct, array_like=True, frozen=True, order=True):
    """Something that falls due: a member of the store's index."""

    kind: str
    """`timer`, `idle`, `total`, `wait`."""
    key: str
    number: int
    """Of the run."""
    node: str = ""
    """The node that has set it; of a time-out of a wait, the wait."""
    name: str = ""
    generation: int = 0
    """Of a timer: which setting; of a time-out of a wait: the how-manieth time that the run stood there."""

    @property
    def member(self) -> str:
        """As the store has it."""
        return _encode(self).decode()

    def id(self, due: int) -> str:
        """Of the event that it becomes: the same however often it is told of."""
        parts = [TIMERS, self.kind, self.key, str(self.number)]
        if self.node:
            parts += [self.node, self.name, str(self.generation)]
        else:
            parts.append(str(due))
        return "/".join(parts)


_encode: Final = msgspec.json.Encoder().encode
due_of: Final = msgspec.json.Decoder(Due).decode


class Stand(msgspec.Struct, array_like=True, frozen=True):
    """Where a run stands."""

    wait: str
    """Name of the wait; "": at none."""
    generation: int
    """How often it has come to a wait."""
    since: int = 0
    due: int = 0
    """When it has stood there for too long: milliseconds since 1970 UTC, as `since`; 0: never."""


NOWHERE: Final = Stand("", 0)
encode_stand: Final = msgspec.json.Encoder().encode
_decode_stand: Final = msgspec.json.Decoder(Stand).decode


def stand_of(blob: bytes | None) -> Stand:
    """Where a run stands, from its field."""
    return NOWHERE if not blob else _decode_stand(blob)


class RunTimers(msgspec.Struct):
    """What the nodes of one run have set, and not taken back."""

    last: int = 0
    """Generation of the last that was set."""
    set_: dict[str, dict[str, tuple[int, int]]] = msgspec.field(default_factory=dict, name="set")
    """Node -> name -> (generation, due: milliseconds since 1970 UTC, or `NEVER`)."""

    def set(self, node: str, name: str, due: int) -> None:
        """Set one, in place of what has its name."""
        self.last += 1
        self.set_.setdefault(node, {})[name] = (self.last, due)

    def cancel(self, node: str, name: str) -> None:
        """Take one back; nothing happens if there is none."""
        named = self.set_.get(node, {})
        named.pop(name, None)
        if not named:
            self.set_.pop(node, None)

    def forget(self, node: str) -> None:
        """Take back all of a node's."""
        self.set_.pop(node, None)

    def rename(self, names: Mapping[str, str]) -> None:
        """Nodes have other names now.

        Args:
            names: Former name -> the one that it has.
        """
        for former in self.set_.keys() & names.keys():
            self.set_[names[former]] = self.set_.pop(former)

    def has(self, node: str, name: str) -> bool:
        """Whether it is set."""
        return name in self.set_.get(node, ())

    def take(self, node: str, name: str, generation: int) -> bool:
        """It has fallen due: false if it was taken back, or set anew, since."""
        found = self.set_.get(node, {}).get(name)
        if found is None or found[0] != generation:
            return False
        self.cancel(node, name)
        return True

    @property
    def field(self) -> bytes | None:
        """As the run's field has them; None: there never was one."""
        return _encode_timers(self) if self.last else None

    def all_of(self, key: str, number: int) -> Iterator[tuple[Due, int]]:
        """Each of them that falls due, for the store's index, with its time."""
        for node, named in self.set_.items():
            for name, (generation, due) in named.items():
                if due != NEVER:
                    yield Due(NODE, key, number, node, name, generation), due


_encode_timers: Final = msgspec.json.Encoder().encode
_decode_timers: Final = msgspec.json.Decoder(RunTimers).decode


def timers_of(blob: bytes | None) -> RunTimers:
    """Those of a run, from its field."""
    return RunTimers() if not blob else _decode_timers(blob)


def due_in(name: str, after: timedelta, now: int) -> int:
    """When a timer is due: milliseconds since 1970 UTC.

    Args:
        name: Of the timer.
        after: How long after `now`.
        now: Milliseconds since 1970 UTC.

    Raises:
        TimerError: It can't be: says why.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_CAP:
        raise TimerError(f"{name!r} can't name a timer: write 1 to {_NAME_CAP} characters")
    if not isinstance(after, timedelta):
        raise TimerError(f"after={after!r} is no time: write timedelta(seconds=30)")
    if not timedelta(0) <= after <= LONGEST:
        raise TimerError(f"timer {name!r}: after={after} is not within 0 and {LONGEST.days} days")
    return now + whole_milliseconds(after)


def whole_milliseconds(time: timedelta) -> int:
    """So many, rounded up: nothing falls due early."""
    return -(-time // _MILLISECOND)


def as_taken(firing: bytes | None) -> bytes | None:
    """A node's timer that has come to it, so that it comes again whatever the run has set since."""
    return None if firing is None else _encode(msgspec.structs.replace(_decode_firing(firing), generation=0))


_decode_firing: Final = msgspec.json.Decoder(TimerFiring).decode


def firing_of(due: Due, time: int) -> bytes:
    """Data of the event that a node's timer becomes: JSON of a `TimerFiring`."""
    return _encode(TimerFiring(due.name, datetime.fromtimestamp(time / 1000, UTC), due.generation))
