"""Two workflows: the shop reads orders from a file and sends each on, billing adds them up by customer."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace import Context, CustomSource, Event, Record, Split, Workflow, WorkflowSink, WorkflowSource


class Order(msgspec.Struct, frozen=True):
    """What a customer orders."""

    number: int
    customer: str


class Orders(CustomSource[Order]):
    """Numbers of orders, one a line; position: how many lines are done."""

    delivery = "exactly-once"

    def open(self, split: str, position: str | None) -> Split[Order]:
        """All lines, from there on."""
        return OrdersOf(Path(__file__).with_name("orders.txt").read_text().split(), int(position or 0))


class OrdersOf(Split[Order]):
    """A few at a time."""

    def __init__(self, lines: list[str], row: int) -> None:
        self.lines, self.row = lines, row

    def read(self, limit: int) -> list[Record[Order]] | None:
        """At most seven, so that there are many epochs."""
        first, self.row = self.row, min(self.row + min(limit, 7), len(self.lines))
        numbers = [(int(self.lines[row]), row + 1) for row in range(first, self.row)]
        return [Record(Order(number, f"c{number % 11}"), position=str(after)) for number, after in numbers] or None


class Bill(msgspec.Struct):
    """How much was ordered."""

    count: int = 0


def sell(event: Event[Order], ctx: Context[Bill]) -> Order:
    """Take it down, and send it on."""
    ctx.state.count += 1
    return event.data


def bill(event: Event[Order], ctx: Context[Bill]) -> None:
    """Add it to the customer's bill."""
    ctx.state.count += 1


shop = Workflow("shop", partitions=4)
orders = shop.source(Orders(Order, name="orders", key=lambda order: f"desk {order.number % 5}"))
selling = shop.node(sell)
to_billing = shop.sink(WorkflowSink("billing", Order))
orders.to(selling)
selling.to(to_billing)

billing = Workflow("billing", partitions=3)
sold = billing.source(WorkflowSource(Order, key="customer"))
billed = billing.node(bill)
sold.to(billed)
