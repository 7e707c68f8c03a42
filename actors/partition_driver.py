"""Drives the core of one partition: pulls records, makes calls, loads, commits; takes the partition up and down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import structlog

from headrace.actors.node_calls import NodeCalls
from headrace.actors.relay import Refused, Relay
from headrace.actors.sizing import Sizing
from headrace.sources.reader import OnProblem
from headrace.workflows.calls import CallResult
from headrace.workflows.commit import Answer, DeadLetter
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.effects import point
from headrace.workflows.partition import Limits, Load, PartitionCore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.store import PartitionTorn, StalePlacement, StoreContract, StoreUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0
_OUTBOX_AT_ONCE: Final = 5_000


class Feed(Protocol):
    """All readers of a worker, as one."""

    async def assign(self, partition: int, positions: dict[str, str]) -> None:
        """Read on from these positions."""

    async def revoke(self, partition: int) -> None:
        """Read no longer."""

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all partitions of a worker use together."""

    plan: Plan
    partitions: int
    worker: str
    store: StoreContract
    feed: Feed
    nodes: NodeCalls
    relay: Relay
    runners: dict[int, UnitRunner]
    """Units inside the worker."""
    sizing: Sizing
    limits: Limits
    on_problem: OnProblem
    on_lost: Callable[[int, str], None]
    """The partition was dropped: number and reason."""


class PartitionDriver:
    """One partition from its assignment to its release. Used from the worker's loop only."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.number = number
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._core: PartitionCore | None = None
        self._term = self._placement = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scheduled = False
        self._draining = False
        self._idle = asyncio.Event()
        self._closed_sources: set[int] = set()
        self.state = "acquiring"
        """`acquiring`, `owned`, `ended` (the unkeyed run has), `torn`, `released`."""
        self.outputs = 0
        self.epochs = 0
        self._events_before = self._dead_before = 0

    @property
    def events(self) -> int:
        """Events committed since this worker has the partition."""
        return self._events_before + (self._core.events_done if self._core else 0)

    @property
    def dead(self) -> int:
        """Dead letters since this worker has the partition."""
        return self._dead_before + (self._core.dead_count if self._core else 0)

    async def acquire(self, term: int, placement: int) -> bool:
        """Become the owner, and begin where the store says.

        Returns:
            False if a newer placement has it, or it is torn.
        """
        self._term, self._placement = term, placement
        shared = self._shared
        try:
            head = await self._until_available(
                lambda: shared.store.acquire(self.number, term=term, placement=placement, worker=shared.worker)
            )
        except StalePlacement as error:
            log.info("placement_stale", partition=self.number, reason=str(error))
            return False
        except PartitionTorn as error:
            self._torn(str(error))
            return False
        self._core = PartitionCore(shared.plan, self.number, shared.partitions, head, shared.limits)
        await self._resend_outbox()
        await shared.feed.assign(self.number, dict(head.positions))
        self.state = "ended" if self._core.ended else "owned"
        log.info("partition_acquired", partition=self.number, sequence=head.sequence)
        self.wake()
        return True

    async def release(self) -> None:
        """Finish and commit what is in flight, let its outputs leave, and give the partition up."""
        self._draining = True
        self._idle.clear()
        self.wake()
        while self._core is not None and not (self._core.idle and not self._shared.relay.waiting(self.number)):
            try:
                await asyncio.wait_for(self._idle.wait(), 0.05)
            except TimeoutError:
                continue
            self._idle.clear()
        await self.drop()
        self.state = "released"

    async def drop(self) -> None:
        """Let go at once of everything held: another owner has it, or our history is no more."""
        core, self._core = self._core, None
        if core is not None:
            self._events_before += core.events_done
            self._dead_before += core.dead_count
            self._shared.nodes.drop(self.number, core.owner)
        self._shared.relay.drop(self)
        await self._shared.feed.revoke(self.number)
        for task in [task for task in self._tasks if task is not asyncio.current_task()]:
            task.cancel()
        self._idle.set()

    def wake(self) -> None:
        """Something may go on: look, once, at the loop's next turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def finished(self, result: CallResult) -> None:
        """A node's result has come."""
        if self._core is not None:
            self._shared.sizing.learn(result)
            self._core.finished(result, now_ms())
            self.wake()

    def source_closed(self, source: int) -> None:
        """A channel is closed and read to its end."""
        self._closed_sources.add(source)
        self.wake()

    async def delivered(self, through: int, refused: Sequence[Refused]) -> None:
        """Outputs have left (see `relay.Origin`)."""
        core = self._core
        if core is None:
            return
        self.outputs += 1
        if refused:
            core.bury([_letter(core, row) for row in refused], now_ms())
        await self._shared.store.trim_outbox(self.number, core.owner, through)
        self.wake()

    def _turn(self) -> None:
        """Do what the core asks for, and offer it records when it asks for nothing."""
        self._scheduled = False
        core = self._core
        if core is None:
            return
        instructions = core.instructions()
        for instruction in instructions:
            if isinstance(instruction, Load):
                self._spawn(self._load(core, instruction))
            elif isinstance(instruction, Save):
                self._spawn(self._save(core, instruction))
            else:
                self._call(core, instruction)
        if instructions or (core.wants_records and not self._draining and self._offer(core)):
            self.wake()
        elif core.idle:
            self._idle.set()

    def _offer(self, core: PartitionCore) -> bool:
        shared = self._shared
        if shared.relay.full(self.number):
            return False  # its outputs can't leave: no more until they do
        batches = shared.feed.pull(self.number, shared.sizing.limit)
        if batches:
            point("after:pull")
            core.offer(batches, now_ms())
            return True
        channels = {source.index for source in shared.plan.sources}
        if not shared.plan.keyed and channels and self._closed_sources >= channels and core.idle and not core.ended:
            core.end("source closed", "every source was closed", now_ms())
            return True
        return False

    def _call(self, core: PartitionCore, dispatch: Dispatch) -> None:
        runner = self._shared.runners.get(dispatch.call.unit)
        if runner is None:
            self._shared.nodes.submit(dispatch)
        elif runner.is_async:
            self._spawn(self._run_async(core, runner, dispatch))
        else:
            self._take(core, runner.run(dispatch.call, dispatch.data))

    async def _run_async(self, core: PartitionCore, runner: UnitRunner, dispatch: Dispatch) -> None:
        self._take(core, await runner.run_async(dispatch.call, dispatch.data))

    def _take(self, core: PartitionCore, result: CallResult) -> None:
        if core is self._core:
            self.finished(result)

    async def _load(self, core: PartitionCore, load: Load) -> None:
        found = await self._until_available(lambda: self._shared.store.load(self.number, load.keys))
        point("after:load")
        if core is self._core:
            core.loaded(load.keys, found, now_ms())
            self.wake()

    async def _save(self, core: PartitionCore, save: Save) -> None:
        answer = await self._until_available(lambda: self._shared.store.commit(self.number, core.owner, save.commit))
        if core is not self._core:
            return
        if core.committed(answer, now_ms()):
            self.epochs += 1
            if save.commit.outputs:
                self._shared.relay.push(self, save.first_output, save.commit.outputs)
            if core.ended and core.idle:
                self.state = "ended"
            self.wake()
        else:
            await self._refused(answer)

    async def _refused(self, answer: Answer) -> None:
        log.warning("commit_refused", partition=self.number, answer=answer.value)
        if answer is Answer.TORN:
            self._torn(f"partition {self.number}: a commit was applied in part only")
            await self.drop()
        elif answer is Answer.FENCED:
            await self.drop()
            self._shared.on_lost(self.number, answer.value)
        else:  # the store has lost its tail: what we hold is of a history that is no more
            self._shared.on_problem("rolled_back", f"partition {self.number}: the store lost its last commits")
            await self.drop()
            if await self.acquire(self._term, self._placement):
                self._shared.on_problem("rolled_back", "")
            else:
                self._shared.on_lost(self.number, answer.value)

    def _torn(self, sentence: str) -> None:
        self.state = "torn"
        self._shared.on_problem("torn", sentence)

    async def _resend_outbox(self) -> None:
        """What an owner before us committed and may not have sent, goes first."""
        after = 0
        while True:
            position = after
            chunks = await self._until_available(
                lambda: self._shared.store.outbox(self.number, position, _OUTBOX_AT_ONCE)
            )
            for first, outputs in chunks:
                self._shared.relay.push(self, first, outputs)
                after = first + len(outputs) - 1
            if sum(len(outputs) for _, outputs in chunks) < _OUTBOX_AT_ONCE:
                return

    async def _until_available(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store until it answers; name the trouble meanwhile."""
        wait = _WAIT
        while True:
            try:
                answer = await ask()
            except StoreUnavailable as error:
                self._shared.on_problem("store_unreachable", str(error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                if wait != _WAIT:
                    self._shared.on_problem("store_unreachable", "")
                return answer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("partition_failed", partition=self.number, exc_info=error)
            self._shared.on_problem("internal", f"partition {self.number}: {type(error).__name__}: {error}")
            self._shared.on_lost(self.number, "internal")


def _letter(core: PartitionCore, row: Refused) -> DeadLetter:
    output = row.output
    return DeadLetter(
        id=output.id, key=output.key, source=core.plan.sinks[output.sink].name, node=None, reason="sink",
        error=row.error, time=now_ms(), data=output.data,
    )  # fmt: skip


def now_ms() -> int:
    """Milliseconds since 1970 UTC by this host's clock."""
    return time.time_ns() // 1_000_000
