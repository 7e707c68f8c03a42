"""A deployment that is not started: workers of it are run as plain processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers import Broker, Choice, Topics
from headrace.embedded import ApacheKafka, Valkey
from rig import Rig


@pytest.fixture
def quiet_rig(kafka: Broker, topic: Topics, own_valkey: Valkey, tmp_path: Path) -> Rig:
    """Topics, a store and the workflow's file; all its nodes run in the worker."""
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    return Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, fuse=True)


@pytest.fixture(autouse=True)
def _needs_the_real_broker(request: pytest.FixtureRequest, broker_choice: Choice) -> None:
    """What is compared lies in Kafka's log, which Tansu loses when it is killed and whose end it tells wrongly."""
    if {"kafka", "own_kafka"} & set(request.fixturenames) and broker_choice.broker is not ApacheKafka:
        pytest.skip(f"needs Apache Kafka; this is {broker_choice.sentence}")
