"""A workflow that is a node of another one: orders are paid in threes, or refused, or given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from flows import found_in
from headrace import (
    Action,
    ChannelSource,
    Complete,
    Context,
    Event,
    Failure,
    KafkaSink,
    KafkaSource,
    Linear,
    Map,
    Mapped,
    MessageSource,
    Retry,
    Terminate,
    Timeout,
    Workflow,
)
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

PATIENCE = timedelta(seconds=8)
"""Enough for a cluster to start, and a message to be sent, on a machine that others use, too."""


class Order(msgspec.Struct, frozen=True):
    customer: str
    cents: int


class Line(msgspec.Struct, frozen=True):
    customer: str
    text: str


class Basket(msgspec.Struct):
    """Shared by the nodes of an inner run."""

    cents: list[int] = []


class Size(Action):
    SMALL = "small"
    LARGE = "large"


def weigh(event: Event[Order], ctx: Context[None, Basket]) -> Size:
    ctx.run.state.cents.append(event.data.cents)
    return Size.LARGE if event.data.cents > 100 else Size.SMALL


def charge(event: Event[Order], ctx: Context[dict[str, int], Basket]) -> Complete | None:
    """Fails once with each order that ends in 7, for good with 13."""
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    if event.data.cents % 10 == 7 and ctx.attempt == 1:
        raise OSError("not now")
    if event.data.cents == 13:
        raise ValueError("unlucky")
    return Complete(ctx.run.state.cents) if len(ctx.run.state.cents) == 3 else None


def refuse(event: Event[Order], ctx: Context) -> Terminate:
    return Terminate(f"{event.data.cents} is too much")


def payments(unique: str) -> Workflow:
    workflow = Workflow(f"payments-{unique}", state=Basket)
    orders = workflow.source(ChannelSource(Order, capacity=10, key="customer"))
    weighing, refusing = workflow.node(weigh), workflow.node(refuse)
    charging = workflow.node(charge, retry=Retry(3, on=(OSError,), backoff=Linear(timedelta(milliseconds=10))))
    orders.to(weighing)
    weighing.on(Size.SMALL).to(charging)
    weighing.on(Size.LARGE).to(refusing)
    return workflow


async def spell(event: Event[int], ctx: Context) -> str:
    return f"{event.data} cents"


def paid_of(event: Event[Complete], ctx: Context) -> list[Paid]:
    return [Paid(event.data.result)]


class Paid(msgspec.Struct, frozen=True):
    cents: list[int]


def paid(event: Event[Mapped[Paid, str]], ctx: Context) -> Line:
    return Line(event.key, f"paid {', '.join(map(str, event.data.results))}")


def unpaid(event: Event[Failure], ctx: Context) -> Line:
    return Line(event.key, event.data.error)


def late(event: Event[Timeout], ctx: Context) -> Line:
    return Line(event.key, "late")


@dataclass(frozen=True)
class Shop:
    workflow: Workflow
    orders: SourceHandle[Order]
    lines: SinkHandle[Line]
    pay: NodeHandle[Any, Any]


def shop(unique: str) -> Shop:
    """With the payments as its node `pay`."""
    workflow = Workflow(f"shop-{unique}")
    orders = workflow.source(KafkaSource(f"orders-{unique}", Order, key="customer", name="orders"))
    lines = workflow.sink(KafkaSink(f"lines-{unique}", Line, name="lines"))
    pay = workflow.node(payments(unique), name="pay", timeout=timedelta(hours=1))
    unwrapping = workflow.node(paid_of)
    spelling = workflow.node(Map(spell, Paid, items=lambda data: data.cents))
    done, failed, overdue = workflow.node(paid), workflow.node(unpaid), workflow.node(late)
    orders.to(pay)
    pay.on(Complete).to(unwrapping)
    pay.on(Failure).to(failed)
    pay.on(Timeout).to(overdue)
    unwrapping.to(spelling)
    spelling.to(done)
    for node in (done, failed, overdue):
        node.to(lines)
    return Shop(workflow, orders, lines, pay)


class Batch(msgspec.Struct, frozen=True):
    customer: str
    cents: list[int]


class Approval(msgspec.Struct, frozen=True):
    by: str


def ask(event: Event[Batch], ctx: Context[None, Basket]) -> Batch:
    ctx.run.state.cents.extend(event.data.cents)
    return event.data


def decide(event: Event[Approval], ctx: Context[None, Basket]) -> Complete | Terminate:
    if event.data.by == "nobody":
        return Terminate("nobody approves")
    return Complete(ctx.run.state.cents)


def approving(unique: str) -> Workflow:
    """Batches wait for an approval."""
    workflow = Workflow(f"approving-{unique}", state=Basket)
    batches = workflow.source(ChannelSource(Batch, capacity=10, key="customer"))
    approvals = workflow.source(MessageSource("approvals", Approval))
    asking, deciding = workflow.node(ask), workflow.node(decide)
    approval = workflow.wait(approvals, timeout=PATIENCE, name="approval")
    batches.to(asking)
    asking.to(approval)
    approval.to(deciding)
    return workflow


def around(inner: Workflow, name: str, *, times_out: bool = False) -> Workflow:
    """A workflow whose outcomes are those of its node `in`."""
    workflow = Workflow(name)
    batches = workflow.source(ChannelSource(Batch, capacity=10, key="customer"))
    node, passing = workflow.node(inner, name="in"), workflow.node(passed)
    batches.to(node)
    node.on(Complete).to(passing)
    node.on(Failure).to(Terminate)
    if times_out:
        node.on(Timeout).to(Terminate)
    return workflow


def passed(event: Event[Complete], ctx: Context) -> Complete:
    return event.data


async def spelled(event: Event[int], ctx: Context) -> Complete:
    if event.data == 13:
        raise ValueError("unlucky")
    return Complete(f"{event.data} cents")


def spelling(unique: str) -> Workflow:
    """Says what a number of cents is called."""
    workflow = Workflow(f"spelling-{unique}")
    workflow.source(ChannelSource(int, capacity=10, key=str)).to(workflow.node(spelled))
    return workflow


def told(event: Event[Mapped[Paid, Any]], ctx: Context) -> Line:
    results = [result or event.data.failures[index].error for index, result in enumerate(event.data.results)]
    return Line(event.key, ", ".join(results))


@dataclass(frozen=True)
class Desk:
    workflow: Workflow
    batches: SourceHandle[Batch]
    approvals: SourceHandle[Approval]
    lines: SinkHandle[Line]


def desk(unique: str) -> Desk:
    """Its node `step` waits for approvals, three deep; what is approved goes item by item through a workflow."""
    workflow = Workflow(f"desk-{unique}")
    batches = workflow.source(KafkaSource(f"batches-{unique}", Batch, key="customer", name="batches"))
    approvals = workflow.source(MessageSource("approvals", Approval))
    lines = workflow.sink(KafkaSink(f"lines-{unique}", Line, name="lines"))
    inner = around(approving(unique), f"middle-{unique}", times_out=True)
    step = workflow.node(around(inner, f"outer-{unique}"), name="step", timeout=timedelta(hours=1))
    unwrapping, failed, overdue = workflow.node(paid_of), workflow.node(unpaid), workflow.node(late)
    mapping = workflow.node(Map(spelling(unique), Paid, items=lambda data: data.cents), name="spell")
    telling = workflow.node(told)
    batches.to(step)
    step.on(Complete).to(unwrapping)
    step.on(Failure).to(failed)
    step.on(Timeout).to(overdue)
    unwrapping.to(mapping)
    mapping.to(telling)
    for node in (telling, failed, overdue):
        node.to(lines)
    return Desk(workflow, batches, approvals, lines)


__getattr__ = found_in(__name__)
