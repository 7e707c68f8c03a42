"""Which outlet takes which output, and how many sinks are known to deliver exactly once."""

from __future__ import annotations

from typing import Any

from headrace import KafkaSink, KafkaSource, Workflow
from headrace.actors.outlets import make_outlets
from headrace.actors.spec import CodeRef, Deployment
from headrace.sources.kafka_sink import KafkaOutput
from headrace.sources.kafka_transactions import KafkaTransactions
from headrace.workflows.commit import Output


async def test_sinks_of_a_cluster_share_an_outlet_for_each_way_of_delivery() -> None:
    workflow = Workflow("telling", partitions=2)
    lines = workflow.source(KafkaSource("lines", str))
    sinks = [KafkaSink("once", str), KafkaSink("often", str, delivery="at-least-once"), KafkaSink("also-once", str)]
    lines.to(*(workflow.sink(sink) for sink in sinks))
    code = CodeRef(folder=".", module="telling", version="1")
    deployment = Deployment(
        workflow="telling", code=code, redis_url="", partitions=2, kafka={"bootstrap_servers": "localhost:9092"}
    )
    no_store: Any = None

    outlets = make_outlets(workflow.compile(), deployment, no_store)

    once, often, also_once = (outlets.all[outlets.index_of(Output(index, "i", "k", 0, b""))] for index in range(3))
    assert once is also_once
    assert isinstance(once, KafkaTransactions)
    assert isinstance(often, KafkaOutput)
    assert outlets.counters() == {"sinks_at_least_once": 1}, "as long as the broker has not answered"
    once.exactly_once = True
    assert outlets.counters() == {"sinks_exactly_once": 2, "sinks_at_least_once": 1}
    once.exactly_once = False
    assert outlets.counters() == {"sinks_at_least_once": 3}
