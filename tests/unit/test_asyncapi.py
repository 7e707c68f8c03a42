"""The AsyncAPI document: topics of workflows, what lies in them, and which way it goes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headrace import Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.gateway.asyncapi import asyncapi_of
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.store import WorkflowDescriptor


class Item(msgspec.Struct, frozen=True):
    price: float


class Order(msgspec.Struct, frozen=True):
    id: str
    items: list[Item]


class Bill(msgspec.Struct, frozen=True):
    order: str


def described(name: str = "orders", source: Any = None, sink: Any = None) -> WorkflowDescriptor:
    workflow = Workflow(name)

    def bill(event: Event[Order], ctx: Context) -> Bill:
        return Bill(event.data.id)

    node = workflow.node(bill)
    workflow.source(source or KafkaSource("orders", Order, key="id")).to(node)
    node.to(workflow.sink(sink or KafkaSink("bills", Bill)))
    return descriptor_of(workflow.compile(), 4, "7")


def resolved(document: Any, reference: dict[str, str]) -> Any:
    for part in reference["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_topics_of_sources_and_sinks_are_channels_with_the_types_of_their_data() -> None:
    document = asyncapi_of([described()], "1.0")

    assert (document["asyncapi"], document["info"]["version"]) == ("3.0.0", "7")
    assert {row["address"] for row in document["channels"].values()} == {"orders", "bills"}
    ways = {(row["action"], resolved(document, row["channel"])["address"]) for row in document["operations"].values()}
    assert ways == {("receive", "orders"), ("send", "bills")}
    reads = document["operations"]["orders.receive.orders"]
    message = resolved(document, resolved(document, reads["messages"][0]))
    assert (message["name"], message["contentType"]) == ("Order", "application/json")
    schema = resolved(document, message["payload"])
    assert resolved(document, schema)["required"] == ["id", "items"]


def test_every_reference_leads_somewhere() -> None:
    def references(part: Any) -> list[dict[str, str]]:
        if isinstance(part, dict):
            own = [part] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    document = asyncapi_of([described()], "1.0")

    assert len(references(document)) > 6
    for reference in references(document):
        resolved(document, reference)


def test_a_topic_between_two_workflows_is_one_channel() -> None:
    first = described(sink=KafkaSink("between", Bill))
    second = described("billing", source=KafkaSource("between", Order, key="id"))

    document = asyncapi_of([first, second], "1.0")

    between = next(row for row in document["channels"].values() if row["address"] == "between")
    assert sorted(between["messages"]) == ["billing.receive.between", "orders.send.between"]
    assert document["info"] == {**document["info"], "title": "Headrace", "version": "1.0"}


def test_topics_of_one_name_on_two_clusters_are_two_channels() -> None:
    document = asyncapi_of([described(sink=KafkaSink("orders", Bill, cluster="far", name="out"))], "1.0")

    assert [row["address"] for row in document["channels"].values()] == ["orders", "orders"]


def test_names_that_documents_may_not_have_stay_apart() -> None:
    rows = [
        described(name, source=KafkaSource(re.compile(pattern), Order, key="id", name="all"))
        for name, pattern in (("w1", "a+"), ("w2", "a?"))
    ]

    document = asyncapi_of(rows, "1.0")

    assert [row["address"] for row in document["channels"].values()].count(None) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in (*document["channels"], *document["operations"]))


def test_a_pattern_has_no_address_and_a_format_of_its_own_no_schema() -> None:
    source = KafkaSource(re.compile("orders-.*"), Order, key="id", name="all")
    sink = KafkaSink("bills", Bill, encoder=lambda bill: bill.order.encode())

    document = asyncapi_of([described(source=source, sink=sink)], "1.0")

    channel = next(row for row in document["channels"].values() if row["address"] is None)
    assert "orders-.*" in channel["description"]
    message = document["components"]["messages"]["orders.send.bills"]
    assert "payload" not in message
    assert "contentType" not in message
