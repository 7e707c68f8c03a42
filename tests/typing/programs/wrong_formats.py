# Wrong options of sources: each of the last six lines is refused by both checkers.
from formats import Order, Parcel, ReadsOrders, counting, deleted, read_parcel, shipping, workflow

from headrace import KafkaSource

KafkaSource("parcels", Parcel, decoder=ReadsOrders())
workflow.source(KafkaSource("parcels", Order, decoder=read_parcel)).to(counting)
KafkaSource("orders", Order, format="xml")
KafkaSource("orders", Order, tombstones="keep")
KafkaSource("orders", Order, key=lambda order: order.customer)
deleted.to(counting, shipping)
