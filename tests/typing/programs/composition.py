"""A workflow as a node of another one, and a function over the items of an event."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    Failure,
    KafkaSink,
    KafkaSource,
    Map,
    Mapped,
    Timeout,
    Workflow,
)


class Order(msgspec.Struct, frozen=True):
    number: str
    articles: list[str]


class Total(msgspec.Struct, frozen=True):
    cents: int


def charge(event: Event[Order], ctx: Context) -> Complete | None:
    return Complete(len(event.data.articles)) if event.data.articles else None


def payments() -> Workflow:
    workflow = Workflow("payments")
    workflow.source(ChannelSource(Order, capacity=10, key="number")).to(workflow.node(charge))
    return workflow


async def price(event: Event[str], ctx: Context) -> int:
    return len(event.data)


def known_price(event: Event[str], ctx: Context) -> int:
    return len(event.data)


def lines_of(order: Order) -> list[str]:
    return order.articles


def add(event: Event[Mapped[Order, int]], ctx: Context) -> Total:
    return Total(sum(cents for cents in event.data.results if cents is not None) + len(event.data.data.articles))


def add_all(event: Event[Mapped[list[str], int]], ctx: Context) -> Total:
    return Total(len(event.data.data) - len(event.data.failures))


def receipt(event: Event[Complete], ctx: Context) -> Total:
    return Total(event.data.result)


def refund(event: Event[Failure], ctx: Context) -> Total:
    return Total(-len(event.data.error))


def remind(event: Event[Timeout], ctx: Context) -> Total:
    return Total(event.data.after.seconds)


workflow = Workflow("shop")
orders = workflow.source(KafkaSource("orders", Order, key="number"))
texts = workflow.source(KafkaSource("texts", list[str], key=lambda data: data[0]))
totals = workflow.sink(KafkaSink("totals", Total))
pay = workflow.node(payments(), name="pay", renamed_from="checkout", timeout=timedelta(hours=1))
receipts, refunds, reminders = workflow.node(receipt), workflow.node(refund), workflow.node(remind)
pricing = workflow.node(Map(price, Order, items=lines_of, concurrency=5), timeout=timedelta(seconds=5))
knowing = workflow.node(Map(known_price, Order, items=lambda order: order.articles))
pricing_all = workflow.node(Map(price, list[str]), name="all")
adding, adding_all = workflow.node(add), workflow.node(add_all)
orders.to(pay, pricing, knowing)
pay.on(Complete).to(receipts)
pay.on(Failure).to(refunds)
pay.on(Timeout).to(reminders)
pricing.to(adding)
knowing.to(adding)
texts.to(pricing_all)
pricing_all.to(adding_all)
for node in (receipts, refunds, reminders, adding, adding_all):
    node.to(totals)
