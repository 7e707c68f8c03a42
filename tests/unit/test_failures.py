"""`.on(Failure)`: what a node could not do goes on by a route, in place of a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    Action,
    BatchNode,
    Complete,
    Context,
    Event,
    Failure,
    KafkaSink,
    KafkaSource,
    Linear,
    Node,
    Reject,
    Retry,
    Terminate,
    Timer,
    Workflow,
)
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.calls import CallResult, Failed
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.progress import LANES, Progress, Seat
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.settings import Settings
from headrace.workflows.suspicion import PoisonEvent
from traced import Alert, Heat, Reading, World, alert, classify, named, records, sampled

FUSES: tuple[Any, ...] = (None, "all")
SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    fault: str = ""


class Shipped(msgspec.Struct, frozen=True):
    number: int


class Refund(msgspec.Struct, frozen=True):
    number: int
    why: str


class Seen(msgspec.Struct):
    numbers: list[int] = []


class Way(Action):
    ON = "on"


def fail(event: Event[Order], attempt: int) -> None:
    """Whatever the order says is wrong."""
    fault = event.data.fault
    if fault == "reject":
        raise Reject("not for sale")
    if fault == "key":
        {}["lamp"]
    if fault == "exit":
        raise SystemExit(3)
    if fault == "always" or (fault == "twice" and attempt <= 2):
        raise OSError("out of stock")


def ship(event: Event[Order], ctx: Context[Seen]) -> Shipped:
    ctx.state.numbers.append(event.data.number)
    fail(event, ctx.attempt)
    return Shipped(event.data.number)


async def ship_async(event: Event[Order], ctx: Context[Seen]) -> Shipped:
    await asyncio.sleep(0)
    return ship(event, ctx)


class Ship(Node[Order, Seen, Shipped]):
    def process(self, event: Event[Order], ctx: Context[Seen]) -> Shipped:
        return ship(event, ctx)


class ShipBatch(BatchNode[Order, Seen, Shipped]):
    """Gives a `Reject` back in its event's place; what else goes wrong fails the batch."""

    def process(self, events: Sequence[Event[Order]], ctxs: Sequence[Context[Seen, Any]]) -> list[Shipped | Reject]:
        results: list[Shipped | Reject] = []
        for event, ctx in zip(events, ctxs, strict=True):
            try:
                results.append(ship(event, ctx))
            except Reject as reject:
                results.append(reject)
        return results


def count(event: Event[Order], ctx: Context[Seen]) -> Way:
    ctx.state.numbers.append(event.data.number)
    return Way.ON


def refund(event: Event[Failure], ctx: Context[Seen]) -> Refund:
    order = event.data.read(Order)
    ctx.state.numbers.append(order.number)
    return Refund(order.number, event.data.error)


class Shop:
    """Count -> ship -> shipped, and what can't be shipped -> refund -> refunds."""

    def __init__(self, node: Any = ship, fuse: Any = None, *, end: bool = False, **options: Any) -> None:
        self.workflow = Workflow("shop", fuse=fuse)
        self.orders = self.workflow.source(KafkaSource("orders", Order, key="customer"))
        self.counting = self.workflow.node(count)
        self.shipping: Any = self.workflow.node(node, name="ship", **options)
        self.refunding = self.workflow.node(refund)
        self.shipped = self.workflow.sink(KafkaSink("shipped", Shipped))
        self.refunds = self.workflow.sink(KafkaSink("refunds", Refund))
        self.orders.to(self.counting)
        self.counting.on(Way.ON).to(self.shipping)
        self.shipping.to(self.shipped)
        self.refunding.to(self.refunds)
        if end:
            self.shipping.on(Failure).to(self.refunding, Terminate)
        else:
            self.shipping.on(Failure).to(self.refunding)


def told(harness: Harness, shop: Shop) -> list[str]:
    return [row.why for row in harness.sent(shop.refunds)]


NODES = [ship, ship_async, Ship(), ShipBatch()]


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("node", NODES, ids=["function", "async", "node", "batch"])
def test_what_a_node_can_not_do_goes_on_and_is_no_dead_letter(node: Any, fuse: Any) -> None:
    shop = Shop(node, fuse)
    with Harness(shop.workflow) as harness:
        with harness.batch():
            for number, fault in enumerate(["", "reject", "", "key", "always", ""]):
                harness.send(shop.orders, Order("ada", number, fault))

        assert harness.dead_letters == []
        assert [row.number for row in harness.sent(shop.shipped)] == [0, 2, 5]
        assert told(harness, shop) == ["not for sale", "KeyError: 'lamp'", "OSError: out of stock"]
        run = harness.runs["ada"]
        assert run.state(shop.shipping).numbers == [0, 2, 5], "what failed has left nothing"
        assert run.state(shop.counting).numbers == [0, 1, 2, 3, 4, 5], "what it did before stays"
        assert run.state(shop.refunding).numbers == [1, 3, 4]
        assert [row.id.rpartition("/")[2] for row in harness.messages(shop.refunds)] == ["1.0.0", "3.0.0", "4.0.0"]


def failures(*orders: Order, fuse: Any = None, node: Any = ship, **options: Any) -> list[Failure]:
    """What arrives by the route."""
    workflow = Workflow("shop", fuse=fuse)
    source = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping: Any = workflow.node(node, name="ship", **options)
    sink = workflow.sink(KafkaSink("failures", Failure))
    source.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(sink)
    with Harness(workflow) as harness:
        for order in orders:
            harness.send(source, order)
        harness.advance(timedelta(minutes=1))
        assert harness.dead_letters == []
        return harness.sent(sink)


@pytest.mark.parametrize("fuse", FUSES)
def test_it_says_what_failed_where_how_often_and_at_what(fuse: Any) -> None:
    order = Order("ada", 1, "reject")

    (failure,) = failures(order, fuse=fuse)

    assert failure == Failure("not for sale", "reject", "ship", 1, {"customer": "ada", "number": 1, "fault": "reject"})
    assert failure.read(Order) == order


@pytest.mark.parametrize("fuse", FUSES)
def test_it_comes_once_all_attempts_are_used_up_and_not_before(fuse: Any) -> None:
    shop = Shop(fuse=fuse, retry=Retry(3, backoff=Linear(SECOND, SECOND), jitter=0))
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 1, "twice"))
        harness.send(shop.orders, Order("bob", 2, "always"))
        harness.send(shop.orders, Order("bob", 3))
        assert told(harness, shop) == []
        assert len(harness.parked) == 3

        harness.advance(10 * SECOND)

        assert [row.number for row in harness.sent(shop.shipped)] == [1, 3]
        assert told(harness, shop) == ["OSError: out of stock"]
        assert harness.parked == []
        assert harness.dead_letters == []

    (failure,) = failures(Order("bob", 2, "always"), retry=Retry(3, backoff=Linear(SECOND, SECOND)))
    assert failure.attempts == 3


def test_a_deadline_that_has_passed_is_a_failure() -> None:
    async def hang(event: Event[Order], ctx: Context) -> Shipped:
        await asyncio.sleep(60)
        return Shipped(1)

    (failure,) = failures(Order("ada", 1), node=hang, timeout=timedelta(milliseconds=10))

    assert (failure.reason, failure.node) == ("timeout", "ship")


def test_a_result_without_a_way_to_go_is_a_failure() -> None:
    def lie(event: Event[Order], ctx: Context) -> Shipped:
        wrong: Any = [Shipped(1), 3]
        return wrong

    (failure,) = failures(Order("ada", 1), node=lie)

    assert failure.reason == "output"


@pytest.mark.parametrize("fuse", FUSES)
def test_the_run_ends_with_it_and_its_events_go_singly(fuse: Any) -> None:
    shop = Shop(fuse=fuse, end=True)
    assert shop.workflow.compile().serial
    with Harness(shop.workflow) as harness:
        with harness.batch():
            for number, fault in enumerate(["", "always", ""]):
                harness.send(shop.orders, Order("ada", number, fault))
            harness.send(shop.orders, Order("bob", 3, "always"))

        assert told(harness, shop) == ["OSError: out of stock"] * 2, "the targets before the end have had it"
        assert harness.runs["bob"].status == "terminated"
        assert harness.runs["bob"].result["error"] == "OSError: out of stock"
        assert harness.runs["ada"].status == "running", "the order behind it has begun another run"
        assert harness.runs["ada"].state(shop.shipping).numbers == [2]


@pytest.mark.parametrize("fuse", FUSES)
def test_the_failure_completes_the_run(fuse: Any) -> None:
    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping = workflow.node(ship)
    orders.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(Complete)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1, "always"))

        assert harness.runs["ada"].status == "completed"
        assert harness.runs["ada"].result["data"]["number"] == 1


@pytest.mark.parametrize("fuse", FUSES)
def test_it_goes_on_before_the_next_event_of_a_run_whose_events_go_singly(fuse: Any) -> None:
    had: list[tuple[str, int]] = []

    def first(event: Event[Order], ctx: Context[None, Seen]) -> Shipped:
        had.append(("first", event.data.number))
        fail(event, 1)
        return Shipped(event.data.number)

    def second(event: Event[Failure], ctx: Context[None, Seen]) -> None:
        had.append(("second", event.data.data["number"]))

    workflow = Workflow("shop", state=Seen, fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    one, two = workflow.node(first), workflow.node(second)
    orders.to(one)
    one.to(None)
    one.on(Failure).to(two)
    with Harness(workflow) as harness, harness.batch():
        for number, fault in enumerate(["always", "", "reject", ""]):
            harness.send(orders, Order("ada", number, fault))

    assert had == [("first", 0), ("second", 0), ("first", 1), ("first", 2), ("second", 2), ("first", 3)]


@pytest.mark.parametrize("fuse", FUSES)
def test_a_failure_that_is_dropped_leaves_nothing(fuse: Any) -> None:
    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping = workflow.node(ship)
    orders.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(None)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1, "always"))

        assert harness.dead_letters == []
        assert harness.runs["ada"].state(shipping).numbers == []


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("own", [False, True])
def test_a_failure_on_the_way_of_a_failure_is_a_dead_letter_or_goes_its_own_way(own: bool, fuse: Any) -> None:
    def broken(event: Event[Failure], ctx: Context) -> Refund:
        raise ValueError("no money")

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping, refunding = workflow.node(ship), workflow.node(broken)
    orders.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(refunding)
    refunding.to(None)
    if own:
        lost = workflow.sink(KafkaSink("lost", Failure))
        refunding.on(Failure).to(lost)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1, "always"))

        if own:
            (failure,) = harness.sent(lost)
            assert (failure.node, failure.read(Failure).read(Order).number) == ("broken", 1)
            assert harness.dead_letters == []
        else:
            (letter,) = harness.dead_letters
            assert (letter.node, letter.type, letter.error) == ("broken", "Failure", "ValueError: no money")
            assert letter.reentry is not None
            assert harness.replay() == 1, "it goes back to the node, as any other"
            assert len(harness.dead_letters) == 1


@pytest.mark.parametrize("fuse", FUSES)
def test_what_is_no_event_is_a_dead_letter_all_the_same(fuse: Any) -> None:
    shop = Shop(fuse=fuse)
    with Harness(shop.workflow) as harness:
        harness.send_raw(shop.orders, b'{"customer": "ada"}', key="ada")

        assert [letter.reason for letter in harness.dead_letters] == ["decode"]
        assert told(harness, shop) == []


@pytest.mark.parametrize("fuse", FUSES)
def test_an_event_that_goes_round_for_ever_is_a_dead_letter(fuse: Any) -> None:
    def again(event: Event[Failure | Order], ctx: Context) -> None:
        raise ValueError("never")

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    node = workflow.node(again)
    orders.to(node)
    node.on(Failure).to(node)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.type) == ("hops", "Failure")


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_it_goes_on_once_wherever_the_process_dies(point: str, fuse: Any) -> None:
    shop = Shop(fuse=fuse)
    with Harness(shop.workflow) as harness:
        harness.crash_at(point)
        for number, fault in enumerate(["", "always", "reject", ""]):
            harness.send(shop.orders, Order("ada", number, fault))

        assert [row.number for row in harness.sent(shop.refunds, unique=True)] == [1, 2]
        assert harness.runs["ada"].state(shop.refunding).numbers == [1, 2]
        assert harness.runs["ada"].state(shop.shipping).numbers == [0, 3]
        assert harness.dead_letters == []
        ids = {row.id: row.data for row in harness.messages(shop.refunds)}
        assert all(ids[row.id] == row.data for row in harness.messages(shop.refunds)), "a repeat has the same id"


def test_secrets_are_not_in_it() -> None:
    def leak(event: Event[Order], ctx: Context) -> Shipped:
        raise ValueError(f"can't log in with {ctx.settings['password']} \udc80")

    shop = Shop(leak)
    with Harness(shop.workflow, settings=Settings({"password": "s3cret-word"}, secrets={"password"})) as harness:
        harness.send(shop.orders, Order("ada", 1))

        (why,) = told(harness, shop)
        assert why.startswith("ValueError: can't log in with ")
        assert "s3cret-word" not in why
        assert why.endswith("\\udc80"), "half a character can't travel"


def test_data_that_its_type_does_not_read_in_full_is_told_as_text() -> None:
    workflow = Workflow("shop")
    source = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping, sink = workflow.node(ship), workflow.sink(KafkaSink("failures", Failure))
    source.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(sink)
    with Harness(workflow) as harness:
        harness.send_raw(source, b'{"customer": "ada", "number": 1, "fault": "reject", "x": "\xff"}', key="ada")

        (failure,) = harness.sent(sink)
        assert failure.data == '{"customer": "ada", "number": 1, "fault": "reject", "x": "\ufffd"}'


class _Deadly(Progress):
    """Of the first event of a call it is known that it ends its process."""

    def begin(self, call: Any) -> Seat:
        return _Condemned([0] * LANES, {0})


class _Condemned(Seat):
    def enter(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        raise PoisonEvent(3)


def test_an_event_that_ends_its_process_is_a_failure() -> None:
    workflow = Workflow("shop")
    source = workflow.source(KafkaSource("orders", Order, key="customer"))
    shipping, sink = workflow.node(ship), workflow.sink(KafkaSink("failures", Failure))
    source.to(shipping)
    shipping.to(None)
    shipping.on(Failure).to(sink)
    plan = workflow.compile()
    store = MemoryStore()
    core = PartitionCore(plan, 0, 1, store.acquire(0, term=1, placement=1, worker="w"))
    runner = UnitRunner(plan, 0, progress=_Deadly())
    batch = records((1, ()))
    batch.values = [msgspec.json.encode(Order("ada", 1))]
    core.offer([batch], 0)
    while todo := core.instructions():
        for instruction in todo:
            if isinstance(instruction, Save):
                core.committed(store.commit(0, core.owner, instruction.commit), 0)
            elif hasattr(instruction, "call"):
                core.finished(runner.run(instruction.call), 0)
            else:
                core.loaded(instruction.keys, [{} for _ in instruction.keys], 0)

    (output,) = store.outputs(0)
    assert msgspec.json.decode(output.data or b"", type=Failure).reason == "poison"
    assert store.dead_letters(0) == []


def test_it_is_counted_with_its_reason() -> None:
    shop = Shop()
    plan = shop.workflow.compile()
    failed = Failed(0, (), 1, "reject", "not for sale", None, 0, None)
    result = CallResult(partition=0, unit=1, replica=0, number=1, owner="w", rerouted=[failed])
    metrics = WorkerMetrics(plan)

    metrics.finished(result)

    labels = {"node": "ship", "outcome": "reject"}
    assert metrics.registry.get_sample_value("headrace_node_events_total", labels) == 1


@pytest.mark.parametrize("fuse", FUSES)
def test_the_span_of_the_node_says_that_it_failed_and_the_trace_is_no_error(fuse: Any) -> None:
    def tell(event: Event[Failure], ctx: Context) -> Alert:
        return Alert(event.data.reason)

    workflow = Workflow("heat", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    alerts = workflow.sink(KafkaSink("alerts", Alert))
    classified, alarmed, telling = workflow.node(classify), workflow.node(alert), workflow.node(tell)
    readings.to(classified)
    classified.on(Heat.HIGH).to(alarmed)
    classified.on(Heat.NORMAL).to(None)
    classified.on(Failure).to(telling)
    alarmed.to(alerts)
    telling.to(alerts)
    world = World(workflow.compile())

    world.process(records((2000, sampled())))

    (trace,) = world.traces
    (failed,) = named(trace, "classify")
    assert failed.error is not None
    assert failed.error.error == "ValueError: melted"
    assert trace.error is None
    (told_of,) = named(trace, "tell")
    assert told_of.parent == failed.id


@pytest.mark.parametrize("fuse", FUSES)
def test_a_timer_that_a_node_fails_at_goes_on_as_well(fuse: Any) -> None:
    class Patient(Node[Order, Seen, Shipped]):
        def process(self, event: Event[Order], ctx: Context[Seen]) -> None:
            ctx.set_timer("late", after=SECOND)

        def on_timer(self, timer: Timer, ctx: Context[Seen]) -> Shipped:
            raise OSError("nobody is there")

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    node, sink = workflow.node(Patient()), workflow.sink(KafkaSink("failures", Failure))
    orders.to(node)
    node.to(None)
    node.on(Failure).to(sink)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))
        harness.advance(10 * SECOND)

        assert harness.dead_letters == []
        (failure,) = harness.sent(sink)
        assert failure.error == "OSError: nobody is there"
        assert failure.read(Timer).name == "late"
        assert list(failure.data) == ["name", "due"]


@pytest.mark.parametrize("fuse", FUSES)
def test_what_a_node_can_not_even_read_is_a_dead_letter(fuse: Any) -> None:
    class Parcel(msgspec.Struct):
        """Of data that may be changed: each node reads it anew."""

        weight: int

    def pack(event: Event[Order], ctx: Context) -> Parcel:
        wrong: Any = "heavy"
        return Parcel(wrong)

    def weigh(event: Event[Parcel], ctx: Context) -> None: ...

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    packing, weighing = workflow.node(pack), workflow.node(weigh)
    sink = workflow.sink(KafkaSink("failures", Failure))
    orders.to(packing)
    packing.to(weighing)
    weighing.on(Failure).to(sink)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))

        assert [(letter.node, letter.reason) for letter in harness.dead_letters] == [("weigh", "decode")]
        assert harness.sent(sink) == []


@pytest.mark.parametrize("retry", [None, Retry(2)])
def test_an_error_that_can_not_be_printed_is_a_dead_letter_like_any(retry: Retry | None) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail(event: Event[int], ctx: Context) -> None:
        raise Mute

    workflow = Workflow("mute", keyed=False)
    numbers = workflow.source(KafkaSource("numbers", int))
    numbers.to(workflow.node(fail, retry=retry))
    with Harness(workflow) as harness:
        harness.send_all(numbers, [1, 2])
        harness.advance(timedelta(minutes=1))

        assert [letter.error for letter in harness.dead_letters] == ["Mute: <it could not be printed>"] * 2
