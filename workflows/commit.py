"""What an epoch leaves behind: the one step in which it becomes durable, and the answers to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from .records import Reentry
from .streaming import StreamPlace


class Answer(Enum):
    """What the store says to a commit. Made by the store itself, from what it holds."""

    APPLIED = "APPLIED"
    ALREADY = "ALREADY"
    """It was applied before; the answer was lost. As good as APPLIED."""
    FENCED = "FENCED"
    """Another owner has the partition: drop it, and wait for the supervisor."""
    ROLLED_BACK = "ROLLED_BACK"
    """The store lost its tail (or another history): drop what is held, acquire again, load again."""
    TORN = "TORN"
    """A commit stopped half-way (script error): the partition stands still until a person looks."""


STRAY: Final = -1
"""`Output.sink` of one that was written for a sink which this version of the workflow does not have."""


EVERYBODY: Final = "*"
"""`Reply.channel` of one that is for all who wait."""


class Output(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message for a sink, as it lies in the outbox."""

    sink: int
    id: str
    key: str
    time: int
    """Milliseconds since 1970 UTC."""
    data: bytes | None
    """As it goes into the sink; None: a tombstone."""
    headers: tuple[tuple[str, bytes], ...] = ()


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An answer to a request; the first one written wins."""

    request: str
    channel: str
    """Reply channel of the gateway process that waits: woken after the commit."""
    body: str
    """JSON text of a `RequestAnswer`."""
    keep: int = 24 * 3600 * 1000
    """How long it is kept: milliseconds."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be processed, with all that is needed to understand it and send it again."""

    id: str
    key: str
    source: str
    node: str | None
    """Where it failed; None: before the first node (it could not be decoded, or has no key)."""
    reason: str
    """`decode`, `key`, `error`, `reject`, `output`, `hops`, `size`, `poison` ...: stable words."""
    error: str
    traceback: str | None = None
    attempts: int = 1
    time: int = 0
    """When it stopped: milliseconds since 1970 UTC."""
    event_time: int = 0
    """When the event happened, as `Event.time` has it."""
    type: str | None = None
    data: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    reentry: Reentry | None = None
    """Where it goes if it is replayed; None: in by its source again."""


class Callback(msgspec.Struct, frozen=True, array_like=True):
    """Something that occurred to a run, to be told to an address."""

    id: str
    """The same for ever, for this occurrence."""
    run: str
    """Key of the run."""
    type: str
    """`run.completed`, `run.waiting`, ..."""
    url: str
    body: str
    """JSON text."""


@dataclass(slots=True)
class Commit:
    """All effects of one epoch (or several, one after the other), applied in one step or not at all."""

    sequence: int
    positions: dict[str, str] = field(default_factory=dict)
    """Origin -> position after what is done (see `Records.after`)."""
    runs: dict[str, list[str]] = field(default_factory=dict)
    """Run key -> field, value, field, value ... of its hash (`status`, `number`, `node:<name>`, `state`, ...)."""
    fresh: list[str] = field(default_factory=list)
    """Keys whose old hash goes before `runs` is applied: the key is used again, by a new run."""
    changed: list[str] = field(default_factory=list)
    """Keys of runs whose values, status or wait are others from here on: readers are told."""
    sealed: list[StreamPlace] = field(default_factory=list)
    """What was written there into streams stays."""
    void: list[StreamPlace] = field(default_factory=list)
    """What was written there does not."""
    ended_runs: dict[str, int] = field(default_factory=dict)
    """Keys of all runs that ended -> their numbers."""
    ended: dict[str, int] = field(default_factory=dict)
    """Keys of runs that ended -> milliseconds to keep them."""
    outputs: list[Output] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    farewell: Reply | None = None
    """To all requests that lie in the inbox: the run of an unkeyed workflow has ended, and nobody will process them."""
    trims: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Stream name -> (last id that is done, number of entries done): taken out; a channel gets its room back."""
    parked: dict[str, bytes] = field(default_factory=dict)
    """Events that stand still from here on (or as something has changed): by the field of their ticket."""
    unparked: list[str] = field(default_factory=list)
    """Those that no longer do."""
    due: dict[str, int] = field(default_factory=dict)
    """Of those that stand still, when the first of each queue is to go on: milliseconds since 1970 UTC."""
    not_due: list[str] = field(default_factory=list)
    """Those that stand behind another one now."""
    timers: dict[str, int] = field(default_factory=dict)
    """What falls due of runs, as members of the partition's index (see `timers.Due`), and when: milliseconds since
    1970 UTC."""
    no_timers: list[str] = field(default_factory=list)
    """Members that have fallen due, or were taken back. Taken out before `timers` are put in."""
    counters: dict[str, int] = field(default_factory=dict)
    """Fields of the head: `runs` (last run number), `ended` (1: the unkeyed workflow's run has ended),
    `buried:<outlet>` (sequence of the last output refused there whose dead letter is committed)."""


@dataclass(slots=True)
class Head:
    """A partition as its new owner finds it."""

    owner: str
    sequence: int
    counters: dict[str, int]
    outbox: int
    """Sequence of the last output ever appended to the outbox."""
    positions: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict)
    parked: list[str] = field(default_factory=list)
    """Fields of the events that stand still; as acquired."""
    due: dict[str, int] = field(default_factory=dict)
    """When the first of each queue is to go on: milliseconds since 1970 UTC; as acquired."""
    first_timer: int | None = None
    """When the first of the index of timers is due: milliseconds since 1970 UTC; as acquired. None: there is none."""
