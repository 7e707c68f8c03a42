"""G9, G1: a terminate gives up calls that do not return; a batch that goes on in its worker is called again after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from headrace import BatchNode, Context, Event, KafkaSource, Node, Workflow
from headrace.actors.activity import Activity
from headrace.actors.clock import StoreClock
from headrace.actors.formats import Formats
from headrace.actors.node_calls import NodeCalls
from headrace.actors.partition_driver import PartitionDriver
from headrace.actors.relay import Relay
from headrace.actors.shared import Shared
from headrace.actors.sizing import Sizing
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.workflows.control import ControlEvent, as_records, encode
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.instructions import Limits
from headrace.workflows.keyspace import CONTROL
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from waiting import until_async


class Ask(msgspec.Struct, frozen=True):
    user: str
    text: str


class Model(BatchNode[Ask, list[str], None]):
    """Ends when it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.let_go = asyncio.Event()

    async def process(self, events: Sequence[Event[Ask]], ctxs: Sequence[Context[list[str]]]) -> list[None]:
        self.calls.append([event.data.text for event in events])
        await self.let_go.wait()
        for event, ctx in zip(events, ctxs, strict=True):
            ctx.state.append(event.data.text)
        return [None] * len(events)


class Counted(Node[Ask, list[str], None]):
    """An ordinary one."""

    def process(self, event: Event[Ask], ctx: Context[list[str]]) -> None:
        ctx.state.append(event.data.text)


class Hung:
    """Processes of nodes, none of which ever answers."""

    connected = True

    def __init__(self) -> None:
        self.calls: list[Dispatch] = []

    def submit(self, dispatch: Dispatch) -> None:
        self.calls.append(dispatch)

    def drop(self, partition: int, owner: str) -> None: ...


class Store:
    """The store in memory, awaitable."""

    def __init__(self) -> None:
        self.memory = MemoryStore(workflow="chat")

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*args: Any, **options: Any) -> Any:
            return getattr(self.memory, name)(*args, **options)

        return ask

    def state(self, key: str) -> bytes | None:
        return self.memory.run(0, key).get("node:model")


class Log:
    """A feed: questions, and what people ask of runs."""

    def __init__(self, *asks: Ask) -> None:
        self.asks = list(asks)
        self.read = 0
        self.asked: list[Records] = []

    async def assign(self, partition: int, positions: dict[str, str]) -> None: ...

    async def revoke(self, partition: int) -> None: ...

    def committed(self, partition: int, positions: dict[str, str]) -> None: ...

    def pull_control(self, partition: int) -> list[Records]:
        asked, self.asked = self.asked, []
        return asked

    def pull_sent(self, partition: int, limit: int) -> list[Records]:
        return []

    def has_requests(self, partition: int) -> bool:
        return False

    def pull_requests(self, partition: int, limit: int) -> list[Records]:
        return []

    def pull(self, partition: int, limit: int) -> list[Records]:
        offsets = list(range(self.read, len(self.asks)))
        if not offsets:
            return []
        values: list[bytes | None] = [msgspec.json.encode(self.asks[offset]) for offset in offsets]
        count, self.read = len(offsets), len(self.asks)
        return [Records(0, "asks/0", offsets, [0] * count, [None] * count, values, str(self.read))]


@asynccontextmanager
async def driving(plan: Plan, store: Store, log: Log, nodes: Any = None) -> AsyncIterator[PartitionDriver]:
    """A driver that owns the only partition, with its node elsewhere, or inside its worker."""

    def ignore(*_: Any) -> None: ...

    relay = Relay([], lambda output: 0, ignore, ignore)
    await relay.open()
    shared: Any = Shared(
        plan=plan, partitions=1, worker="w", store=store, feed=log,  # type: ignore[arg-type]
        nodes=nodes or NodeCalls([], ignore, ignore, ignore), relay=relay,
        runners={} if nodes else {0: UnitRunner(plan, 0)},
        formats=Formats(plan, ignore), clock=StoreClock(), sizing=Sizing(), activity=Activity(),
        metrics=WorkerMetrics(plan), limits=Limits(patience=1), on_problem=ignore, on_lost=ignore,
    )  # fmt: skip
    driver = PartitionDriver(0, shared)
    assert await driver.acquire(1, 1)
    yield driver
    await driver.drop()
    await relay.close()


def terminate(store: Store, log: Log, key: str) -> None:
    """As `headrace runs terminate` does; the partition's feed has it."""
    store.memory.append(0, CONTROL, encode(ControlEvent("terminate", key, 0, '"enough"')))
    log.asked = [as_records([(row.id, row.data) for row in store.memory.stream(0, CONTROL, "0-0")])]


async def test_G09_a_terminate_ends_a_run_whose_call_hangs_though_nothing_else_happens() -> None:
    store, nodes = Store(), Hung()
    workflow = Workflow("chat", partitions=1)
    node = workflow.node(Counted(), name="model")
    workflow.source(KafkaSource("asks", Ask, key="user")).to(node)
    log = Log(Ask("ada", "1"))
    async with driving(workflow.compile(), store, log, nodes) as driver:
        await until_async(lambda: nodes.calls, "the call is under way")

        terminate(store, log, "ada")
        driver.wake()  # the last time that anything happens
        await until_async(lambda: store.memory.run(0, "ada").get("status") == b"terminated", "it has ended")

    assert store.state("ada") is None


async def test_what_was_in_a_batch_that_was_given_up_counts_once_though_the_batch_goes_on() -> None:
    model, store = Model(), Store()
    workflow = Workflow("chat", partitions=1, fuse="all")
    node = workflow.node(model, name="model")
    workflow.source(KafkaSource("asks", Ask, key="user")).to(node)
    log = Log(Ask("ada", "1"), Ask("bob", "2"))
    async with driving(workflow.compile(), store, log) as driver:
        await until_async(lambda: model.calls, "the batch is under way")

        terminate(store, log, "ada")
        driver.wake()
        await until_async(lambda: store.memory.run(0, "ada").get("status") == b"terminated", "it has ended")

        core: Any = driver._core
        await until_async(lambda: core.dispatcher.busy, "the others are to be called again")
        for _ in range(20):  # passes of the loop, in which that call would begin
            await asyncio.sleep(0)
        assert model.calls == [["1", "2"]], "only when the batch has ended"
        model.let_go.set()
        await until_async(lambda: core.idle, "all is done")

        assert model.calls == [["1", "2"], ["2"]]
        assert (store.state("ada"), store.state("bob")) == (None, b'["2"]')
