"""The compiled graph: what `Workflow.compile` makes and what runner, core and actors read.

Everything here is resolved: nodes, sinks and types are numbers, routes are tuples of targets. A plan is
rebuilt from the user's module in every process (user code is imported by name, never pickled), so two
processes that import the same module have equal numbers.

A *target* is an int: a node's index (>= 0), `SINK + index`, or one of `COMPLETE` and `TERMINATE`.
An empty tuple of targets drops the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from .retention import KEPT, Retention

if TYPE_CHECKING:
    from .codec import Quick
    from .retry import Retry, WhenFull

Target: TypeAlias = int
BETWEEN: Final = "/"
"""Between the name of a workflow's node and the names of what is inside: `pay/charge`."""
SINK: Final = 1_000_000
"""Targets from here on are sinks: `target - SINK` is the sink's index."""
PART: Final = ":"
"""In names of nodes that users don't write: parts of a join, as in `both:score`."""
COMPLETE: Final = -1
"""Target: the run ends, completed, with the event's data as its result."""
TERMINATE: Final = -2
"""Target: the run ends, terminated, with the event's data as the reason."""
TIMED_OUT: Final = -3
"""Target: the run ends as timed out; where a time-out leads that has no route."""
WAITS: Final = -10_000
"""Targets from here down are waits, where the run stands from then on: `WAITS - target` is the wait's index."""
ARRIVALS: Final = -20_000
"""Targets from here down: where the run stands decides, once the event is its next one. `ARRIVALS - target` is the
index of the source that it came from."""
OVERS: Final = -30_000
"""Targets from here down: a wait has lasted for too long, if the run still stands there. `OVERS - target` is its index.
"""


class Codec(Protocol):
    """Bytes to value and back. Both raise `CodecError` with the path of the field that does not fit."""

    def decode(self, blob: bytes, /) -> Any:
        """Bytes to value; called once per event."""
        ...

    def encode(self, value: Any, /) -> bytes:
        """Value to bytes."""
        ...

    @property
    def quick(self) -> Quick | None:
        """What does the same in most cases, and faster; None: nothing does."""
        ...


class StateCodec(Codec, Protocol):
    """How one node's state is kept: JSON text. `encode` refuses what would not come back equal (NaN)."""

    def new(self) -> Any:
        """A fresh state, for a run that this node has not seen."""


@dataclass(frozen=True, slots=True)
class DataType:
    """A type of data that travels; its number goes with the blob, so that fan-in of two topics works."""

    number: int
    type: Any
    codec: Codec
    immutable: bool
    """Deeply immutable: may be handed from one fused node to the next without a copy."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source: where its events go."""

    index: int
    name: str
    source: Any
    """The user's source object (`KafkaSource`, `ChannelSource`, ...)."""
    type: int
    """Number of the type of its data."""
    key: str | Callable[[Any], str] | None
    """Field of the data, function of the data, or None: the record's own key (`str`, UTF-8)."""
    targets: tuple[Target, ...]
    time: str | Callable[[Any], Any] | None = None
    """Field or function of the data that is the event's time; None: the record's."""
    tombstones: str = "dead-letter"
    """What is done with records without a value: `dead-letter`, `skip`, or `deliver` (as `Tombstone`)."""
    late: str = "new-run"
    """What is done with events of runs that have ended: see `late.LatePolicy`."""


@dataclass(frozen=True, slots=True)
class FailurePlan:
    """What `.on(Failure)` of a node comes to."""

    route: int
    """Route number."""
    type: int
    """Number of the type `Failure`."""
    letter: bool = False
    """The event is a dead letter all the same: who gets the `Failure` is only to know."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node: what it runs, what it may return, and where that goes."""

    index: int
    name: str
    """Identity of its state: unique, kept over versions."""
    instance: Any
    """The user's `Node` or `BatchNode`, or None for a function."""
    process: Callable[..., Any]
    """`process(event, ctx)`, or `process(events, ctxs)` of a batch node."""
    is_async: bool
    is_batch: bool
    state: StateCodec | None
    routes: tuple[tuple[Target, ...], ...]
    """Targets by route number."""
    actions: Mapping[Enum, int]
    """Action member -> route number: the node's own input event goes on."""
    outputs: Mapping[type, int]
    """Runtime class of returned data -> route number, for `.on(Class)`; others take `default`."""
    default: int | None
    """Route number of `.to(...)`: data without a route of its own class. None: data without a route is an error."""
    types: Mapping[type, int]
    """Runtime class of returned data -> number of its DataType."""
    may_end: bool
    """Its return annotation has Complete or Terminate, or one of its routes leads to an end; of a node in a scope, no:
    what it ends is the inner run."""
    uses_run_state: bool = False
    replicas: int = 1
    batch_size: int = 0
    batch_delay: timedelta = timedelta(0)
    timeout: timedelta | None = None
    """How long one call may take."""
    retry: Retry | None = None
    """When it fails: how often to try again, and after which wait. None: not at all."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Ray resources of its actor: `num_cpus`, `num_gpus`, custom names."""
    takes: int = -1
    """Number of the type of its events' data, if it can be executed by itself; else -1."""
    where: str = ""
    """`file.py:38`, for messages."""
    renamed_from: tuple[str, ...] = ()
    """Names that it had in versions before: what is stored under them is its own."""
    failure: FailurePlan | None = None
    """Where a `Failure` goes when it fails for good. None: nowhere, the event is a dead letter."""
    nothing: int | None = None
    """Route number of its event when it returns None; None: nowhere."""
    on_timer: Callable[..., Any] | None = None
    """`on_timer(timer, ctx)`; None: it sets no timers."""
    scope: int = -1
    """Index of the scope that it is inside of, or the door of; -1: it is the outermost workflow's own."""
    written: Any = field(default=None, repr=False, compare=False)
    """What the user's code made: tells apart nodes of equal names of workflows that are nodes of this one."""


@dataclass(frozen=True, slots=True)
class TimeoutPlan:
    """A time-out of the workflow's runs: where its event goes."""

    kind: str
    """`idle`: so long after the run's last event; `total`: so long after its first one."""
    after: int
    """Milliseconds."""
    data: bytes
    """JSON of its event's data, a `Timeout`."""
    type: int
    """Number of the type of that."""
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """A wait: which events go on from there while a run stands at it."""

    index: int
    name: str
    """Identity of where runs stand: unique, kept over versions."""
    source: int
    """Index of the source of the events that are waited for."""
    targets: tuple[Target, ...]
    after: int | None
    """Milliseconds until it is over; None: it never is."""
    data: bytes
    """JSON of the data of the event that it is over, a `Timeout`."""
    type: int
    """Number of the type of that; -1: there is none."""
    over: tuple[Target, ...]
    """Where that event goes."""
    renamed_from: tuple[str, ...] = ()
    """Names that it had: runs may stand at it under them."""


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """A sink: what arrives there."""

    index: int
    name: str
    sink: Any
    """The user's sink object (`KafkaSink`, ...)."""
    type: int
    cap: int | None = None
    """Bytes that it takes in one message at most; None: as many as it likes."""
    written: Any = field(default=None, repr=False, compare=False)
    """As for nodes."""


@dataclass(frozen=True, slots=True)
class ScopePlan:
    """A workflow that is a node: what its runs inside a run of the outer workflow lead to.

    Such an *inner run* begins with the first event that passes the door, and ends by `Complete`, `Terminate`, or the
    failure of a node inside. Then the states of all nodes in the scope are gone; the next event begins another one.
    """

    index: int
    name: str
    """Of the node: `pay`, or `checkout/pay` of one inside of another."""
    door: int
    """Index of the node by which events come in. Its state is the one that the nodes inside share."""
    nodes: tuple[int, ...]
    """All nodes inside, those of scopes inside among them; without the door."""
    parent: int
    """Scope that it is inside of; -1: none."""
    complete: tuple[Target, ...]
    """Where `Complete` goes on."""
    failure: tuple[Target, ...] | None
    """Where `Failure` goes on; None: it has no route, and a node's failure is no end of the inner run."""
    timeout: tuple[Target, ...]
    """Where `Timeout` goes on."""
    marks: int
    """Route of the door by which events come in and are marked, as branches meet inside; -1: they are not."""
    letters: tuple[int, ...]
    """Indexes of the sinks that get the dead letters of what is inside."""
    types: tuple[int, int, int]
    """Numbers of the types `Complete`, `Failure`, `Timeout`."""
    lasts: int | None = None
    """Milliseconds that an inner run lasts at most; None: no limit."""
    times: tuple[tuple[str, str, int], ...] = ()
    """Its workflow's time-outs: name of the node that each of them is, kind, milliseconds."""


@dataclass(frozen=True, slots=True)
class StandPlan:
    """A wait of a workflow that is a node, on a source of the outermost one; see `inner_places`."""

    name: str
    """Of the node that it is: an inner run stands at it."""
    arrival: int
    """Index of the node by which comes in what it is for."""
    source: int
    """Index of the source."""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """Nodes that run in one actor (fused), or inside the worker. The unit of a call."""

    index: int
    nodes: tuple[int, ...]
    in_worker: bool
    replicas: int
    resources: Mapping[str, float] = field(default_factory=dict)

    def name(self, plan: Plan) -> str:
        """Names of its nodes, joined with `+`; of workflows that are nodes only their own, and no parts of joins."""
        names = [plan.nodes[node].name for node in self.nodes]
        return "+".join(name for name in names if PART not in name and BETWEEN not in name)


@dataclass(frozen=True, slots=True)
class Region:
    """A strongly connected part of the graph of units; the unit of the key barrier.

    In a *plain* region (one unit, no way back to itself) all events of an epoch go in one call. In a
    *serial* one each run has a single event at a time, taken depth first: there the result would
    otherwise depend on how events were cut into batches.
    """

    index: int
    units: tuple[int, ...]
    serial: bool
    before: frozenset[int]
    """Regions from which this one can be reached (itself not among them)."""
    singly: bool = False
    """Serial, and where an event goes may hang on what the one before it came to: none goes in a call with others of
    its run, even if there is a single unit."""

    @property
    def by_core(self) -> bool:
        """Whether the core keeps the order in it. A lone unit does so by itself, depth first."""
        return self.serial and (len(self.units) > 1 or self.singly)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole workflow, resolved."""

    name: str
    keyed: bool
    partitions: int | None
    """`partitions=` of the workflow, or None: by the topic, else 32 (unkeyed: 1)."""
    types: tuple[DataType, ...]
    sources: tuple[SourcePlan, ...]
    nodes: tuple[NodePlan, ...]
    sinks: tuple[SinkPlan, ...]
    units: tuple[UnitPlan, ...]
    unit_of: tuple[int, ...]
    """Node index -> unit index."""
    regions: tuple[Region, ...]
    """In topological order."""
    region_of: tuple[int, ...]
    """Unit index -> region index."""
    run_state: StateCodec | None
    """State shared by the run's nodes (`Workflow(state=...)`)."""
    serial: bool
    """One event of a run at a time in the whole graph (shared state, or a node that may end the run)."""
    hop_limit: int = 100
    retention: int = 24 * 3600 * 1000
    """Milliseconds that a run is remembered once it has ended."""
    id_retention: int = 24 * 3600 * 1000
    """Milliseconds that ids are known that senders have chosen."""
    reply_retention: int = 24 * 3600 * 1000
    """Milliseconds that the answer to a request can be read."""
    callback: str = ""
    """Address that is told what becomes of runs with which none came; "": none."""
    timeouts: tuple[TimeoutPlan, ...] = ()
    firing_type: int = -1
    """Number of the type of nodes' timers as they come to them; -1: no node sets any."""
    letters_kept: Retention = KEPT
    """How long and how many dead letters are kept."""
    parked_full: WhenFull = "pause"
    """What is done while as many events of a partition stand still as may."""
    epoch_deadline: float = 10.0
    """Seconds that events wait for a node that can't answer."""
    letter_sinks: tuple[int, ...] = ()
    """Indexes of the sinks that every dead letter goes to as well."""
    scopes: tuple[ScopePlan, ...] = ()
    """The workflows that are nodes of it; none before what it is inside of."""
    stands: tuple[StandPlan, ...] = ()
    """Waits inside of them."""
    urgent: frozenset[int] = frozenset()
    """Indexes of nodes whose timers pass what stands still: waits that are over, inner runs that last too long."""
    waits: tuple[WaitPlan, ...] = ()
    awaited: frozenset[int] = frozenset()
    """Indexes of sources that some wait is on."""
    messages: frozenset[int] = frozenset()
    """Indexes of sources of messages: those for a wait that is not reached are kept, and no run begins with one."""

    @property
    def message_encoders(self) -> Mapping[str, Callable[[Any], bytes]]:
        """By name of a source of messages: what checks its data and puts it into JSON."""
        rows = (self.sources[index] for index in self.messages)
        return {row.name: partial(_checked, self.types[row.type].codec) for row in rows}

    @property
    def timed(self) -> bool:
        """Something may come for a run that does not begin it: what falls due, messages."""
        return bool(self.timeouts) or bool(self.waits) or self.firing_type >= 0

    def entrance(self, source: int) -> tuple[Target, ...]:
        """Where events of a source enter."""
        return (ARRIVALS - source,) if source in self.awaited else self.sources[source].targets

    def wait(self, name: str) -> WaitPlan | None:
        """Its wait that has, or had, this name."""
        found = next((row for row in self.waits if row.name == name), None)
        return found or next((row for row in self.waits if name in row.renamed_from), None)

    def timeout(self, kind: str) -> TimeoutPlan | None:
        """Its time-out of this kind."""
        return next((row for row in self.timeouts if row.kind == kind), None)

    def node_called(self, name: str | None) -> NodePlan | None:
        """The node that has this name, or had it in a version before."""
        found = next((node for node in self.nodes if node.name == name), None)
        return found or next((node for node in self.nodes if name in node.renamed_from), None)


def _checked(codec: Codec, value: Any) -> bytes:
    """The value in JSON, if it is of the codec's type."""
    blob = codec.encode(value)
    codec.decode(blob)
    return blob
