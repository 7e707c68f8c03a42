"""Drives the core of one partition: pulls records, makes calls, loads, commits; takes the partition up and down."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from headrace.actors.bell import Bell
from headrace.actors.driver_counts import DriverCounts
from headrace.actors.falls import Falls
from headrace.actors.letter_keeping import LetterKeeping
from headrace.actors.outgoing import Outgoing
from headrace.actors.pulling import Pulling
from headrace.actors.shared import Shared
from headrace.actors.undertakings import Undertakings, until_available
from headrace.workflows.calls import CallResult
from headrace.workflows.commit import Answer
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.effects import point
from headrace.workflows.instructions import Load, Recall, Ring, Tell
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.store import PartitionTorn, StalePlacement, StoreUnavailable

log = structlog.get_logger(__name__)
_LOOK_AGAIN: Final = 2.0
"""Seconds between two looks at a torn partition: somebody may have repaired it."""


class PartitionDriver(DriverCounts):
    """One partition from its assignment to its release. Used from the worker's loop only."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.number = number
        self._shared = shared
        super().__init__(Pulling(number, shared, self.wake))
        self._outgoing: Outgoing | None = None
        self._term = self._placement = 0
        self._under_way = Undertakings(self._failed)
        self._draining = self._verifying = False
        self._unpacking = False
        """Records are on their way to the core, by way of a decoder."""
        self._idle = asyncio.Event()
        self._one_call = defaultdict[int, asyncio.Lock](asyncio.Lock)
        """By unit: of a call that was given up, the events may be in the next one, too."""
        self._closed_sources: set[int] = set()
        self.state = "acquiring"
        """`acquiring`, `owned`, `ended` (the unkeyed run has), `torn`, `failed`, `released`."""
        self.trouble: tuple[str, str] | None = None
        """Why it stands still: a stable word, and a sentence."""
        self.epochs = 0
        self._bell = Bell(number, shared, self._under_way, self.wake)
        self._falls = Falls(number, shared.store)
        self.letters = LetterKeeping(number, shared.store, shared.metrics.dropped)

    @property
    def standing(self) -> tuple[str, str] | None:
        """Why it stands still, or takes no new events."""
        if self.trouble is None and self._outgoing is not None and self._outgoing.trouble is not None:
            return "outbox_full", self._outgoing.trouble
        pauses = self._shared.plan.parked_full == "pause"
        if self.trouble is None and self._core is not None and pauses and self._core.parking_full:
            count = self._core.parked
            return "parked_full", f"{count} events stand still: no more are taken until some of them have gone on"
        return self.trouble

    async def acquire(self, term: int, placement: int) -> bool:
        """Become the owner, and begin where the store says.

        Returns:
            False if a newer placement has it, or it is torn.
        """
        self._term, self._placement = term, placement
        return await self._under_way.begin(self._acquire())

    async def _acquire(self) -> bool:
        shared, term, placement = self._shared, self._term, self._placement
        try:
            ask = partial(shared.store.acquire, self.number, term=term, placement=placement, worker=shared.worker)
            head = await until_available(ask, shared.on_problem)
        except StalePlacement as error:
            log.info("placement_stale", partition=self.number, reason=str(error))
            self.state = "released"
            return False
        except PartitionTorn as error:
            self._stand_still(str(error))
            return False
        self._falls.begin(head)
        self._one_call = defaultdict(asyncio.Lock)
        await until_available(partial(self.letters.begin, head.owner), shared.on_problem)
        core = self._core = PartitionCore(
            shared.plan, self.number, shared.partitions, head, shared.limits, shared.formats.packers, shared.tracer
        )
        self._outgoing = Outgoing(
            core, head, shared=shared, under_way=self._under_way, wake=self.wake, on_refused=self._found_out
        )
        await shared.feed.assign(self.number, dict(head.positions))
        core.closing.set(shared.closed.away, shared.closed.paused, shared.clock.now_ms())
        core.open(shared.clock.now_ms())
        self.state = "ended" if self._core.ended else "owned"
        log.info("partition_acquired", partition=self.number, sequence=head.sequence)
        self.wake()
        return True

    async def release(self) -> None:
        """Finish and commit what is in flight, let its outputs leave, and give the partition up."""
        self._draining = True
        self._idle.clear()
        self.wake()
        while self._core is not None and not (self._core.idle and self._outgoing and self._outgoing.settled):
            try:
                await asyncio.wait_for(self._idle.wait(), 0.05)
            except TimeoutError:
                continue
            self._idle.clear()
        if self._core is not None:
            await self._falls.released(self._core.owner)
        await self.drop()
        self.state = "released"

    async def drop(self) -> None:
        """Let go at once of everything held: another owner has it, or our history is no more."""
        core, self._core = self._core, None
        self._closed_sources.clear()
        self._unpacking = False
        self._pulling.drop()
        self._bell.stop()
        if core is not None:
            self._count(core)
            self._shared.nodes.drop(self.number, core.owner)
        if self._outgoing is not None:
            self._outgoing.drop()
            self._outgoing = None
        await self._shared.feed.revoke(self.number)
        self._under_way.cancel()
        self._idle.set()

    async def verify(self) -> None:
        """See whether the store still has our history: not every loss shows in a commit, and there may be none."""
        core = self._core
        if core is None or self._verifying:
            return
        self._verifying, sequence = True, core.builder.sequence if core.idle else None
        try:
            if self._outgoing is not None:
                await self._outgoing.trim()
            await self.letters.look(core.owner)
            await self._falls.look(core.owner)
            answer = await self._shared.store.check(self.number, core.owner, sequence)
        except StoreUnavailable:
            return  # whoever needs it next names it
        finally:
            self._verifying = False
        if core is not self._core or (sequence is not None and core.builder.sequence != sequence):
            return
        if answer is not Answer.APPLIED:
            await self._refused(answer)

    def wake(self) -> None:
        """Something may go on: look, once, at the loop's next turn."""
        self._shared.turns.ask(self._turn, first=self._pulling.urgent)

    def finished(self, result: CallResult) -> None:
        """A node's result has come."""
        if self._core is None:
            return
        try:
            self._shared.sizing.learn(result)
            self._shared.metrics.finished(result)
            self._core.finished(result, self._shared.clock.now_ms())
        except Exception as error:  # noqa: BLE001  whatever it is, the partition must not stand still unseen
            self._failed(error)
        self.wake()

    def source_closed(self, source: int) -> None:
        """A channel is closed and read to its end."""
        self._closed_sources.add(source)
        self.wake()

    def _turn(self) -> None:
        if self._core is None:
            return
        try:
            self._advance(self._core)
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error)

    def _advance(self, core: PartitionCore) -> None:
        """Do what the core asks for, and offer it records when it asks for nothing."""
        core.draining = self._draining
        core.closing.set(self._shared.closed.away, self._shared.closed.paused, self._shared.clock.now_ms())
        held = self._unpacking or self._pulling.held > 0 or not (self._outgoing and self._outgoing.takes_more)
        if core.control.wanted and not self._draining and (asked := self._shared.feed.pull_control(self.number)):
            core.control.offer(asked, self._shared.clock.now_ms())
        self._bell.look(core, held=held)
        instructions = core.instructions()
        for instruction in instructions:
            if isinstance(instruction, Load):
                self._under_way.spawn(self._load(core, instruction))
            elif isinstance(instruction, Recall):
                self._under_way.spawn(self._recall(core, instruction))
            elif isinstance(instruction, Ring):
                self._under_way.spawn(self._ring(core, instruction))
            elif isinstance(instruction, Save):
                self._under_way.spawn(self._save(core, instruction))
            elif isinstance(instruction, Tell):
                self._shared.tell(instruction)
            else:
                self._call(core, instruction)
        wanted = self._pulling.may_begin(core)
        if instructions or (wanted and not (self._draining or self._unpacking) and self._offer(core)):
            self.wake()
        elif core.idle:
            self._idle.set()

    def _offer(self, core: PartitionCore) -> bool:
        shared = self._shared
        outgoing = self._outgoing
        if outgoing is None or not outgoing.takes_sent:
            return False  # its outputs can't leave: no more until they do
        if not shared.nodes.connected:
            return False  # what is pulled would only wait for them
        batches = self._pulling.pull(core, only_sent=not outgoing.takes_more, draining=self._draining)
        if batches:
            self._begin(core, batches)
            return True
        if self._pulling.waits:
            return False  # what a batch node waits with comes before any end
        channels = {source.index for source in shared.plan.sources}
        all_closed = bool(channels) and self._closed_sources >= channels
        if all_closed and core.idle and not (shared.plan.keyed or core.ended or core.parked):
            core.end("source closed", "every source was closed", self._shared.clock.now_ms())
            return True
        return False

    def _begin(self, core: PartitionCore, batches: Sequence[Records]) -> None:
        shared = self._shared
        self._pulling.begun(batches)
        shared.activity.begin()
        point("after:pull")
        if shared.formats.may_wait(batches):
            self._unpacking = True
            self._under_way.spawn(self._unpack(core, batches))
        else:
            core.offer(shared.formats.unpack(batches), shared.clock.now_ms())

    async def _unpack(self, core: PartitionCore, batches: Sequence[Records]) -> None:
        """Offer records that a decoder has to read first, which may wait; nothing else is pulled meanwhile."""
        unpacked = await self._shared.formats.unpack_waiting(batches)
        if core is not self._core:
            return
        self._unpacking = False
        if not self._draining:  # else they are the next owner's: no position has moved
            core.offer(unpacked, self._shared.clock.now_ms())
        self.wake()

    def _call(self, core: PartitionCore, dispatch: Dispatch) -> None:
        self._falls.tell(dispatch.call)
        runner = self._shared.runners.get(dispatch.call.unit)
        if runner is None:
            self._shared.nodes.submit(dispatch)
        elif runner.is_async:
            self._under_way.spawn(self._run_async(core, runner, dispatch))
        else:
            self._take(core, runner.run(dispatch.call, dispatch.data))

    async def _run_async(self, core: PartitionCore, runner: UnitRunner, dispatch: Dispatch) -> None:
        async with self._one_call[dispatch.call.unit]:
            self._take(core, await runner.run_async(dispatch.call, dispatch.data))

    def _take(self, core: PartitionCore, result: CallResult) -> None:
        if core is self._core:
            self.finished(result)

    async def _load(self, core: PartitionCore, load: Load) -> None:
        ask = partial(self._shared.store.load, self.number, load.keys)
        asked = time.monotonic()
        found = await until_available(ask, self._shared.on_problem)
        self._shared.metrics.loaded(time.monotonic() - asked)
        point("after:load")
        if core is self._core:
            core.loaded(load.keys, found, self._shared.clock.now_ms())
            self.wake()

    async def _ring(self, core: PartitionCore, ring: Ring) -> None:
        ask = partial(self._shared.store.timers, self.number, ring.before, ring.limit)
        rows, following = await until_available(ask, self._shared.on_problem)
        if core is self._core:
            core.rang(rows, following, self._shared.clock.now_ms())
            self.wake()

    async def _recall(self, core: PartitionCore, recall: Recall) -> None:
        ask = partial(self._shared.store.parked, self.number, [ticket.field for ticket in recall.tickets])
        blobs = await until_available(ask, self._shared.on_problem)
        if core is not self._core:
            return
        if core.control.misses(recall.tickets, blobs):
            await self._refused(Answer.ROLLED_BACK)
            return
        core.recalled(recall.tickets, blobs, self._shared.clock.now_ms())
        self.wake()

    async def _save(self, core: PartitionCore, save: Save) -> None:
        self._shared.sizing.learn_commit(save)
        ask = partial(self._shared.store.commit, self.number, core.owner, save.commit)
        asked = time.monotonic()
        answer = await until_available(ask, self._shared.on_problem)
        self._shared.metrics.committed(
            save, answer, seconds=time.monotonic() - asked, since_pull=(self._shared.clock.now_ms() - save.began) / 1000
        )
        if core is not self._core:
            return
        if core.committed(answer, self._shared.clock.now_ms()):
            self.epochs += 1
            self._shared.activity.done()
            self._note_moved(core)
            self._pulling.committed(save.commit.positions)
            self._shared.feed.committed(self.number, save.commit.positions)
            if self._outgoing is not None:
                self._outgoing.saved(save)
            if core.ended and core.idle:
                self.state = "ended"
            self.wake()
        else:
            await self._refused(answer)

    def _note_moved(self, core: PartitionCore) -> None:
        for source in core.moved.keys() - self._shared.noted:
            self._shared.noted.add(source)
            log.info("events_sent_on", source=source, reason="their keys belong to other partitions than they lie in")

    def _found_out(self, answer: Answer) -> None:
        """The store says, without being asked for a commit, that the partition is not ours, or not what it was."""
        self._under_way.spawn(self._refused(answer))

    async def _refused(self, answer: Answer) -> None:
        log.warning("commit_refused", partition=self.number, answer=answer.value)
        if answer is Answer.TORN:
            await self.drop()
            await self._acquire()  # the answer to it says which commit, and why
        elif answer is Answer.FENCED:
            await self.drop()
            self._shared.on_lost(self, answer.value)
        else:  # the store has lost its tail: what we hold is of a history that is no more
            self.trouble = (
                "rolled_back",
                f"partition {self.number}: the store was restarted, or lost its last commits",
            )
            await self.drop()
            if await self._acquire():
                self.trouble = None
            elif self.state != "torn":
                self._shared.on_lost(self, answer.value)

    def _stand_still(self, sentence: str) -> None:
        if self.state != "torn":
            log.error("partition_torn", partition=self.number, reason=sentence)
            self.state = "torn"
            self._under_way.spawn(self._until_repaired())
        self.trouble = ("torn", sentence)

    async def _until_repaired(self) -> None:
        while not await self._acquire():
            if self.state != "torn":
                self._shared.on_lost(self, "stale placement")
                return
            await asyncio.sleep(_LOOK_AGAIN)
        self.trouble = None

    def _failed(self, error: BaseException) -> None:
        """A mistake of ours: another try, by whoever gets the partition next, begins at its last commit."""
        log.error("partition_failed", partition=self.number, exc_info=error)
        self._shared.on_problem("internal", f"partition {self.number}: {type(error).__name__}: {error}")
        if self.state != "failed":
            self.state = "failed"
            self._under_way.spawn(self._give_back())

    async def _give_back(self) -> None:
        try:
            await self.drop()
        finally:
            self._shared.on_lost(self, "internal")
