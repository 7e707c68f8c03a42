"""G4: an output that its sink will never take is a dead letter before it leaves the outbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headrace import Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.actors.activity import Activity
from headrace.actors.node_calls import NodeCalls
from headrace.actors.partition_driver import PartitionDriver
from headrace.actors.relay import NoOutlet, Relay
from headrace.actors.shared import Shared
from headrace.actors.sizing import Sizing
from headrace.sources.kafka_sink import Refused
from headrace.workflows.commit import Commit, Output
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import Limits
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

    def pull(self, partition: int, limit: int) -> Sequence[Records]:
        return []


async def owner(store: RecordingStore) -> PartitionDriver:
    workflow = Workflow("loud", partitions=1, fuse="all")
    lines = workflow.source(KafkaSource("lines", str))
    shouting = workflow.node(shout)
    lines.to(shouting)
    shouting.to(workflow.sink(KafkaSink("loud", str)))

    def ignore(*_: Any) -> None:
        pass

    shared: Any = Shared(
        plan=workflow.compile(), partitions=1, worker="w", store=store, feed=NoFeed(),  # type: ignore[arg-type]
        nodes=NodeCalls([], ignore, ignore, ignore), relay=Relay(NoOutlet(), ignore, ignore), runners={},
        sizing=Sizing(), activity=Activity(), limits=Limits(), on_problem=ignore, on_lost=ignore,
    )  # fmt: skip
    driver = PartitionDriver(0, shared)
    assert await driver.acquire(1, 1)
    return driver


async def test_a_refused_output_stays_in_the_outbox_until_its_dead_letter_is_committed() -> None:
    store = RecordingStore()
    driver = await owner(store)
    refused = Refused(Output(0, "lines/0/7", "k", 0, b'"HO"'), "too large")

    await driver.delivered(7, [refused])
    assert store.writes == [], "nothing may leave the outbox yet"
    await driver.delivered(9, [])

    await until_async(lambda: len(store.writes) == 2, "the dead letter is committed and the outbox trimmed")
    assert store.writes == ["commit of 1 dead letters", "trim through 9"]
    (letter,) = store.memory.dead_letters(0)
    assert (letter.id, letter.reason, letter.error) == ("lines/0/7", "sink", "too large")
    await driver.drop()


async def test_delivered_outputs_leave_the_outbox_at_once() -> None:
    store = RecordingStore()
    driver = await owner(store)

    await driver.delivered(3, [])

    assert store.writes == ["trim through 3"]
    await driver.drop()
