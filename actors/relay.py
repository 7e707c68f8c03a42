"""The relay of a worker: outputs leave for their sinks once they are durable, in order, each outlet by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import structlog

from headrace.actors.backlog import Backlog
from headrace.actors.lanes import Chunk, Lane, Origin, Stay
from headrace.sources.outlet import Outlet, Portion, Refused
from headrace.sources.problems import Problems
from headrace.sources.reader import OnProblem
from headrace.workflows.commit import Output
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable
from headrace.workflows.transfers import TRANSFER

log = structlog.get_logger(__name__)

ROUND: Final = 5_000
"""Outputs that go to an outlet together."""
TRANSACTION: Final = 50_000
"""The same in a transaction, which takes several answers of the broker whatever is in it: all that waits."""
ROUND_BYTES: Final = 8 << 20
"""The same, by the size of their data: a transaction has ten seconds."""
AT_ONCE: Final = 4
"""Partitions that a transactional outlet is given at a time: what waits meanwhile goes together later."""
_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0


class Relay:
    """Sends what partitions have committed; tells them what has left.

    An output goes from the outbox only after its sink has acknowledged it, so a crash in between sends it again,
    with the same id, unless the sink remembers it (`Outlet.begin`). An outlet that is blocked holds up no other one,
    only the trimming of the outboxes that have something for it.

    Args:
        outlets: Where outputs go.
        outlet_of: Index of the outlet of an output.
        on_problem: Told when outputs can't leave, and when they can again.
        on_room: Called when it is no longer `full`.
        on_delivered: Told how many outputs an outlet (by name) has taken.
        inner: Indexes of the outlets to other partitions. What waits for them must not keep those partitions from
            taking what was sent to them: see `shut`.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        outlet_of: Callable[[Output], int],
        on_problem: OnProblem,
        on_room: Callable[[], None],
        on_delivered: Callable[[str, int], None] | None = None,
        *,
        inner: Collection[int] = (),
    ) -> None:
        self._on_delivered = on_delivered
        self._outlet_of = outlet_of
        self._on_room = on_room
        self._stays: dict[int, Stay] = {}
        self._inner = frozenset(inner)
        self._outer_backlog, self._inner_backlog = Backlog(), Backlog()
        self._has_room = asyncio.Event()
        self._has_room.set()
        problems = Problems(on_problem)
        self._senders = [Sender(outlet, self, problems) for outlet in outlets]
        self.sent = 0

    async def open(self) -> None:
        """Begin to connect and to send."""
        for sender in self._senders:
            await sender.open()

    def stay(self, origin: Origin, last: int) -> None:
        """A partition was acquired, with an outbox whose last output has the sequence `last`."""
        self.drop(origin)
        self._stays[origin.number] = Stay(origin, last)

    def push(self, origin: Origin, first: int, outputs: Sequence[Output]) -> int:
        """These outputs of a partition are durable: send them. In order of their sequence.

        Returns:
            Bytes of their data.
        """
        stay = self._stays[origin.number]
        stay.pushed = first + len(outputs) - 1
        size = 0
        for index, chunk in self._by_outlet(first, outputs):
            lane = stay.lane(index)
            lane.push(chunk)
            self._senders[index].wake(lane)
            self._count(index, len(chunk.outputs), chunk.size)
            size += chunk.size
        return size

    def _by_outlet(self, first: int, outputs: Sequence[Output]) -> Iterator[tuple[int, Chunk]]:
        if len({output.sink for output in outputs}) == 1:  # the outputs of nearly all commits
            yield self._outlet_of(outputs[0]), Chunk.of(range(first, first + len(outputs)), outputs)
            return
        by_outlet: dict[int, tuple[list[int], list[Output]]] = {}
        for sequence, output in enumerate(outputs, first):
            sequences, own = by_outlet.setdefault(self._outlet_of(output), ([], []))
            sequences.append(sequence)
            own.append(output)
        for index, (sequences, own) in by_outlet.items():
            yield index, Chunk.of(sequences, own)

    @property
    def full(self) -> bool:
        """Too much waits here: no new events of sources, please."""
        return self.shut or self._inner_backlog.full

    @property
    def shut(self) -> bool:
        """Too much waits here for sinks: not even what other partitions have sent may be taken."""
        return self._outer_backlog.full

    def _count(self, outlet: int, outputs: int, size: int) -> None:
        was_full = self.full
        backlog = self._inner_backlog if outlet in self._inner else self._outer_backlog
        backlog.count(outputs, size)
        if self.shut:
            self._has_room.clear()
        else:
            self._has_room.set()
        if was_full and not self.full:
            self._on_room()

    async def room(self) -> None:
        """Wait until it is not `shut`."""
        await self._has_room.wait()

    def waiting_by_outlet(self) -> dict[str, int]:
        """Name of an outlet -> outputs that wait for it."""
        counts = dict.fromkeys((sender.name for sender in self._senders), 0)
        for stay in self._stays.values():
            for index, lane in stay.lanes.items():
                counts[self._senders[index].name] += lane.waiting
        return counts

    def waiting(self, partition: int, *, outer: bool = False) -> int:
        """Outputs of a partition that have not left; with `outer`, only those that are not for other partitions."""
        stay = self._stays.get(partition)
        return 0 if stay is None else stay.waiting(self._inner if outer else frozenset())

    def drop(self, origin: Origin) -> None:
        """The partition is another owner's now, and so is its outbox."""
        stay = self._stays.get(origin.number)
        if stay is None or stay.origin is not origin:
            return
        del self._stays[origin.number]
        stay.dropped = True
        for lane in stay.lanes.values():
            self.left(lane, stay.pushed)
            self._senders[lane.outlet].wake(lane)

    def left(self, lane: Lane, through: int) -> list[Chunk]:
        """Outputs of a lane up to a sequence have left, at whatever time. Returns those that waited here."""
        gone = lane.left(through)
        count, size = sum(len(chunk.outputs) for chunk in gone), sum(chunk.size for chunk in gone)
        self._count(lane.outlet, -count, -size)
        return gone

    def delivered(self, lane: Lane, through: int, outlet: str) -> None:
        """An outlet has just taken a lane's outputs up to a sequence."""
        gone = self.left(lane, through)
        count = sum(len(chunk.outputs) for chunk in gone)
        if gone and gone[0].outputs[0].sink != TRANSFER:  # they have an outlet of their own
            self.sent += count
        if self._on_delivered is not None:
            self._on_delivered(outlet, count)

    async def tell(self, stay: Stay) -> None:
        """Tell a partition how far all of its outlets are."""
        through = stay.through
        if stay.dropped or through <= stay.told:
            return
        stay.told = through
        try:
            await stay.origin.delivered(through)
        except StoreUnavailable as error:
            # They stay in the outbox: the next trim takes them along; after a crash they are sent again.
            log.warning("outbox_not_trimmed", partition=stay.origin.number, reason=str(error))
        except Exception:  # what one partition meets must not end the relay of all
            log.exception("outbox_not_trimmed", partition=stay.origin.number)

    async def close(self) -> None:
        """Stop sending; what has not left stays in the outboxes."""
        for sender in self._senders:
            await sender.close()


class Sender:
    """Gives one outlet what waits for it: all partitions together, or one by one if it is transactional.

    Args:
        outlet: Where it goes.
        relay: Told what has left.
        problems: Told what keeps it from leaving.
    """

    def __init__(self, outlet: Outlet, relay: Relay, problems: Problems) -> None:
        self._outlet = outlet
        self.name = outlet.name
        self._relay = relay
        self._problems = problems
        self._ready: dict[Lane, None] = {}
        """Lanes with something to do, longest waiting first."""
        self._under_way: set[int] = set()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin."""
        await self._outlet.open()
        count = AT_ONCE if self._outlet.transactional else 1
        self._tasks = [asyncio.create_task(self._serve(), name=f"relay {self._outlet.name}") for _ in range(count)]

    def wake(self, lane: Lane) -> None:
        """A lane has something to send, or was dropped."""
        self._ready[lane] = None
        self._changed.set()

    async def close(self) -> None:
        """Stop and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._outlet.close()

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            lanes = self._take()
            if not lanes:
                await self._changed.wait()
                continue
            try:
                await self._round(lanes)
            except Exception:  # a relay that ends would stop all partitions without a word
                log.exception("relay_failed", outlet=self._outlet.name)
            finally:
                for lane in lanes:
                    self._under_way.discard(lane.stay.origin.number)
                    if lane.first is not None:
                        self._ready[lane] = None
                self._changed.set()

    def _take(self) -> list[Lane]:
        """Lanes of the next round; no partition is in two rounds at a time."""
        taken: list[Lane] = []
        for lane in self._ready:
            number = lane.stay.origin.number
            if number not in self._under_way:
                taken.append(lane)
                self._under_way.add(number)
                if self._outlet.transactional:
                    break
        for lane in taken:
            del self._ready[lane]
        return taken

    async def _round(self, lanes: list[Lane]) -> None:
        """Send what waits in these lanes, until it has left or they are dropped."""
        most = TRANSACTION if self._outlet.transactional else ROUND
        limit, size = max(1, most // len(lanes)), ROUND_BYTES // len(lanes)
        wait = _WAIT
        portions: dict[Lane, Portion] = {}
        while lanes := await self._still_ours(lanes):
            try:
                await self._begin(lanes)
                ready = [lane for lane in lanes if lane.begun and lane.first is not None]
                portions = {lane: portions.get(lane) or lane.portion(limit, size) for lane in ready}
                if not portions:
                    break
                refused = await self._outlet.send({lane.stay.origin.number: row for lane, row in portions.items()})
            except Exception as error:  # noqa: BLE001  whatever it raises, the outputs are kept and sent again
                self._blocked(error, portions)
                portions = {}
                limit, size = max(1, limit // 2), max(1, size // 2)  # it may have been too much for the time it has
                for lane in lanes:
                    lane.begun = False
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            self._problems.solved("relay_blocked", self._outlet.name)
            portions = await self._without(portions, refused)
            if not refused or not self._outlet.transactional:
                break
        for lane, portion in portions.items():
            if not lane.stay.dropped:
                self._relay.delivered(lane, portion.through, self.name)
        for lane in lanes:
            await self._relay.tell(lane.stay)

    async def _still_ours(self, lanes: list[Lane]) -> list[Lane]:
        """Those whose partition this worker still has; the others are forgotten."""
        kept = []
        for lane in lanes:
            if lane.stay.dropped:
                self._ready.pop(lane, None)
                await self._outlet.drop(lane.stay.origin.number)
            else:
                kept.append(lane)
        return kept

    async def _begin(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            if lane.begun or lane.first is None:
                continue
            stay = lane.stay
            if self._outlet.transactional and not await stay.origin.confirm():
                # Beginning would shut out the rightful owner. Our own stay ends in a moment.
                raise HeadraceError(f"partition {stay.origin.number} has another owner")
            done = await self._outlet.begin(stay.origin.number, stay.last)
            lane.begun = True
            if not stay.dropped:
                self._relay.left(lane, done)

    def _blocked(self, error: Exception, portions: dict[Lane, Portion]) -> None:
        if not isinstance(error, HeadraceError):
            log.error("outlet_failed", outlet=self._outlet.name, exc_info=error)
        count = sum(len(portion.outputs) for portion in portions.values())
        sentence = f"{count or 'Some'} outputs wait for {self._outlet.name}: {error!s}"
        if self._problems.tell("relay_blocked", self._outlet.name, sentence):
            log.warning("relay_blocked", outlet=self._outlet.name, reason=str(error))

    async def _without(self, portions: dict[Lane, Portion], refused: Sequence[Refused]) -> dict[Lane, Portion]:
        """Portions without what was refused, once its dead letters are committed."""
        if not refused:
            return portions
        rows = {id(row.output): row for row in refused}
        kept: dict[Lane, Portion] = {}
        for lane, portion in portions.items():
            own = [(lane.sequence_of(output), rows[id(output)]) for output in portion.outputs if id(output) in rows]
            if own and not await lane.stay.origin.refused(own, self._outlet.name):
                continue
            outputs = [output for output in portion.outputs if id(output) not in rows]
            kept[lane] = Portion(outputs, portion.through, portion.owner)
        return kept
