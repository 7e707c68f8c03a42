# Wrong options of sources and sinks: each of the last thirteen lines is refused by both checkers.
from formats import (
    Order,
    Parcel,
    ReadsOrders,
    WritesOrders,
    counting,
    deleted,
    encoded,
    forwarding,
    read_parcel,
    registry,
    shipping,
    workflow,
    write_order,
    written,
)

from headrace import KafkaSink, KafkaSource
from headrace.avro import AvroDecoder, AvroEncoder

KafkaSource("parcels", Parcel, decoder=ReadsOrders())
workflow.source(KafkaSource("parcels", Order, decoder=read_parcel)).to(counting)
KafkaSource("orders", Order, format="xml")
KafkaSource("orders", Order, tombstones="keep")
KafkaSource("orders", Order, key=lambda order: order.customer)
deleted.to(counting, shipping)
KafkaSink("parcels", Parcel, encoder=WritesOrders())
KafkaSink("parcels", Parcel, encoder=write_order)
KafkaSink("orders", Order, key=lambda order: order.customer)
forwarding.to(encoded)
deleted.to(written)
KafkaSource("parcels", Parcel, decoder=AvroDecoder(Order, registry))
KafkaSink("parcels", Parcel, encoder=AvroEncoder(Order, registry, schema="{}", subject="orders-value"))
workflow.source(KafkaSource("orders", Order), late="ignore").to(forwarding)
