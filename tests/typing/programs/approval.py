# A complete program, for type checkers.
from datetime import timedelta

import msgspec

from headrace import (
    Complete,
    Context,
    Event,
    Failure,
    MessageSource,
    RequestSource,
    Retry,
    Terminate,
    Timeout,
    Workflow,
)


class Order(msgspec.Struct, frozen=True):
    id: str
    total: float


class Approval(msgspec.Struct, frozen=True):
    approved: bool
    by: str


class Desk(msgspec.Struct):
    order: Order | None = None


class Approved(msgspec.Struct, frozen=True):
    order: Order


class Refused(msgspec.Struct, frozen=True):
    reason: str


def ask(event: Event[Order], ctx: Context[None, Desk]) -> Order:
    ctx.run.state.order = event.data
    ctx.reply({"status": "waiting for approval", "total": event.data.total})
    return event.data


def decide(event: Event[Approval], ctx: Context[None, Desk]) -> Approved | Refused:
    order = ctx.run.state.order
    assert order is not None
    return Approved(order) if event.data.approved else Refused(f"by {event.data.by}")


async def ship(event: Event[Approved], ctx: Context[None, Desk]) -> Complete:
    return Complete({"shipped": event.data.order.id})


def expire(event: Event[Timeout], ctx: Context[None, Desk]) -> Refused:
    return Refused(f"nobody answered within {event.data.after}")


workflow = Workflow("orders", state=Desk)
orders = workflow.source(RequestSource(Order, key="id"))
approvals = workflow.source(MessageSource("approval", Approval))
asked, decided, expired = workflow.node(ask), workflow.node(decide), workflow.node(expire)
shipping = workflow.node(ship, retry=Retry(5, on=(OSError,)))
approval = workflow.wait(approvals, timeout=timedelta(hours=1))  # a place in the graph: drawn, typed, durable
orders.to(asked)
asked.to(approval)
approval.to(decided)
approval.on(Timeout).to(expired)
decided.on(Approved).to(shipping)
decided.on(Refused).to(Complete)
expired.to(Complete)
shipping.on(Failure).to(Terminate)
