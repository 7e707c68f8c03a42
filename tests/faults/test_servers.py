"""F4, F5: store or broker is killed and away for a while; processing pauses, goes on, and nobody is replaced."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import CACHE, Broker, Choice, Topics
from headrace.actors.local_ray import LocalRay
from headrace.embedded import ApacheKafka, Valkey
from proxy import Proxy
from rig import Rig, run
from waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def rig(ray_cluster: LocalRay, own_kafka: Broker, own_valkey: Valkey, tmp_path: Path) -> Iterator[Rig]:
    topics = Topics(own_kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    with Rig(tmp_path, own_kafka.bootstrap, own_valkey.url, readings, alerts) as rig:
        yield rig


def test_F04_the_store_is_killed_and_away_for_longer_than_a_lease_lasts(rig: Rig, own_valkey: Valkey) -> None:
    before = {row.name: row.pid for row in rig.ready().roles}
    rig.load.send(3_000)
    rig.wait_for_commits([2, 2, 2, 2])
    with rig.load:
        own_valkey.kill()
        until(lambda: problem(rig, "store_unreachable"), "the store is named as away")
        away = rig.status().time
        until(lambda: rig.status().time > away + rig.deployment.lease_ttl + 2, "every lease would have lapsed")
        own_valkey.start()
        rig.wait_for_commits(run(rig.sequences()))

    rig.check()
    assert {row.name: row.pid for row in rig.ready().roles} == before
    until(lambda: not rig.status().problems, "nothing is wrong any more")


@pytest.mark.parametrize("replaced", [False, True], ids=["same owner", "owner replaced meanwhile"])
def test_F04_the_store_loses_its_last_seconds(rig: Rig, own_valkey: Valkey, tmp_path: Path, replaced: bool) -> None:
    with rig.load:
        rig.ready()
        rig.wait_for_commits([5, 5, 5, 5])
        shutil.copytree(own_valkey.folder, tmp_path / "earlier")
        rig.wait_for_commits([sequence + 5 for sequence in run(rig.sequences())])
        if replaced:
            rig.hit("worker/0")

        own_valkey.kill()
        shutil.rmtree(own_valkey.folder)
        shutil.copytree(tmp_path / "earlier", own_valkey.folder)
        own_valkey.start()
        rig.wait_for_commits([sequence + 5 for sequence in run(rig.sequences())])

    rig.check(repeats=True)
    until(lambda: not rig.status().problems, "nothing is wrong any more")


def test_F05_the_broker_is_killed_in_the_middle(rig: Rig, own_kafka: Broker) -> None:
    before = {row.name: row.pid for row in rig.ready().roles}
    rig.load.send(20_000)
    rig.wait_for_commits([2, 2, 2, 2])

    own_kafka.kill()
    until(lambda: problem(rig, "kafka_unreachable") or problem(rig, "relay_blocked"), "the broker is named as away")
    own_kafka.start()

    rig.check()
    assert {row.name: row.pid for row in rig.ready().roles} == before
    until(lambda: not rig.status().problems, "nothing is wrong any more")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def rig_behind(
    ray_cluster: LocalRay, broker_choice: Choice, own_valkey: Valkey, proxy: Proxy, tmp_path: Path
) -> Iterator[Rig]:
    """All that reaches the broker goes through the proxy."""
    if broker_choice.broker is not ApacheKafka:
        pytest.skip("only Apache Kafka can advertise another address than its own")
    options = {"advertised.listeners": f"PLAINTEXT://{proxy.address}"}
    with ApacheKafka(cache=CACHE, folder=tmp_path / "kafka", port=proxy.target, options=options):
        topics = Topics(proxy.address)
        readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
        with Rig(tmp_path, proxy.address, own_valkey.url, readings, alerts) as rig:
            yield rig


def test_F05_the_way_to_the_broker_is_cut_for_30_seconds(rig_behind: Rig, proxy: Proxy) -> None:
    rig = rig_behind
    before = {row.name: row.pid for row in rig.ready().roles}
    rig.load.send(20_000)
    rig.wait_for_commits([2, 2, 2, 2])

    proxy.cut()
    cut_at = time.monotonic()
    until(lambda: problem(rig, "kafka_unreachable"), "the broker is named as away", within=15)
    until(lambda: time.monotonic() - cut_at > 30, "30 seconds have passed", within=40)
    standing = run(rig.sequences())
    proxy.heal()
    rig.load.send(2_000)
    rig.wait_for_commits(standing)

    rig.check()
    assert {row.name: row.pid for row in rig.ready().roles} == before, "nobody was replaced for it"
    until(lambda: not rig.status().problems, "nothing is wrong any more")


def problem(rig: Rig, word: str) -> str | None:
    """The sentence of a problem that stands."""
    return next((row.sentence for row in rig.status().problems if row.word == word), None)
