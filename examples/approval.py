"""Orders that wait for somebody's approval, for an hour at most.

An order is a run of its own. It is answered at once; the run stands at a wait, through restarts, until the message
`approval` comes for it, or the hour is over. Its result says what became of the order. Who sends an order with the
header `Headrace-Callback` is told there, signed, that it waits and how it ends: see `receiver.py`.
"""

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
    """What is sent: {"id": "4711", "total": 12.5}. Anything else is refused by the gateway, field by field."""

    id: str
    total: float


class Approval(msgspec.Struct, frozen=True):
    """The message that an order waits for: {"approved": true, "by": "ann"}."""

    approved: bool
    by: str


class Desk(msgspec.Struct):
    """What is known of an order. Headrace keeps it."""

    order: Order | None = None


class Approved(msgspec.Struct, frozen=True):
    """An order that is to be shipped."""

    order: Order
    by: str


class Refused(msgspec.Struct, frozen=True):
    """The result of an order that is not shipped."""

    refused: str
    why: str


def ask(event: Event[Order], ctx: Context[None, Desk]) -> Order:
    """Tell the caller that the order is in; here somebody could be mailed."""
    ctx.run.state.order = event.data
    ctx.reply({"order": event.data.id, "status": "waiting for approval"})
    return event.data


def decide(event: Event[Approval], ctx: Context[None, Desk]) -> Approved | Refused:
    """Do as the message says."""
    order = ctx.run.state.order
    assert order is not None, "a run begins with its order"
    ctx.reply({"order": order.id, "status": "approved" if event.data.approved else "refused"})
    return Approved(order, event.data.by) if event.data.approved else Refused(order.id, f"by {event.data.by}")


async def ship(event: Event[Approved], ctx: Context) -> Complete:
    """Send it away; the place for a call that may fail, with `ctx.idempotency_key` so that it counts once."""
    return Complete({"shipped": event.data.order.id, "approved_by": event.data.by})


def expire(event: Event[Timeout], ctx: Context[None, Desk]) -> Refused:
    """Nobody has said anything."""
    return Refused(event.key, f"nobody answered within {event.data.after}")


workflow = Workflow("orders", state=Desk)
orders = workflow.source(RequestSource(Order, key="id"))
approvals = workflow.source(MessageSource("approval", Approval))
asked, decided, expired = workflow.node(ask), workflow.node(decide), workflow.node(expire)
shipping = workflow.node(ship, retry=Retry(5, on=(OSError,)))
approval = workflow.wait(approvals, timeout=timedelta(hours=1))

orders.to(asked)
asked.to(approval)
approval.to(decided)
approval.on(Timeout).to(expired)
decided.on(Approved).to(shipping)
decided.on(Refused).to(Complete)
expired.to(Complete)
shipping.on(Failure).to(Terminate)
