"""A deployment that is not started: workers of it are run as plain processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import cluster_rig
from brokers import Broker, Choice, Topics
from cluster_rig import ClusterRig
from headrace.actors.local_ray import LocalRay
from headrace.embedded import ApacheKafka, Valkey
from rig import Rig
from rigs import Fuse

PATIENCE: Final = 240.0
"""Seconds, on a machine that others use, too."""


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


@pytest.fixture
def patient_rig_of(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Fuse], ClusterRig]]:
    """Makes rigs that wait for as long as four processes take to start, one after the other and without a spare."""
    monkeypatch.setattr(cluster_rig, "WITHIN", PATIENCE)
    rigs: list[ClusterRig] = []

    def make(fuse: Fuse) -> ClusterRig:
        rigs.append(ClusterRig(kafka.bootstrap, redis_url, topic, fuse))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.stop()
