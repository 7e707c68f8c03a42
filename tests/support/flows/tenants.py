"""A workflow whose callers are of several tenants; its sources take keys in every way that there is."""

import msgspec

from headrace import Action, Complete, Context, Event, MessageSource, Node, Reject, RequestSource, Workflow


class Order(msgspec.Struct, frozen=True):
    """What is sent."""

    order: str = ""
    what: str = "count"


class Approval(msgspec.Struct, frozen=True):
    """The message that an order waits for."""

    by: str


class Do(Action):
    """Where an order goes."""

    WAIT = "wait"


class Take(Node[Order, list[str], Do | None]):
    """Counts the orders of its run."""

    def process(self, event: Event[Order], ctx: Context[list[str]]) -> Do | None:
        if event.data.what == "refuse":
            raise Reject("there is no such thing")
        ctx.state.append(event.data.what)
        ctx.reply({"key": event.key, "count": len(ctx.state)})
        return Do.WAIT if event.data.what == "wait" else None


def decide(event: Event[Approval], ctx: Context) -> Complete:
    """The order is through."""
    ctx.reply({"approved": event.data.by})
    return Complete({"by": event.data.by})


workflow = Workflow("orders", partitions=4)
take = workflow.node(Take(), name="take")
for source in (
    RequestSource(Order),
    RequestSource(Order, name="by_field", key="order"),
    RequestSource(Order, name="by_function", key=lambda data: data.order),
):
    workflow.source(source).to(take)
approval = workflow.wait(workflow.source(MessageSource("approval", Approval)))
take.on(Do.WAIT).to(approval)
approval.to(workflow.node(decide))
