# Formats, decoders and tombstones: what a source gives follows from its options.
from datetime import datetime

import msgspec

from headrace import Context, Decoder, Event, KafkaRecord, KafkaSource, Tombstone, Workflow


class Order(msgspec.Struct, frozen=True):
    id: str
    at: datetime


class Parcel(msgspec.Struct, frozen=True):
    id: str


class ReadsOrders(Decoder[Order]):
    def decode(self, record: KafkaRecord) -> Order:
        return msgspec.msgpack.decode(record.value, type=Order)


def read_order(record: KafkaRecord) -> Order:
    return msgspec.json.decode(record.value, type=Order)


def read_parcel(record: KafkaRecord) -> Parcel:
    return Parcel(record.topic)


def count(event: Event[Order], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data.id)


def note(event: Event[Order | Tombstone], ctx: Context[list[str]]) -> None:
    match event.data:
        case Tombstone():
            ctx.state.clear()
        case order:
            ctx.state.append(order.id)


def ship(event: Event[Parcel], ctx: Context) -> None: ...


workflow = Workflow("formats")
counting, noting, shipping = workflow.node(count), workflow.node(note), workflow.node(ship)
packed = workflow.source(KafkaSource("packed", Order, key="id", format="msgpack", time="at"))
decoded = workflow.source(KafkaSource("decoded", Order, key=lambda order: order.id, decoder=ReadsOrders()))
by_function = workflow.source(KafkaSource("by-function", Order, time=lambda order: order.at, decoder=read_order))
deleted = workflow.source(KafkaSource("deleted", Order, key=lambda order: order.id, tombstones="deliver"))
packed.to(counting)
decoded.to(counting)
by_function.to(counting)
deleted.to(noting)
