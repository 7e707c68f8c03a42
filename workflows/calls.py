"""What goes to a unit of nodes and what comes back: one call is one hop of one epoch, in columns.

Both are arrays on the wire (`msgspec` array-like structs): a call of 3,000 events is a dozen lists, not
3,000 objects.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from .streaming import StreamPlace

Blobs: TypeAlias = list[bytes | None]
"""States of one run in one unit, JSON text, one for each stateful node of the unit; None: not begun."""
Path: TypeAlias = tuple[int, ...]
"""Branch numbers from a source's event to what came of it; part of the id, and the order among siblings."""


PAUSED: Final = "paused"
"""Why an event stands still before a node that it has not entered: a person has paused the node."""
UNAVAILABLE: Final = "unavailable"
"""The same: the node's process is away, or has not answered within the epoch's deadline."""
SLOW: Final = "slow"
"""The event's call goes on in the node's process, longer than its epoch waits; its result is fetched."""
CLOSED: Final = (PAUSED, UNAVAILABLE)
"""Reasons of a node that gets no events."""
STAYING: Final = frozenset({SLOW, *CLOSED})
"""Reasons of an event that is not to be tried again, but to go on when something else happens."""


class Call(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """Events of one partition for one replica of a unit, in order, with the runs that they belong to."""

    partition: int
    unit: int
    replica: int
    number: int
    """Consecutive per owner; with `owner` the version of every state that this call makes."""
    owner: str
    now: int
    """Milliseconds since 1970 UTC: `ctx.now` for all of these events."""
    keys: list[str]
    """Distinct run keys."""
    numbers: list[int]
    """Run number of each key."""
    bases: list[int]
    """By run: number of the call that made the state to start from; 0: there is none yet."""
    states: list[Blobs | None]
    """By run: the state itself, or None where the unit should hold version `bases[run]`."""
    shared: list[bytes | None] | None
    """By run: the state that all nodes of a run share, always sent; None: the workflow has none."""
    runs: list[int]
    """By event: index into `keys`."""
    nodes: list[int]
    """By event: index of the node that it enters."""
    types: list[int]
    """By event: number of its data's type."""
    blobs: Blobs
    """By event: its data."""
    origins: list[str]
    """Distinct origins."""
    origin_of: list[int]
    """By event: index into `origins`."""
    offsets: list[int | str]
    times: list[int]
    paths: list[Path] | None = None
    """By event; None: all are as their source gave them."""
    hops: list[int] | None = None
    """By event: nodes passed so far, for the hop limit; None: none."""
    headers: list[tuple[tuple[str, bytes], ...]] | None = None
    traced: list[tuple[int, bytes]] | None = None
    """Events that are traced, if any: index, and trace id with the id of the event's first span."""
    attempts: list[int] | None = None
    """By event: how often its node has tried it, of one that stood still before the node; -1: it did not. None: none
    did."""
    blocked: list[tuple[int, int, int]] | None = None
    """(run, node, events of the run that stand still before it, those of this call included); -1: nothing of the run
    may enter it in this call; -2: nothing at all may, a person has paused it."""
    timers: list[bytes | None] | None = None
    """By run: the timers that its nodes have set, as the run's field has them; None: no node of the workflow sets
    any."""
    values: list[dict[str, int]] | None = None
    """By run: bytes of its values, by name; None: no run of them has any."""
    falls: int = 0
    """Processes that have ended one after the other, perhaps with these events in hand."""
    executions: list[tuple[int, bool]] | None = None
    """Events that a node is to have out of line, ascending: index, and whether what it does is committed; see
    `executing`. None: there are none."""


class Hasten(msgspec.Struct, frozen=True, kw_only=True, tag="hasten"):
    """To a unit with `async` nodes, beside its calls: runs end, and what ends them waits for calls of the partition."""

    partition: int
    owner: str
    through: int = 0
    """Calls up to this number don't wait long for their nodes, which go on without them; 0: they do."""
    void: tuple[tuple[str, int], ...] = ()
    """Key and number (0: whichever it has) of runs whose calls are cancelled, and come to nothing."""


class Exit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Something that goes on from a unit, where a plain code does not say it all."""

    index: int
    """Which event of the call it came from."""
    path: Path
    """Branch numbers to append to that event's path."""
    code: int
    """Exit code of the unit; or `ENTER + node`: a node (of this unit too) that it enters."""
    type: int
    data: bytes | None
    """None: the event itself goes on."""
    hops: int = 0


class Sent(msgspec.Struct, array_like=True, gc=False):
    """Data that leaves for a sink by one code and path, of many events: columns, as there may be one for each event."""

    code: int
    """Exit code of the unit; all that it leads to is one sink."""
    path: Path
    """Branch numbers to append to the paths of the events it came from."""
    indexes: list[int] = []
    """Which events of the call it came from, ascending."""
    blobs: list[bytes] = []


ENTER = 100_000
"""Exit codes from here on name a node to enter: what a serial workflow's unit hands back to keep the order."""


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event that stopped at a node, for good or for a time."""

    index: int
    path: Path
    node: int
    reason: str
    """A stable word, see `DeadLetter.reason`."""
    error: str
    traceback: str | None
    type: int
    data: bytes | None
    """None: the event as it came."""
    hops: int = 0
    """Nodes that it had been through, with this one."""
    attempts: int = 1
    """How often this node has tried it, in a row."""
    wait: int | None = None
    """Milliseconds until it is to be tried again; None: it is not."""
    falls: int = 0
    """As `Call.falls` had it when the call was given up."""

    @property
    def behind(self) -> bool:
        """It did not enter the node: another event of its run stands still before it."""
        return not self.attempts and self.reason not in STAYING

    @property
    def stays(self) -> bool:
        """It is not to be tried again, but to go on when something else happens."""
        return self.wait is not None and self.reason in STAYING

    @property
    def closed(self) -> bool:
        """It did not enter the node, as that gets no events for now; what is known of it is as it was."""
        return self.wait is not None and self.reason in CLOSED


class Effect(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a node asked for by `ctx`: takes effect with the commit."""

    index: int
    kind: str
    """`reply`, `send`, `value` or `stream`: what was written there stays."""
    name: str
    """Of a message, or of a value."""
    body: str
    """JSON text."""
    to: str = ""
    """Key of the run that a message is for."""
    id: str = ""
    """Of a message."""
    path: Path = ()
    """Of a reply or a value: branch numbers of the event that the node had."""
    place: StreamPlace | None = None
    """Of a stream."""


class Ended(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A node (or a route) ended the run."""

    index: int
    node: int
    """Index of the node."""
    outcome: str
    """`completed` or `terminated`."""
    result: str
    """JSON text: the result, or the reason."""
    path: Path
    """Branch numbers to append to that event's path."""


class Left(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An inner run ended: what stands still of it is no more."""

    index: int
    scope: int


class Hop(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A node had a traced event: what becomes its span."""

    index: int
    path: Path
    """Branch numbers to append to that event's path."""
    node: int
    hops: int
    """Nodes passed, with this one."""
    start: int
    """Nanoseconds since 1970 UTC, by the clock of the node's machine."""
    took: int
    """Nanoseconds."""
    result: str
    """Action, or class of the data; "": nothing went on."""
    attributes: dict[str, Any] | None = None
    """What the node's code has set on its span."""


class Executed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What came of an event that a node had out of line."""

    index: int
    body: str = ""
    """JSON text of a `Returned`; empty: it has failed."""
    reason: str = ""
    """Why: as `Failed.reason`."""
    error: str = ""


class CallResult(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """What a unit made of a call; final once the worker has it."""

    partition: int
    unit: int
    replica: int
    number: int
    owner: str
    codes: bytes = b""
    """By event: exit code by which the event itself goes on; 0: see `exits`, or nothing goes on."""
    exits: list[Exit] = []
    failed: list[Failed] = []
    effects: list[Effect] = []
    ended: list[Ended] = []
    skipped: list[int] = []
    """Events not processed, because their run ended earlier in this call."""
    states: list[Blobs] = []
    """By run of the call: its states after it."""
    shared: list[bytes | None] | None = None
    need: list[int] | None = None
    """Runs (indexes) whose state the unit does not hold: nothing was processed, call again with them."""
    seconds: float = 0.0
    """CPU time that it took, for sizing the next calls."""
    processed: list[int] = []
    """By node of the unit, in its order: events that it processed without an error."""
    hops: list[Hop] = []
    """Of traced events only, in the order in which nodes had them."""
    rerouted: list[Failed] = []
    """Events that stopped at a node for good, and of which a `Failure` has gone on by the node's route for it."""
    sent: list[Sent] = []
    """What leaves the graph, where a node returned it as the only thing: not in `exits`."""
    timers: list[bytes | None] | None = None
    """By run of the call: its timers after it; None: as `Call.timers`."""
    left: list[Left] = []
    """Inner runs that ended, of which something may stand still."""
    void: list[StreamPlace] = []
    """Where events have written into streams whose attempts did not succeed."""
    executed: list[Executed] = []
    """Of each of `Call.executions`."""
