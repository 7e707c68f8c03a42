"""Outputs to a real broker: where they land, what is refused, and what happens when nobody takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from brokers import Broker, Topics
from headrace.embedded.ports import free_port
from headrace.sources.kafka import KafkaSink
from headrace.sources.kafka_metadata import ensure_topics
from headrace.sources.kafka_sink import KafkaOutput, SinkUnavailable
from headrace.sources.outlet import Portion
from headrace.workflows.commit import Output
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SinkPlan
from kafka_reading import plain


def plan_of(topic: str, index: int = 0) -> SinkPlan:
    return SinkPlan(index=index, name=topic, sink=KafkaSink(topic, dict), type=0)


def output(number: int, *, key: str = "s1", data: bytes | None = None, sink: int = 0) -> Output:
    return Output(sink, f"readings/0@{number}:0", key, 1_700_000_000_000 + number, data or b"%d" % number)


def portions(outputs: Sequence[Output]) -> dict[int, Portion]:
    """All of them as one partition's."""
    return {0: Portion(outputs, len(outputs))}


async def read(bootstrap: str, topic: str, partitions: int = 1) -> Mapping[int, list[ConsumerRecord]]:
    """All that lies in the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found: dict[int, list[ConsumerRecord]] = {number: [] for number in range(partitions)}
        while got := await consumer.getmany(timeout_ms=700):
            for place, records in got.items():
                found[place.partition] += records
        return found
    finally:
        await consumer.stop()


async def test_an_output_carries_key_time_data_and_id(kafka: Broker, topic: Topics) -> None:
    name = topic()
    sink = KafkaOutput([plan_of(name)], connection=plain(kafka.bootstrap))

    assert await sink.send(portions([output(7, key="kitchen", data=b'{"hot":true}')])) == []
    await sink.close()

    (record,) = (await read(kafka.bootstrap, name))[0]
    assert (record.key, record.value, record.timestamp) == (b"kitchen", b'{"hot":true}', 1_700_000_000_007)
    assert record.headers == (("headrace-id", b"readings/0@7:0"),)


async def test_an_output_may_have_headers_and_no_value(kafka: Broker, topic: Topics) -> None:
    name = topic()
    sink = KafkaOutput([plan_of(name)], connection=plain(kafka.bootstrap))
    tombstone = Output(0, "e/1", "kitchen", 1_700_000_000_000, None, (("traceparent", b"00-1"), ("ce_id", b"\xff")))

    assert await sink.send(portions([tombstone, output(8)])) == []
    await sink.close()

    first, second = (await read(kafka.bootstrap, name))[0]
    assert (first.key, first.value, second.value) == (b"kitchen", None, b"8")
    assert first.headers == (("headrace-id", b"e/1"), ("traceparent", b"00-1"), ("ce_id", b"\xff"))


async def test_keys_choose_partitions_as_kafkas_own_clients_do_and_keep_their_order(
    kafka: Broker, topic: Topics
) -> None:
    name = topic(partitions=3)
    sink = KafkaOutput([plan_of(name)], connection=plain(kafka.bootstrap))
    for first in (0, 100):
        await sink.send(portions([output(number, key=f"s{number % 7}") for number in range(first, first + 100)]))
    await sink.close()

    found = await read(kafka.bootstrap, name, 3)

    assert sum(map(len, found.values())) == 200
    for number, records in found.items():
        assert {partition_of(record.key, 3) for record in records} <= {number}
        assert [int(record.value) for record in records] == sorted(int(record.value) for record in records)


async def test_what_is_too_large_is_refused_alone(kafka: Broker, topic: Topics) -> None:
    if not kafka.transactions:
        pytest.skip("this broker has no limit")
    name = topic(max_message_bytes="20000")
    sink = KafkaOutput([plan_of(name)], connection=plain(kafka.bootstrap))
    outputs = [output(number) for number in range(6)]
    outputs[3] = output(3, data=bytes(50_000))

    refused = await sink.send(portions(outputs))
    assert await sink.send(portions([output(6)])) == []
    await sink.close()

    assert [one.output for one in refused] == [outputs[3]]
    assert "error 10" in refused[0].error
    assert [record.value for record in (await read(kafka.bootstrap, name))[0]] == [b"0", b"1", b"2", b"4", b"5", b"6"]


async def test_a_topic_that_does_not_exist_refuses_and_others_go_on(kafka: Broker, topic: Topics) -> None:
    name = topic()
    sink = KafkaOutput([plan_of(name), plan_of(name + "-gone", 1)], connection=plain(kafka.bootstrap))

    refused = await sink.send(portions([output(0), output(1, sink=1), output(2)]))
    await sink.close()

    assert [one.output.id for one in refused] == ["readings/0@1:0"]
    assert "does not exist" in refused[0].error
    assert [record.value for record in (await read(kafka.bootstrap, name))[0]] == [b"0", b"2"]


async def test_a_broker_that_is_away_is_an_error_to_try_again() -> None:
    address = f"127.0.0.1:{free_port()}"
    sink = KafkaOutput([plan_of("alerts")], connection=plain(address))

    with pytest.raises(SinkUnavailable) as unavailable:
        await sink.send(portions([output(0)]))
    await sink.close()

    assert unavailable.value.address == address


async def test_outputs_sent_again_after_a_restart_arrive_with_the_same_id(own_kafka: Broker) -> None:
    if not own_kafka.transactions:
        pytest.skip("this broker forgets its topics at a restart")
    await ensure_topics(plain(own_kafka.bootstrap), {"alerts": 1})
    sink = KafkaOutput([plan_of("alerts")], connection=plain(own_kafka.bootstrap))
    await sink.send(portions([output(0)]))

    own_kafka.kill()
    with pytest.raises(SinkUnavailable):
        await sink.send(portions([output(1)]))
    await asyncio.to_thread(own_kafka.restart)
    assert await sink.send(portions([output(1)])) == []
    await sink.close()

    ids = [dict(record.headers)["headrace-id"] for record in (await read(own_kafka.bootstrap, "alerts"))[0]]
    assert sorted(set(ids)) == [b"readings/0@0:0", b"readings/0@1:0"]
