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
    Retry,
    Terminate,
    Timeout,
    Workflow,
)
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


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


__getattr__ = found_in(__name__)
