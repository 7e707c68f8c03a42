"""Metrics: of every process, by one address, in the words that documents and dashboard use."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from brokers import Broker, Topics
from documents import ROOT
from headrace.actors.deployments import put_deployment
from headrace.actors.local_ray import LocalRay
from headrace.actors.spec import CodeRef, Deployment
from headrace.actors.store_registry import Registry
from headrace.actors.supervise import Supervise
from headrace.embedded import Valkey
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.metrics.exposition import exposition
from headrace.metrics.lag import Lag, lags_of
from headrace.workflows.store import WorkflowDescriptor
from ledger import offline
from rig import Rig
from waiting import until, until_async

READINGS = 2_000
NODES = 3
"""Node processes of `ledger`: each leaves its numbers when it likes."""
DASHBOARD = ROOT / "deploy" / "grafana" / "headrace.json"
PAGE = ROOT / "docs" / "how-to" / "monitor.md"


def scrape(redis_url: str) -> list[Metric]:
    """All that Prometheus would get now."""

    async def ask() -> bytes:
        async with Registry(redis_url) as registry:
            return await exposition(registry, workflow="ledger")

    return list(text_string_to_metric_families(asyncio.run(ask()).decode()))


def samples_of(families: list[Metric]) -> list[Sample]:
    """The numbers alone."""
    return [sample for family in families for sample in family.samples]


def total(samples: list[Sample], name: str, **labels: str) -> float:
    """Sum of the samples of that name that have these labels."""
    return sum(row.value for row in samples if row.name == name and labels.items() <= row.labels.items())


@pytest.fixture(scope="module")
def rig(ray_cluster: LocalRay, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """`ledger` on three actors, after some readings."""
    topics = Topics(kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    folder = tmp_path_factory.mktemp("metrics")
    with Valkey() as server, Rig(folder, kafka.bootstrap, server.url, readings, alerts) as rig:
        rig.load.send(READINGS)
        rig.check()
        yield rig
    topics.remove()


@pytest.fixture(scope="module")
def families(rig: Rig) -> list[Metric]:
    """What they have left in the store once all is done."""

    def look() -> list[Metric] | None:
        found = scrape(rig.redis_url)
        samples = samples_of(found)
        nodes = {row.labels["process"] for row in samples if row.name == "headrace_replica_calls_total"}
        worked_off = total(samples, "headrace_events_total") == READINGS
        left = total(samples, "headrace_outputs_total") == total(samples, "headrace_outputs_delivered_total")
        return found if worked_off and left and len(nodes) >= NODES else None

    settled: list[Metric] = until(look, "the numbers of the last events are in the store")
    return settled


@pytest.fixture
def samples(families: list[Metric]) -> list[Sample]:
    """The numbers alone."""
    return samples_of(families)


@pytest.mark.cluster
def test_every_process_has_numbers(samples: list[Sample]) -> None:
    processes = {row.labels["process"] for row in samples if row.name == "process_resident_memory_bytes"}

    assert {"supervisor", "worker/0"} <= processes
    assert any(name.startswith("node/") for name in processes)
    assert {row.labels["workflow"] for row in samples} == {"ledger"}


@pytest.mark.cluster
def test_events_are_counted_by_node_and_outcome(rig: Rig, samples: list[Sample]) -> None:
    expected = asyncio.run(offline(rig.bootstrap, rig.readings))
    classified = sum(nodes["classify"]["count"] for nodes in expected.states.values())

    assert total(samples, "headrace_node_events_total", node="classify", outcome="ok") == classified
    assert total(samples, "headrace_node_events_total", outcome="error") == expected.dead["error"] > 0
    assert total(samples, "headrace_dead_letters_total", reason="decode") == expected.dead["decode"] > 0
    assert total(samples, "headrace_epoch_events_sum") == READINGS
    assert total(samples, "headrace_epoch_seconds_count") == total(samples, "headrace_epoch_events_count") > 0
    assert total(samples, "headrace_commit_seconds_count") > 0
    assert total(samples, "headrace_call_seconds_count") > 0
    assert total(samples, "headrace_outputs_total") == total(samples, "headrace_outputs_delivered_total") > 0


@pytest.mark.cluster
def test_what_the_page_and_the_dashboard_name_exists(rig: Rig, families: list[Metric], samples: list[Sample]) -> None:
    with (
        GatewayThread(rig.redis_url, GatewaySettings(port=0)) as gateway,
        urllib.request.urlopen(f"{gateway}/metrics", timeout=10) as answer,
    ):
        families = [*families, *text_string_to_metric_families(answer.read().decode())]
    ours = {family.name for family in families if family.name.startswith("headrace_")}

    dashboard = DASHBOARD.read_text()
    json.loads(dashboard)
    named = set(re.findall(r"\b(?:headrace|process)_[a-z_]+", dashboard))
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    exist = ours | counters | {row.name for row in samples}
    assert named - exist == set(), "the dashboard asks for what no process has"
    documented = {name.removesuffix("_total") for name in re.findall(r"`(headrace_[a-z_]+)", PAGE.read_text())}
    assert ours - documented == set(), "every metric is in the page"
    assert documented - ours == set(), "the page names what no process has"


@pytest.mark.cluster
async def test_the_status_has_the_lag_of_each_topic_partition(rig: Rig, samples: list[Sample]) -> None:
    async with Registry(rig.redis_url) as registry:
        status = await asyncio.to_thread(rig.ready)

        async def caught_up() -> list[Lag] | None:
            lags = await lags_of(registry, status)
            return None if any(lag.records for lag in lags) else lags

        lags = await until_async(caught_up, "processes have told of the last records: what they tell is seconds old")

    assert {(lag.source, lag.process, lag.records) for lag in lags} == {(rig.readings, "worker/0", 0)}
    assert sorted(lag.origin for lag in lags) == sorted(
        row.labels["origin"] for row in samples if row.name == "headrace_source_lag"
    )


@pytest.mark.cluster
def test_the_command_serves_them(rig: Rig, samples: list[Sample], tmp_path: Path) -> None:
    del samples  # they are there
    command = [
        sys.executable,
        "-m",
        "headrace",
        "metrics",
        "ledger",
        "--redis",
        rig.redis_url,
        "--listen",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path) as served:
        assert served.stdout is not None
        line = served.stdout.readline()
        address = line.split()[2].rstrip(";")
        with urllib.request.urlopen(address, timeout=10) as answer:
            page = answer.read().decode()
        served.send_signal(signal.SIGTERM)
        assert served.wait(10) == 0

    assert 'headrace_events_total{process="worker/0",workflow="ledger"} 2000.0' in page


async def test_who_looks_after_a_ray_cluster_has_numbers_too(redis_url: str) -> None:
    stopped = asyncio.Event()
    async with Registry(redis_url) as registry:
        await registry.publish_workflow(WorkflowDescriptor(name="orders", partitions=1))
        code = CodeRef(folder="", module="flow", version="1")
        await put_deployment(
            registry, Deployment(workflow="orders", code=code, redis_url=redis_url, partitions=1, cluster="eu")
        )

        async def page() -> list[Sample]:
            text = (await exposition(registry)).decode()
            return [row for row in samples_of(list(text_string_to_metric_families(text))) if "cluster" in row.labels]

        assert [(row.name, row.value) for row in await page()] == [("headrace_supervise_up", 0)]
        looking = asyncio.create_task(Supervise("127.0.0.1:1", redis_url, "eu").run(stopped))
        found = await until_async(lambda: told(page, "headrace_supervise_looks_total"), "it has looked")
        stopped.set()
        await looking

    assert (
        found["headrace_supervise_up"] == found["headrace_supervise_watched"] == found["headrace_supervise_lost"] == 1
    )
    assert abs(found["headrace_supervise_last_look_timestamp_seconds"] - time.time()) < 60
    assert found["headrace_supervise_revived_total"] == found["headrace_supervise_failures_total"] == 0


async def told(page: Callable[[], Awaitable[list[Sample]]], name: str) -> dict[str, float] | None:
    """All numbers, once one of that name is above zero."""
    numbers = {row.name: row.value for row in await page()}
    return numbers if numbers.get(name) else None
