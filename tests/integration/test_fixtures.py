"""What the fixtures promise to the tests that use them."""

from __future__ import annotations

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer

from brokers import Broker, Choice, Topics, choose
from headrace.embedded import Valkey


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_each_test_has_an_empty_database(redis_client: redis.asyncio.Redis, redis_url: str, turn: str) -> None:
    assert not redis_url.endswith("/0"), "that one is the cluster's"
    assert await redis_client.dbsize() == 0
    await redis_client.set("turn", turn)


async def test_a_topic_has_the_partitions_asked_for(kafka: Broker, topic: Topics) -> None:
    readings, alerts = topic(partitions=3, name="readings"), topic(name="readings")
    consumer = AIOKafkaConsumer(readings, alerts, bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        assert consumer.partitions_for_topic(readings) == {0, 1, 2}
        assert consumer.partitions_for_topic(alerts) == {0}
    finally:
        await consumer.stop()


def test_servers_of_ones_own_are_others_than_the_sessions(
    valkey: Valkey, own_valkey: Valkey, kafka: Broker, own_kafka: Broker
) -> None:
    own_valkey.kill()
    own_kafka.kill()

    assert valkey.running
    assert kafka.running


def test_the_session_runs_against_the_broker_that_it_names(kafka: Broker, broker_choice: Choice) -> None:
    assert broker_choice.sentence.startswith(kafka.name)


def test_a_broker_can_be_forced() -> None:
    assert choose({"HEADRACE_TEST_BROKER": "tansu"}).broker.kind == "tansu"
    with pytest.raises(pytest.UsageError, match="give apache or tansu"):
        choose({"HEADRACE_TEST_BROKER": "redpanda"})
