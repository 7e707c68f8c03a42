"""Several partitions, records that arrive anywhere, and a hostile world.

Owners crash and linger on, what is sent is repeated, answers are lost, the store goes back to what it was.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from driving import NOW, answers_in, run_call
from headrace.workflows import reentry, transfers
from headrace.workflows.commit import Answer, DeadLetter, Output
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.instructions import Limits, Load
from headrace.workflows.keyspace import partition_of
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.store import Sender, SenderLost, StoreFull, TransfersMissing
from headrace.workflows.transfers import TRANSFER
from model import Expected, Graph

Place: TypeAlias = tuple[int, int]
"""(source, topic partition)."""


@dataclass(eq=False)
class Owner:
    """One tenure of one partition: all of it is lost in a crash."""

    number: int
    core: PartitionCore
    read: dict[str, int | str]
    """Position after what was offered, by origin."""
    outgoing: deque[tuple[int, list[Output]]]
    """Committed outputs that have not left: sequence of the first, and the outputs."""
    runners: dict[tuple[int, int], UnitRunner] = field(default_factory=dict)
    todo: list[Any] = field(default_factory=list)
    sent: bool = False
    """The oldest of them have left, and are still to be forgotten."""


class SpreadWorld:
    """Partitions of one keyed workflow, over logs in which a key's records lie in any one place.

    Args:
        graph: What to run.
        logs: Values by the place that they lie in; topic partitions may be more or fewer than partitions.
        partitions: How many.
        draw: Decides what happens next.
        faults: Let crashes, lost answers, lingering owners and roll-backs happen.
    """

    def __init__(
        self, graph: Graph, logs: dict[Place, list[bytes | None]], partitions: int, draw: random.Random, *, faults: bool
    ) -> None:
        self.graph = replace(graph, plan=replace(graph.plan, partitions=partitions))
        self.logs = logs
        self.partitions = partitions
        self.draw = draw
        self.faults = faults
        self.mischief = 8
        """Faults that are still to come."""
        self.store = MemoryStore(workflow=graph.plan.name)
        self.sent: dict[str, Output] = {}
        """What has arrived at the sinks, by id."""
        self.kept: MemoryStore | None = None
        self.ghosts: list[Owner] = []
        """Owners that were replaced and don't know it: their relays go on."""
        self.owners = [self.acquire(number) for number in range(partitions)]

    def acquire(self, number: int) -> Owner:
        """A new owner begins where the store says."""
        head = self.store.acquire(number, term=1, placement=1, worker="w")
        limits = Limits(epochs_in_flight=self.draw.randint(1, 4), held_runs=self.draw.choice([2, 1000]))
        core = PartitionCore(self.graph.plan, number, self.partitions, head, limits)
        outgoing = deque(self.store.outbox(number, 0, 1_000_000))
        return Owner(number, core, dict(head.positions), outgoing)

    def run(self, steps: int = 200_000) -> None:
        """Until nothing is left to do, anywhere."""
        for _ in range(steps):
            if self.faults and self.mischief and self.draw.random() < 0.02:
                self.mischief -= 1
                self.draw.choice([self.crash, self.replace_owner, self.remember, self.roll_back])()
            busy = [owner for owner in self.owners if self.can_go_on(owner)]
            if not busy:
                return
            self.step(self.draw.choice(busy))
            if self.ghosts and self.draw.random() < 0.1:
                self.haunt(self.draw.choice(self.ghosts))
        raise AssertionError("stands still")

    def replay(self) -> list[DeadLetter]:
        """Some dead letters go back, once, however often it is asked for; those of a partition in their order."""
        gone: list[DeadLetter] = []
        self.kept = None
        for number in range(self.partitions):
            chosen = [row for row in self.store.dead_entries(number) if self.draw.random() < 0.8]
            events = [(entry, transfers.encode(reentry.back(letter, number))) for entry, letter in chosen]
            some = events[: self.draw.randint(0, len(events))]
            counts = [self.store.replay(number, part, most=1_000_000) for part in (some, events, some)]
            assert counts == [len(some), len(events) - len(some), 0]
            gone += [letter for _, letter in chosen]
        return gone

    def crash(self) -> None:
        """An owner dies."""
        number = self.draw.randrange(self.partitions)
        self.owners[number] = self.acquire(number)

    def replace_owner(self) -> None:
        """An owner is replaced, and does not know it."""
        number = self.draw.randrange(self.partitions)
        self.ghosts.append(self.owners[number])
        self.owners[number] = self.acquire(number)

    def remember(self) -> None:
        """What the store will come back with, should it lose its tail."""
        self.kept = copy.deepcopy(self.store)

    def roll_back(self) -> None:
        """The store loses its tail, all of it at once; the owners live, and don't know it."""
        if self.kept is not None:
            before, self.store, self.kept = self.store, self.kept, None
            self.store.life, self.store._lives = before.life + 1, before._lives
            for number, held in self.store._partitions.items():
                held.appended = before._of(number).appended  # ids have the time in them: none comes again

    def haunt(self, ghost: Owner) -> None:
        """An owner of the past goes on sending."""
        if ghost.outgoing:
            self.relay(ghost)

    def can_go_on(self, owner: Owner) -> bool:
        """There is something to do or to read."""
        if self.draw.random() < 0.05 and self.lost_its_history(owner):
            return True
        owner.todo += owner.core.instructions()
        if owner.todo or owner.outgoing or not owner.core.idle:
            return True
        return any(self.unread(owner, origin) for origin in self.origins(owner)) or self.lost_its_history(owner)

    def lost_its_history(self, owner: Owner) -> bool:
        """Every owner looks, now and then, whether the store still has what it was told, as drivers do."""
        sequence = owner.core.builder.sequence if owner.core.idle else None
        if self.store.check(owner.number, owner.core.owner, sequence) is Answer.APPLIED:
            return False
        self.owners[owner.number] = self.acquire(owner.number)
        return True

    def step(self, owner: Owner) -> None:
        """One random thing of one partition."""
        origins = [origin for origin in self.origins(owner) if self.unread(owner, origin)]
        choices = []
        if owner.todo:
            choices += [self.do, self.do]
        if owner.outgoing:
            choices.append(self.relay)
        if origins and owner.core.wants_records:
            choices.append(lambda owner: self.offer(owner, origins))
        if choices:
            self.draw.choice(choices)(owner)

    def origins(self, owner: Owner) -> list[str]:
        """What a partition reads."""
        places = [place for place in self.logs if place[1] % self.partitions == owner.number]
        return ["internal", *(f"tokens{source}/{number}" for source, number in places)]

    def unread(self, owner: Owner, origin: str) -> int:
        """Records of an origin that were not offered."""
        if origin == "internal":
            return len(self.store.stream(owner.number, origin, str(owner.read.get(origin, "0-0"))))
        return len(self.logs[_place(origin)]) - int(owner.read.get(origin, 0))

    def offer(self, owner: Owner, origins: list[str]) -> None:
        """The next records of one or two origins."""
        batches: list[Records] = []
        for origin in self.draw.sample(origins, k=min(len(origins), self.draw.choice([1, 2]))):
            limit = self.draw.choice([1, 2, 5, 20])
            if origin == "internal":
                entries = self.store.stream(owner.number, origin, str(owner.read.get(origin, "0-0")))[:limit]
                rows = [(entry.id, transfers.decode(entry.data)) for entry in entries]
                batches += transfers.as_records(rows, {"tokens0": 0, "tokens1": 1})
                owner.read[origin] = entries[-1].id
                continue
            source, _ = place = _place(origin)
            first = int(owner.read.get(origin, 0))
            values = self.logs[place][first : first + limit]
            owner.read[origin] = after = first + len(values)
            batches.append(
                Records(
                    source, origin, list(range(first, after)), [NOW] * len(values), [None] * len(values),
                    list(values), str(after),
                    ids=[f"{origin}/{offset}" for offset in range(first, after)], replies=["caller"] * len(values),
                )
            )  # fmt: skip
        owner.core.offer(batches, NOW)

    def do(self, owner: Owner) -> None:
        """What the core asked for."""
        instruction = owner.todo.pop(self.draw.randrange(len(owner.todo)))
        if isinstance(instruction, Load):
            owner.core.loaded(instruction.keys, self.store.load(owner.number, instruction.keys), NOW)
        elif isinstance(instruction, Dispatch):
            call = instruction.call
            runner = owner.runners.setdefault((call.unit, call.replica), UnitRunner(self.graph.plan, call.unit))
            owner.core.finished(run_call(runner, call, instruction.data), NOW)
        else:
            self.save(owner, instruction)

    def save(self, owner: Owner, save: Save) -> None:
        """Commit; perhaps the answer is lost."""
        answer = self.store.commit(owner.number, owner.core.owner, save.commit)
        if self.lost():
            owner.todo.append(save)
        elif owner.core.committed(answer, NOW):
            if save.commit.outputs:
                owner.outgoing.append((save.first_output, save.commit.outputs))
        else:
            assert answer in (Answer.FENCED, Answer.ROLLED_BACK)
            self.owners[owner.number] = self.acquire(owner.number)

    def relay(self, owner: Owner) -> None:
        """Send the oldest outputs, then forget them; if an answer is lost in between, all of them again, later."""
        first, outputs = owner.outgoing[0]
        through = first + len(outputs) - 1
        sender = Sender(str(owner.number), self.store.workflow, owner.number, owner.core.owner, through)
        if not owner.sent:
            for output in outputs:
                if not self.send(owner, sender, output) or self.lost():
                    return
            owner.sent = True
            if self.draw.random() < 0.3:
                return  # whatever happens before it is forgotten
        self.store.trim_outbox(owner.number, owner.core.owner, through)
        if not self.lost():
            owner.outgoing.popleft()
            owner.sent = False

    def send(self, owner: Owner, sender: Sender, output: Output) -> bool:
        """One output: to its sink, or to another partition; False if it has to wait."""
        if output.sink != TRANSFER:
            self.sent.setdefault(output.id, output)
            return True
        transfer = transfers.decode(output.data or b"")
        most = self.draw.choice([3, 1000])
        try:
            self.store.append_internal(
                transfer.partition, sender, transfer.number, [output.data or b""], known=True, most=most
            )
        except StoreFull:
            return False
        except (SenderLost, TransfersMissing):
            if owner not in self.ghosts:
                self.lost_its_history(owner)
            return False
        return True

    def lost(self) -> bool:
        """Is an answer of the store lost?"""
        return self.faults and self.draw.random() < 0.08


def _place(origin: str) -> Place:
    source, _, number = origin.removeprefix("tokens").partition("/")
    return int(source), int(number)


def spread_outcome(world: SpreadWorld) -> Expected:
    """What is in the store and has arrived at the sinks, in the form of the naive interpreter's result."""
    found = Expected()
    for number in range(world.partitions):
        for origin, position in world.store.head(number).positions.items():
            if origin != "internal":
                found.processed[origin] += int(position)
        for key in world.store.run_keys(number):
            fields = world.store.run(number, key)
            assert partition_of(key, world.partitions) == number, f"{key} has a run in a partition not its own"
            found.status[key] = (fields["status"].decode(), fields.get("result", b"").decode())
            for name, blob in fields.items():
                if name == "state" or name.startswith(("node:", "value:")):
                    found.states[key, name] = blob
        for letter in world.store.dead_letters(number):
            found.dead[letter.key].append((letter.id, letter.node, letter.reason))
        answers = answers_in(world.store, number)
        assert not answers.keys() & found.answers.keys(), "answered in two partitions"
        found.answers.update(answers)
    for output in world.sent.values():
        found.outputs[output.key, output.sink].append((output.id, output.data or b""))
    return found
