# Formats, decoders and tombstones: what a source gives follows from its options.
from datetime import datetime

import msgspec

from headrace import (
    CloudEvents,
    Context,
    Decoder,
    Encoder,
    Event,
    KafkaRecord,
    KafkaSink,
    KafkaSource,
    Tombstone,
    Workflow,
)
from headrace.avro import AvroDecoder, AvroEncoder
from headrace.registry import SchemaRegistry


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
registry = SchemaRegistry("http://registry:8081")
counting, noting, shipping = workflow.node(count), workflow.node(note), workflow.node(ship)
packed = workflow.source(KafkaSource("packed", Order, key="id", format="msgpack", time="at"))
decoded = workflow.source(KafkaSource("decoded", Order, key=lambda order: order.id, decoder=ReadsOrders()))
by_function = workflow.source(KafkaSource("by-function", Order, time=lambda order: order.at, decoder=read_order))
deleted = workflow.source(KafkaSource("deleted", Order, key=lambda order: order.id, tombstones="deliver"))
decoded.to(counting)
by_function.to(counting)


class WritesOrders(Encoder[Order]):
    def encode(self, data: Order) -> bytes:
        return msgspec.msgpack.encode(data)


def write_order(data: Order) -> bytes:
    return data.id.encode()


def forward(event: Event[Order], ctx: Context) -> Order | Tombstone:
    return Tombstone()


forwarding = workflow.node(forward)
encoded = workflow.sink(KafkaSink("encoded", Order, encoder=WritesOrders(), key=lambda order: order.id))
written = workflow.sink(KafkaSink("written", Order, encoder=write_order, headers=["tenant"]))
clouds = workflow.sink(KafkaSink("clouds", Order, format=CloudEvents(type="order", mode="structured")))
kept = workflow.sink(KafkaSink("kept", Order, format="msgpack", tombstones=True))
packed.to(counting, encoded, written, clouds, kept)
deleted.to(noting, kept)
forwarding.to(kept)
avro = workflow.source(KafkaSource("avro", Order, key="id", decoder=AvroDecoder(Order, registry)))
out = workflow.sink(KafkaSink("out", Order, encoder=AvroEncoder(Order, registry, schema="{}", subject="out-value")))
avro.to(counting, out)
