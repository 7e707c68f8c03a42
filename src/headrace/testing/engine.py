"""Drives the cores of all partitions in one process, step by step, against a store in memory.

It does what the worker does, in the same order, and can be stopped dead between any two of its steps.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace.sources.formats import unpackers_of
from headrace.sources.own_formats import Opened
from headrace.sources.packing import packers_of
from headrace.sources.unpacking import DecoderUnpacker
from headrace.testing.clockwork import Clockwork
from headrace.testing.deadlines import LateProgress
from headrace.testing.inputs import Inputs
from headrace.testing.problems import HarnessError
from headrace.testing.streams import StreamsInMemory
from headrace.testing.writing import KeepingPacker, ready_or
from headrace.workflows import parking, reentry, transfers
from headrace.workflows.actions import Reject
from headrace.workflows.commit import Answer, DeadLetter, Output
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.effects import STEPS, CrashPlan, Effect
from headrace.workflows.epoch import Place
from headrace.workflows.instructions import Instruction, Limits, Load, Recall, Ring, Tell
from headrace.workflows.letters import of_refused
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.parking import Parked
from headrace.workflows.partition import PartitionCore
from headrace.workflows.plan import Plan, SourcePlan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.settings import NO_SETTINGS, Settings
from headrace.workflows.store import Sender
from headrace.workflows.transfers import LINK, TRANSFER, unwrapped

CRASH_POINTS: Final = STEPS + tuple(
    f"{when}:{effect.value}"
    for effect in (Effect.ACQUIRE, Effect.COMMIT, Effect.RELAY_SEND, Effect.INTERNAL_APPEND, Effect.OUTBOX_TRIM)
    for when in ("before", "after")
)
"""Points at which the harness can be stopped: those of `headrace.workflows.effects` that one process has."""
LIMITS: Final = Limits(soon=0)
"""What is tried again stands still at once, as it does when no backlog is worked off: a test sees where it is."""
EPOCH: Final = 1000
"""Events of one source that make an epoch at most."""

Deliver = Callable[[Output], None]
"""Takes one output to its sink; raises `Reject` when the sink will never take it."""


class Crash(BaseException):
    """The process is gone: everything in memory is dropped."""


@dataclass(slots=True)
class _Tenure:
    """One partition from its acquisition on: all of it is lost in a crash."""

    core: PartitionCore
    positions: dict[str, str]
    """Read so far, by origin."""
    outgoing: deque[tuple[int, list[Output]]] = field(default_factory=deque)
    """Committed outputs that have not left: sequence of the first, and the outputs."""


class Engine:
    """One process that owns all partitions of a workflow.

    Args:
        plan: What to run.
        partitions: Shares of its key space.
        now: Milliseconds since 1970 UTC at which it begins.
        deliver: Takes outputs to their sinks.
        settings: What nodes see as `ctx.settings`.
        store: What another engine has left; by default an empty one.
    """

    def __init__(
        self,
        plan: Plan,
        partitions: int,
        now: int,
        deliver: Deliver,
        settings: Settings = NO_SETTINGS,
        store: MemoryStore | None = None,
    ) -> None:
        self.plan = plan
        self._settings = settings
        self.partitions = partitions
        channels = {source.name: source.source.capacity for source in plan.sources if source.source.kind == "channel"}
        self.store = store or MemoryStore(workflow=plan.name, channels=channels, retention=plan.letters_kept)
        self.now = now
        self.inputs = Inputs(plan, partitions, self.store)
        self._clockwork = Clockwork(plan, partitions, self.inputs, now)
        self.closed: set[int] = set()
        """Indexes of sources that were closed."""
        self.crashes = 0
        self.paused: set[str] = set()
        """Names of nodes that a person has paused."""
        self.away: set[Place] = set()
        """Replicas that have not answered for longer than an epoch waits."""
        self.packers = {index: KeepingPacker(packer) for index, packer in packers_of(plan).items()}
        self._unpackers = unpackers_of(plan)
        for index, unpacker in self._unpackers.items():
            if isinstance(unpacker, DecoderUnpacker):
                unpacker.decode = ready_or(unpacker.decode, plan.types[plan.sources[index].type].codec)
        self._deliver = deliver
        self._crash: CrashPlan | None = None
        self._tenures: dict[int, _Tenure] = {}
        self._runners: dict[tuple[int, int], UnitRunner] = {}

    @property
    def now(self) -> int:
        """The virtual time, and the store's: milliseconds since 1970 UTC."""
        return self.store.now

    @now.setter
    def now(self, now: int) -> None:
        self.store.now = now

    def crash_at(self, point: str) -> None:
        """Stop dead when that point is passed the next time (or as often as it says)."""
        name = point.rpartition(":")[0] if point.rpartition(":")[2].isdecimal() else point
        if name not in CRASH_POINTS:
            raise HarnessError(f"there is no crash point {point!r} here. There are: {', '.join(CRASH_POINTS)}")
        self._crash = CrashPlan(point, crash=_crash)

    async def open(self) -> None:
        """Open all nodes (user code)."""
        for unit in self.plan.units:
            for replica in range(unit.replicas):
                await self._start(unit.index, replica)
        for opened in self._opened():
            await opened.open()
        if self.plan.timeouts and not self.plan.keyed:
            await self.settle()  # its run begins now, before its first event

    async def close(self) -> None:
        """Close all nodes, the last opened first."""
        while self._runners:
            _, runner = self._runners.popitem()
            await runner.close()
        for opened in self._opened():
            await opened.close()

    def _opened(self) -> list[Opened]:
        encoders = [packer.encoder for packer in self.packers.values() if packer.encoder is not None]
        return [*self._unpackers.values(), *encoders]

    async def advance(self, milliseconds: int) -> None:
        """Let time pass from one thing that falls due to the next, each processed in its own moment."""
        target = self.now + milliseconds
        while (due := self._next_due()) is not None and due <= target:
            self.now = max(self.now, due)
            self.closed |= self._clockwork.strike(self.now)
            await self.settle()
        self.now = target
        for number, tenure in self._tenures.items():
            self.store.trim_letters(number, tenure.core.owner)
        await self.settle()

    def _next_due(self) -> int | None:
        """When the next occurrence of a schedule, attempt at an event, or timer is due."""
        cores = [tenure.core for tenure in self._tenures.values()]
        times = [self._clockwork.next(), *(core.wakes_at for core in cores), *(core.timers_at for core in cores)]
        return min((time for time in times if time is not None), default=None)

    async def outage(self, milliseconds: int) -> None:
        """Die, and come back so much later."""
        self._forget()
        self.now += milliseconds
        self.closed |= self._clockwork.strike(self.now)
        await self.settle()

    def _forget(self) -> None:
        self.crashes += 1
        self._tenures.clear()
        self._runners.clear()

    async def settle(self) -> None:
        """Process, commit and deliver until nothing is left to do."""
        self.store.expire(self.now)
        while True:
            try:
                while [number for number in range(self.partitions) if await self._turn(number)]:
                    pass
            except Crash:
                self._forget()
            else:
                return

    def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Send dead letters back to where they stopped; all, if none is named."""
        count = 0
        for number in range(self.partitions):
            meant = [
                (entry, transfers.encode(reentry.back(letter, number)))
                for entry, letter in self.store.dead_entries(number)
                if reentry.can_go_back(letter) and (not letters or any(letter is one for one in letters))
            ]
            count += self.store.replay(number, meant, most=sys.maxsize)
        return count

    def replicas(self, node: str) -> set[Place]:
        """Those of the unit that a node is in."""
        unit = self.plan.unit_of[next(row.index for row in self.plan.nodes if row.name == node)]
        return {(unit, replica) for replica in range(self.plan.units[unit].replicas)}

    def parked(self) -> list[Parked]:
        """Events that stand still, those of a partition in the order of their tickets."""
        found: list[Parked] = []
        for number in range(self.partitions):
            fields = sorted(self.store.parked_fields(number), key=parking.ticket_of)
            found += [parking.decode(blob) for blob in self.store.parked(number, fields) if blob is not None]
        return found

    def remainder(self, source: SourcePlan, partition: int) -> list[bytes | None]:
        """Data (JSON) of what lies in a source and is not processed."""
        left = self.inputs.remainder(source, partition, self.store.head(partition).positions)
        return [value for records in left for value in self._unpacked(records).values]

    def _point(self, name: str) -> None:
        if self._crash is not None:
            self._crash.passed(name)

    async def _start(self, unit: int, replica: int) -> UnitRunner:
        runner = self._runners[unit, replica] = UnitRunner(
            self.plan, unit, settings=self._settings, progress=LateProgress(), streams=StreamsInMemory(self.store)
        )
        await runner.open()
        return runner

    def _acquire(self, number: int) -> _Tenure:
        self._point("before:acquire")
        head = self.store.acquire(number, term=1, placement=1, worker="harness")
        self._point("after:acquire")
        self.store.trim_letters(number, head.owner)
        core = PartitionCore(self.plan, number, self.partitions, head, LIMITS, packers=self.packers)
        core.closing.set(self.away, self.paused, self.now)
        tenure = self._tenures[number] = _Tenure(core, dict(head.positions))
        tenure.outgoing.extend(self.store.outbox(number, 0, head.outbox + 1))
        core.open(self.now)
        return tenure

    async def _turn(self, number: int) -> bool:
        """Do what can be done for one partition now; False when there is nothing."""
        tenure = self._tenures.get(number) or self._acquire(number)
        tenure.core.closing.set(self.away, self.paused, self.now)
        if (due := tenure.core.wakes_at) is not None and due <= self.now:
            tenure.core.advance(self.now)
        instructions = tenure.core.instructions()
        for instruction in instructions:
            await self._do(number, tenure, instruction)
        return (
            bool(instructions)
            or self._control(number, tenure)
            or self._offer(number, tenure)
            or self._ring(tenure)
            or self._relay(number, tenure)
        )

    def _ring(self, tenure: _Tenure) -> bool:
        """What is due comes behind all that sources have."""
        due = tenure.core.timers_at
        if due is None or due > self.now:
            return False
        tenure.core.ring(self.now)
        return True

    async def _do(self, number: int, tenure: _Tenure, instruction: Instruction) -> None:
        core = tenure.core
        if isinstance(instruction, Load):
            found = self.store.load(number, instruction.keys)
            self._point("after:load")
            core.loaded(instruction.keys, found, self.now)
        elif isinstance(instruction, Recall):
            core.recalled(
                instruction.tickets, self.store.parked(number, [row.field for row in instruction.tickets]), self.now
            )
        elif isinstance(instruction, Ring):
            core.rang(*self.store.timers(number, instruction.before, instruction.limit), self.now)
        elif isinstance(instruction, Save):
            self._save(number, tenure, instruction)
        elif isinstance(instruction, Tell):
            for (unit, _), runner in self._runners.items():
                if unit in instruction.units:
                    runner.hasten(instruction.hasten)
        else:
            await self._call(core, instruction)

    async def _call(self, core: PartitionCore, dispatch: Dispatch) -> None:
        call = dispatch.call
        runner = self._runners.get((call.unit, call.replica)) or await self._start(call.unit, call.replica)
        self._point("before:call")
        if runner.is_async:
            result = await runner.run_async(call, dispatch.data)
        else:
            result = runner.run(call, dispatch.data)
        self._point("after:call")
        core.finished(result, self.now)

    def _save(self, number: int, tenure: _Tenure, save: Save) -> None:
        self._point("before:commit")
        answer = self.store.commit(number, tenure.core.owner, save.commit)
        self._point("after:commit")
        if tenure.core.committed(answer, self.now):
            if save.commit.outputs:
                tenure.outgoing.append((save.first_output, save.commit.outputs))
        elif answer is Answer.TORN:
            raise HarnessError(f"partition {number} is torn: a commit was applied in part only")
        else:
            del self._tenures[number]

    def _offer(self, number: int, tenure: _Tenure) -> bool:
        core = tenure.core
        if not core.wants_records:
            return False
        batches = self.inputs.pull(number, tenure.positions, EPOCH)
        if batches:
            self._point("after:pull")
            core.offer([self._unpacked(records) for records in batches], self.now)
            return True
        sources = len(self.plan.sources)
        if not self.plan.keyed and sources and len(self.closed) == sources and core.idle and not core.parked:
            core.end("source closed", "every source was closed", self.now)
            return True
        return False

    def _control(self, number: int, tenure: _Tenure) -> bool:
        """What is asked of runs from outside goes before all that waits."""
        asked = self.inputs.pull_control(number, tenure.positions) if tenure.core.control.wanted else []
        if asked:
            tenure.core.control.offer(asked, self.now)
        return bool(asked)

    def _unpacked(self, records: Records) -> Records:
        unpacker = self._unpackers.get(records.source)
        return records if unpacker is None else unpacker.unpack(records)

    def _relay(self, number: int, tenure: _Tenure) -> bool:
        """Let the oldest outputs leave, then forget them: a crash in between sends them again."""
        if not tenure.outgoing:
            return False
        first, outputs = tenure.outgoing[0]
        self._point("before:relay-send")
        refused = [letter for output in outputs if (letter := self._send(number, output)) is not None]
        self._point("after:relay-send")
        tenure.outgoing.popleft()
        if refused:
            tenure.core.bury(refused, {}, self.now)
        self._point("before:outbox-trim")
        self.store.trim_outbox(number, tenure.core.owner, first + len(outputs) - 1)
        self._point("after:outbox-trim")
        return True

    def _send(self, number: int, output: Output) -> DeadLetter | None:
        if output.sink == TRANSFER:
            self._hand_over(number, output)
            return None
        if self.plan.sinks[output.sink].sink.kind == LINK:
            output = unwrapped(output)
        try:
            self._deliver(output)
        except Reject as refusal:
            return of_refused(self.plan, output, refusal.reason, self.now)
        return None

    def _hand_over(self, number: int, output: Output) -> None:
        event = transfers.wrapped(output)
        transfer = transfers.decode(event)
        sender = Sender(str(number), self.plan.name, number, self._tenures[number].core.owner, 0)
        self._point("before:internal-append")
        self.store.append_internal(transfer.partition, sender, transfer.number, [event], known=True, most=sys.maxsize)
        self._point("after:internal-append")


def _crash() -> None:
    raise Crash
