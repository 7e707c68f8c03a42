"""A desk that takes orders over HTTP: what an order says is what it does, so that tests can have it either way."""

from datetime import timedelta
from typing import Any

import msgspec

from headrace import Action, Complete, Context, Event, MessageSource, Node, Reject, RequestSource, Workflow


class Item(msgspec.Struct, frozen=True):
    """A part of an order."""

    name: str
    price: float


class Order(msgspec.Struct, frozen=True):
    """What is sent to the desk."""

    what: str
    items: list[Item] = []


class Approval(msgspec.Struct, frozen=True):
    """The message that an order waits for."""

    by: str


class Do(Action):
    """Where an order goes."""

    WAIT = "wait"


class Take(Node[Order, list[str], Do | Complete | None]):
    """Counts the orders of its run, and does what they say."""

    def process(self, event: Event[Order], ctx: Context[list[str]]) -> Do | Complete | None:
        what = event.data.what
        if what == "refuse":
            raise Reject("there is no such thing")
        ctx.state.append(what)
        if what == "quiet":
            return None
        ctx.reply({"run": event.key, "count": len(ctx.state), "items": len(event.data.items)})
        if what == "wait":
            return Do.WAIT
        return Complete({"count": len(ctx.state)}) if what == "finish" else None


def decide(event: Event[Approval], ctx: Context) -> Complete | None:
    """The order is through, unless nobody has approved it."""
    ctx.reply({"approved": event.data.by})
    return Complete({"by": event.data.by}) if event.data.by != "nobody" else None


workflow = Workflow("orders", partitions=4)
requests = workflow.source(RequestSource[Any](Order))
approvals = workflow.source(MessageSource("approval", Approval))
approval = workflow.wait(approvals, timeout=timedelta(hours=2))
take = workflow.node(Take(), name="take")
requests.to(take)
take.on(Do.WAIT).to(approval)
approval.to(workflow.node(decide))
