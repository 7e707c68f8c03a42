"""One epoch: the events of a micro-batch in columns, where each of them stands, and what is to be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .calls import Blobs, Path
from .commit import DeadLetter, Output
from .envelope import RequestAnswer
from .events import id_of, place_of, suffix_of
from .parking import Parked, Ticket
from .plan import Target
from .records import Headers, Reentry
from .runs import RunRecord
from .transfers import Message, Misplaced

if TYPE_CHECKING:
    from .control import ControlEvent
    from .records import Records
    from .saving import Save
    from .soon import Shortly
    from .streaming import StreamPlace
    from .timers import Due, Stand
    from .tracing import Trace

Place = tuple[int, int]
"""(unit, replica): where a call goes."""
Item = tuple[int, int]
"""(slot, node): an event before a node; a negative node is an end, see `plan.COMPLETE`."""


class Flow:
    """Events in a serial region: of each run one at a time, depth first, the others behind it."""

    __slots__ = ("begun", "queues", "ready", "stacks")

    def __init__(self) -> None:
        self.queues: dict[RunRecord, deque[Item]] = {}
        """By run: (slot, node) of events that have not begun, in order."""
        self.stacks: dict[RunRecord, list[Item]] = {}
        """By run with a begun event: what is left of it, the next one last."""
        self.ready: dict[Place, list[Item]] = {}
        self.begun: set[int] = set()
        """Source's events of which something has entered a node (or end)."""


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, and by which event."""

    outcome: str
    result: str
    """JSON text of the result or reason."""
    root: int
    path: Path
    node: str = ""
    """By which; "": by none."""
    void: int = 0
    """Events of it that stood still, and are no more, as it was ended from outside."""


@dataclass(slots=True)
class Pending:
    """What will be committed of an epoch."""

    writes: dict[RunRecord, dict[int, Blobs]] = field(default_factory=dict)
    """States by run and unit, as of this epoch (the run itself may be further)."""
    shared: dict[RunRecord, bytes | None] = field(default_factory=dict)
    timers: dict[RunRecord, bytes | None] = field(default_factory=dict)
    """What nodes have set for these runs, and not taken back, as of this epoch."""
    stands: dict[RunRecord, Stand] = field(default_factory=dict)
    """Waits that these runs stand at, as of this epoch."""
    ended: dict[RunRecord, End] = field(default_factory=dict)
    erased: list[RunRecord] = field(default_factory=list)
    """Of their keys nothing is to be kept."""
    outputs: list[tuple[int, Path, RunRecord | None, Output]] = field(default_factory=list)
    sent: list[tuple[list[int], Path, list[RunRecord], list[Output]]] = field(default_factory=list)
    """More outputs, many at once: source's events, the path that they have in common, runs, outputs."""
    misplaced: list[Misplaced] = field(default_factory=list)
    """Records that other partitions are to process, in order."""
    dead: list[tuple[int, Path, DeadLetter]] = field(default_factory=list)
    undecoded: set[int] = field(default_factory=set)
    """Source's events that were no data of their type: one dead letter each, at however many nodes it showed."""
    replies: list[tuple[int, Path, str]] = field(default_factory=list)
    """What nodes have replied: source's event, branches from there, JSON text."""
    values: list[tuple[int, Path, RunRecord, str, str]] = field(default_factory=list)
    """What nodes have published: source's event, branches from there, run, name, JSON text."""
    written: list[tuple[int, StreamPlace]] = field(default_factory=list)
    """Where events have written into streams, by source's event."""
    void: list[StreamPlace] = field(default_factory=list)
    """Where they have, by attempts that came to nothing."""
    answers: list[tuple[int, tuple[str, str], RequestAnswer]] = field(default_factory=list)
    """To requests whose events were not in the epoch: source's event by which that came, id of the request and reply
    channel, answer."""
    messages: list[tuple[int, Message]] = field(default_factory=list)
    """What nodes have sent to runs, by source's event."""
    parked: dict[Ticket, Parked | None] = field(default_factory=dict)
    """What stands still from here on; None: no longer."""
    due: dict[Ticket, int | None] = field(default_factory=dict)
    """When those that are the first of their queues are to go on: milliseconds since 1970 UTC; None: not yet known."""


class Epoch:
    """Events by slot. The first `count` slots are the source's events, the others came from them."""

    def __init__(self, number: int, regions: int) -> None:  # noqa: PLR0915  a table of columns
        self.number = number
        self.began = 0
        """When it was offered: milliseconds since 1970 UTC."""
        self.records: list[Records] = []
        self.count = 0
        self.runs: list[RunRecord | None] = []
        """By slot; None: no event (its record was bad)."""
        self.types: list[int] = []
        self.blobs: list[bytes] = []
        self.roots: list[int] = []
        """By slot: the source's event it came from."""
        self.paths: dict[int, Path] = {}
        """By slot; absent: ()."""
        self.hops: dict[int, int] = {}
        self.data: list[object] | None = None
        """By source's event, where it is decoded here; else None."""
        self.origins: list[str] = []
        self.origin_of: list[int] = []
        self.offsets: list[int | str] = []
        self.times: list[int] = []
        self.headers: list[Headers] | None = None
        self.traces: dict[int, Trace] = {}
        """By source's event, of those that are traced; `headers` is there then."""
        self.replies: dict[int, tuple[str, str]] = {}
        """Id of the request and reply channel, by slot of the source's event."""
        self.stood: dict[int, Stand] = {}
        """By slot of a request's event: the wait that its run stood at when it was done, where it no longer does."""
        self.left: dict[int, Stand] = {}
        """By slot of the source's event: the wait from which it went on."""
        self.passed_over: set[int] = set()
        """Slots of events that stood still in the midst of a run, and were not processed, as it had ended before."""
        self.tickets: dict[Ticket, Parked] = {}
        """What stood still and goes on in this epoch."""
        self.standing: dict[int, Ticket] = {}
        """Those of them that have not entered their node, by slot."""
        self.roots_of: dict[int, Ticket] = {}
        """The same by slot of the source's event, and kept."""
        self.firings: dict[int, tuple[Due, int]] = {}
        """What fell due, and when it was to, by slot."""
        self.rang: dict[Due, int | None] = {}
        """Of that, what is done with; or when it is due again."""
        self.told_idle: set[RunRecord] = set()
        """Runs that an idle time-out of the epoch is for."""
        self.evicts = False
        """They don't: there is no room for them; see `evicting`."""
        self.stopped: dict[RunRecord, set[int]] = {}
        """Nodes at which events of a run have failed in this epoch and are to be tried again."""
        self.targets: list[tuple[int, int, str, tuple[Target, ...]]] = []
        """(first slot, end, source, where to) of each batch of records: entered when the runs are loaded."""
        self.missing: set[str] = set()
        self.entered = False
        self.load = [0] * max(1, regions)
        """By region: events waiting or being processed there."""
        self.waiting: dict[int, list[Item]] = {}
        """By region that has not begun: the events before it."""
        self.ready: dict[Place, list[Item]] = {}
        self.merged: set[int] = set()
        """Regions before which events have met that must be put in order."""
        self.flows: dict[int, Flow] = {}
        self.pending = Pending()
        self.touched: set[RunRecord] = set()
        self.finale: tuple[str, str] | None = None
        """Outcome and JSON text of the reason: ends the unkeyed run once it has entered."""
        self.waits = False
        """It enters once all that was offered before it is done."""
        self.control: list[ControlEvent] = []
        """What it does to runs from outside; then it has no events."""
        self.late = False
        """Runs of its events may have ended before it enters."""
        self.turned_away: set[int] = set()
        """Source's events that came too late, and don't begin another run."""
        self.dropped = 0
        """How many of them nobody wants."""
        self.counters: dict[str, int] = {}
        """More fields of the head that its commit sets."""
        self.soon: Shortly | None = None
        """What of it waits in memory; see `soon`."""
        self.save: Save | None = None
        """Its commit, once it is done."""
        self.cut: int | None = None
        """The unkeyed run ended with this slot: later ones are not processed, their positions stay."""

    @property
    def done(self) -> bool:
        """Every event has gone as far as it can."""
        return self.entered and not any(self.load)

    def path(self, slot: int) -> Path:
        """Branch numbers of the event in `slot`."""
        return self.paths.get(slot, ())

    def event_id(self, slot: int, suffix: Path = ()) -> str:
        """Identity of the event in `slot` (or of what came of it by `suffix`): see `Event.id`."""
        return self.id_of(self.roots[slot], self.paths.get(slot, ()) + suffix)

    def id_of(self, root: int, path: Path) -> str:
        """Identity of what came of the source's event `root` by `path`."""
        return id_of(self.origins[self.origin_of[root]], self.offsets[root], path)

    def ids_of(self, roots: Sequence[int], path: Path) -> list[str]:
        """Identities of what came of several of the source's events by one path: see `id_of`."""
        suffix, places = suffix_of(path), list(map(place_of, self.origins))
        origin_of, offsets = self.origin_of, self.offsets
        if len(places) == 1:
            place = places[0]
            return [f"{place}{offset}{suffix}" for offset in map(offsets.__getitem__, roots)]
        return [f"{places[origin_of[root]]}{offsets[root]}{suffix}" for root in roots]

    def derive(self, slot: int, suffix: Path, type: int, blob: bytes | None, hops: int) -> int:
        """A slot for what came of the event in `slot`; the same slot where it is the event itself."""
        if not suffix and blob is None:
            if hops:
                self.hops[slot] = hops
            return slot
        return self.put(slot, suffix, type, blob, hops)

    def put(self, slot: int, suffix: Path, type: int, blob: bytes | None, hops: int) -> int:
        """A slot of its own for what came of the event in `slot`; without a blob, for the event as it is."""
        new = len(self.runs)
        self.runs.append(self.runs[slot])
        self.types.append(type)
        self.blobs.append(self.blobs[slot] if blob is None else blob)
        self.roots.append(self.roots[slot])
        self.paths[new] = self.paths.get(slot, ()) + suffix
        if hops:
            self.hops[new] = hops
        return new

    def came(self, root: int) -> tuple[bytes | None, Headers, Reentry | None]:
        """Value and headers of a source's event as they came, before they were put into JSON; and where it entered."""
        first = 0
        for records in self.records:
            if root < first + len(records):
                came = records.original or records
                return came.values[root - first], came.headers[root - first] if came.headers else (), records.entry
            first += len(records)
        raise IndexError(f"the epoch has no event {root}")

    def source(self, root: int) -> str:
        """Name of the source of one of the source's events."""
        return next(source for first, end, source, _ in self.targets if first <= root < end)

    def order(self, item: Item) -> tuple[int, Path]:
        """Sort key of (slot, node): the source's order, then depth first."""
        slot = item[0]
        return self.roots[slot], self.paths.get(slot, ())
