"""G4: an output that its sink will never take is a dead letter before it leaves the outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from headrace import Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.actors.activity import Activity
from headrace.actors.clock import StoreClock
from headrace.actors.formats import Formats
from headrace.actors.node_calls import NodeCalls
from headrace.actors.partition_driver import PartitionDriver
from headrace.actors.relay import Relay
from headrace.actors.shared import Shared
from headrace.actors.sizing import Sizing
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.sources.outlet import Portion, Refused
from headrace.workflows.commit import Commit, Output
from headrace.workflows.instructions import Limits
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from waiting import until_async


def shout(event: Event[str], ctx: Context) -> str:
    return event.data.upper()


class RecordingStore:
    """The store in memory, awaitable, with a list of what was written in which order."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.writes: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*args: Any, **options: Any) -> Any:
            if name == "commit":
                commit: Commit = args[2]
                self.writes.append(f"commit of {len(commit.dead)} dead letters")
            if name == "trim_outbox":
                self.writes.append(f"trim through {args[2]}")
            return getattr(self.memory, name)(*args, **options)

        return ask


class NoFeed:
    async def assign(self, partition: int, positions: dict[str, str]) -> None:
        pass

    async def revoke(self, partition: int) -> None:
        pass

    def committed(self, partition: int, positions: dict[str, str]) -> None:
        pass

    def pull(self, partition: int, limit: int) -> Sequence[Records]:
        return []

    def pull_sent(self, partition: int, limit: int) -> Sequence[Records]:
        return []

    def has_requests(self, partition: int) -> bool:
        return False

    def pull_control(self, partition: int) -> Sequence[Records]:
        return []


class Broker:
    """An outlet that refuses what is too large, and the first time after that has no time to say so."""

    name = "broker"
    transactional = True

    def __init__(self, store: RecordingStore) -> None:
        self._store = store

    async def open(self) -> None:
        pass

    async def begin(self, partition: int, last: int) -> int:
        return 0

    async def send(self, portions: Mapping[int, Portion]) -> list[Refused]:
        outputs = [output for portion in portions.values() for output in portion.outputs]
        refused = [Refused(output, "too large") for output in outputs if len(output.data) > 5]
        if not refused:
            self._store.writes.append(f"sent {len(outputs)}")
        return refused

    async def drop(self, partition: int) -> None:
        pass

    async def close(self) -> None:
        pass


def plan() -> Plan:
    workflow = Workflow("loud", partitions=1, fuse="all")
    lines = workflow.source(KafkaSource("lines", str))
    shouting = workflow.node(shout)
    lines.to(shouting)
    shouting.to(workflow.sink(KafkaSink("loud", str)))
    return workflow.compile()


@asynccontextmanager
async def owner(store: RecordingStore) -> AsyncIterator[PartitionDriver]:
    """A worker that owns the partition, and has nothing to read."""

    def ignore(*_: Any) -> None:
        pass

    relay = Relay([Broker(store)], lambda output: 0, ignore, ignore)
    await relay.open()
    shared: Any = Shared(
        plan=plan(), partitions=1, worker="w", store=store, feed=NoFeed(),  # type: ignore[arg-type]
        nodes=NodeCalls([], ignore, ignore, ignore), relay=relay, runners={}, formats=Formats(plan(), ignore),
        clock=StoreClock(),
        sizing=Sizing(), activity=Activity(), metrics=WorkerMetrics(plan()), limits=Limits(), on_problem=ignore,
        on_lost=ignore,
    )  # fmt: skip
    driver = PartitionDriver(0, shared)
    assert await driver.acquire(1, 1)
    yield driver
    await driver.drop()
    await relay.close()


def left_by_a_predecessor(store: RecordingStore) -> None:
    """An outbox with three outputs, the second of them too large."""
    head = store.memory.acquire(0, term=1, placement=0, worker="before")
    outputs = [Output(0, f"lines/0/{number}", "k", 0, data) for number, data in enumerate((b'"A"', b'"LARGE"', b'"C"'))]
    store.memory.commit(0, head.owner, Commit(sequence=1, outputs=outputs))


async def test_a_refused_output_stays_in_the_outbox_until_its_dead_letter_is_committed() -> None:
    store = RecordingStore()
    left_by_a_predecessor(store)

    async with owner(store):
        await until_async(lambda: len(store.writes) == 3, "all are done with")

    assert store.writes == ["commit of 1 dead letters", "sent 2", "trim through 3"]
    (letter,) = store.memory.dead_letters(0)
    assert (letter.id, letter.source, letter.reason, letter.error) == ("lines/0/1", "loud", "sink", "too large")


async def test_what_was_buried_before_a_crash_is_not_buried_again() -> None:
    store = RecordingStore()
    left_by_a_predecessor(store)
    head = store.memory.acquire(0, term=1, placement=0, worker="before")
    store.memory.commit(0, head.owner, Commit(sequence=2, counters={"buried:broker": 2}))

    async with owner(store):
        await until_async(lambda: len(store.writes) == 2, "all are done with")

    assert store.writes == ["sent 2", "trim through 3"]
    assert store.memory.dead_letters(0) == []


class Forgetful(RecordingStore):
    """Loses the commit in which an event came to stand still, just as the owner asks for the event."""

    async def parked(self, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        self.memory._of(partition).parked.clear()
        return [None for _ in fields]


async def test_an_owner_whose_event_the_store_has_lost_begins_anew_with_what_there_is() -> None:
    store = Forgetful()
    head = store.memory.acquire(0, term=1, placement=0, worker="before")
    store.memory.commit(0, head.owner, Commit(sequence=1, parked={'[1,1,"shout","k"]': b""}))

    async with owner(store) as driver:
        first = driver._core
        await until_async(lambda: driver._core not in (None, first), "it has acquired the partition again")

        assert (driver.state, driver.trouble) == ("owned", None)
