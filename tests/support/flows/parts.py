"""A workshop that takes orders over HTTP, with nodes of each kind: for those who have single ones executed."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from headrace import (
    Action,
    BatchNode,
    Complete,
    Context,
    Event,
    Map,
    MessageSource,
    Node,
    RequestSource,
    Workflow,
)  # fmt: skip


class Order(msgspec.Struct, frozen=True):
    """What is sent to the workshop."""

    what: str
    grams: int


class Approval(msgspec.Struct, frozen=True):
    """The message that an order waits for."""

    by: str


class Way(Action):
    """Where an order goes."""

    ASK = "ask"
    DROP = "drop"


class Prepare(Node[Order, int, Order]):
    """Counts the orders of its run, and writes into a stream; some orders it can't take."""

    async def process(self, event: Event[Order], ctx: Context[int]) -> Order:
        async with ctx.stream("notes") as notes:
            await notes.write(event.data.what)
        ctx.state += 1
        ctx.set_value("prepared", ctx.state)
        ctx.reply({"count": ctx.state})
        if event.data.what == "boom":
            raise ValueError("it does not hold")
        return Order(event.data.what, event.data.grams * ctx.state)


class Weigh(BatchNode[Order, int, Order]):
    """Adds the weight of the box."""

    def process(self, events: Sequence[Event[Order]], ctxs: Sequence[Context[int]]) -> list[Order]:
        return [Order(event.data.what, event.data.grams + 10 * len(events)) for event in events]


def judge(event: Event[Order], ctx: Context) -> Way:
    """Heavy orders need an approval."""
    return Way.ASK if event.data.grams > 50 else Way.DROP


def decide(event: Event[Approval], ctx: Context) -> Complete:
    """The order is through."""
    return Complete({"by": event.data.by})


def letters(event: Event[str], ctx: Context) -> int:
    """Of a name."""
    return len(event.data)


workflow = Workflow("parts", partitions=2)
requests = workflow.source(RequestSource[Any](Order))
approvals = workflow.source(MessageSource("approval", Approval))
approval = workflow.wait(approvals, timeout=timedelta(hours=2), name="approval")
prepare = workflow.node(Prepare(), name="prepare")
weigh = workflow.node(Weigh(), name="weigh")
judges = workflow.node(judge)
decides = workflow.node(decide)
spell = workflow.node(Map(letters, Order, items=lambda order: order.what.split()), name="spell")
requests.to(prepare)
prepare.to(weigh)
weigh.to(judges, spell)
spell.to(None)
judges.on(Way.ASK).to(approval)
judges.on(Way.DROP).to(None)
approval.to(decides)
workflow.fuse(judges, decides, spell)
