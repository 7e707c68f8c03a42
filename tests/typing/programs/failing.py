"""Routes for failures: to nodes that take `Failure`, alone or among others, to sinks, to ends."""

from __future__ import annotations

import msgspec

from headrace import Complete, Context, Event, Failure, KafkaSink, KafkaSource, Node, Workflow


class Order(msgspec.Struct, frozen=True):
    id: str


class Refund(msgspec.Struct, frozen=True):
    order: str


def ship(event: Event[Order], ctx: Context) -> None: ...


class Refunding(Node[Failure, None, Refund]):
    def process(self, event: Event[Failure], ctx: Context) -> Refund:
        return Refund(event.data.read(Order).id)


def look(event: Event[Order | Failure], ctx: Context) -> Failure | None:
    return event.data if isinstance(event.data, Failure) else None


workflow = Workflow("failing")
orders = workflow.source(KafkaSource("orders", Order, key="id"))
refunds = workflow.sink(KafkaSink("refunds", Refund))
failures = workflow.sink(KafkaSink("failures", Failure))
shipping, refunding, looking = workflow.node(ship), workflow.node(Refunding()), workflow.node(look)
orders.to(shipping, looking)
shipping.on(Failure).to(refunding, looking, failures, Complete)
looking.to(failures)
refunding.to(refunds)
refunding.on(Failure).to(None)
