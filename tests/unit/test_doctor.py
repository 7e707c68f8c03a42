"""`headrace doctor`: each thing that a workflow needs is looked at, and what is wrong comes with a cure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from brokers import CACHE, Broker, Choice
from headrace.cli.app import app
from headrace.embedded import ApacheKafka, Valkey
from headrace.embedded.ports import free_port

Examined = Callable[..., dict[str, Any]]


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examined:
    """Calls `doctor -o json`; returns its checks by name, and its exit code as `code`."""
    monkeypatch.chdir(tmp_path)
    for name in ("HEADRACE_REDIS_URL", "HEADRACE_KAFKA"):
        monkeypatch.delenv(name, raising=False)

    def examined(*arguments: str) -> dict[str, Any]:
        said = CliRunner().invoke(app, ["doctor", "-o", "json", *arguments])
        answer = json.loads(said.stdout)
        assert answer["ok"] == (said.exit_code == 0)
        return {check["name"]: check for check in answer["checks"]} | {"code": said.exit_code}

    return examined


def test_without_addresses_only_this_machine_is_looked_at(examined: Examined) -> None:
    found = examined()

    assert found["code"] == 0
    assert "headrace " in found["versions"]["sentence"]
    assert [found[name]["outcome"] for name in ("Redis", "Kafka", "Ray")] == ["skip"] * 3


def test_servers_that_do_are_told_with_what_they_can(
    examined: Examined, redis_url: str, kafka: Broker, broker_choice: Choice
) -> None:
    found = examined("--redis", redis_url, "--kafka", kafka.bootstrap)

    assert found["code"] == 0
    assert "valkey" in found["Redis"]["sentence"]
    assert found["durability"]["outcome"] == "warn", "the session's Valkey does not sync at each write"
    assert "CONFIG SET appendfsync always" in found["durability"]["cure"]
    assert found["clocks"]["outcome"] == "ok"
    assert found["Kafka"]["sentence"].startswith("1 broker")
    transactions = found["Kafka transactions"]["outcome"]
    assert transactions == ("warn" if "Tansu" in broker_choice.sentence else "ok")


def test_a_store_that_syncs_can_do_fsync(examined: Examined, own_valkey: Valkey) -> None:
    assert examined("--redis", own_valkey.url)["durability"]["outcome"] == "ok"


def test_a_store_that_would_drop_state_fails_with_the_command_that_mends_it(
    examined: Examined, own_valkey: Valkey
) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    found = examined("--redis", own_valkey.url)

    assert (found["code"], found["Redis"]["outcome"]) == (1, "fail")
    assert "CONFIG SET maxmemory-policy noeviction" in found["Redis"]["cure"]


def test_a_level_that_is_asked_for_and_cannot_be_had_fails(examined: Examined, redis_url: str) -> None:
    Path("headrace.toml").write_text('durability = "fsync"\n')

    assert examined("--redis", redis_url)["durability"]["outcome"] == "fail"


@pytest.fixture
def sending_elsewhere(broker_choice: Choice, tmp_path: Path) -> Iterator[str]:
    """A broker that answers here, and sends its clients to where nobody is: as in a container without an own name."""
    if broker_choice.broker is not ApacheKafka:
        pytest.skip("needs a broker with several listeners")
    inside, outside, controller, nowhere = (f"127.0.0.1:{free_port()}" for _ in range(4))
    options = {
        "listeners": f"PLAINTEXT://{inside},OUTSIDE://{outside},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{inside},OUTSIDE://{nowhere}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.bootstrap.servers": controller,
    }
    port = int(inside.rpartition(":")[2])
    with ApacheKafka(cache=CACHE, folder=tmp_path / "kafka", port=port, options=options):
        yield outside


def test_a_broker_that_sends_its_clients_where_nobody_is_fails_with_the_setting_to_mend(
    examined: Examined, sending_elsewhere: str
) -> None:
    """Mechanism: that the address which was typed answers says nothing of the one that all clients use from then on."""
    found = examined("--kafka", sending_elsewhere)

    assert (found["code"], found["Kafka"]["outcome"], found["Kafka brokers"]["outcome"]) == (1, "ok", "fail")
    assert "broker 1 sends clients to 127.0.0.1:" in found["Kafka brokers"]["sentence"]
    assert "advertised.listeners" in found["Kafka brokers"]["cure"]


def test_servers_that_are_away_fail_without_stopping_the_rest(examined: Examined) -> None:
    port = free_port()

    found = examined(
        "--redis", f"redis://u:geheim@127.0.0.1:{port}/0", "--kafka", f"127.0.0.1:{port}",
        "--address", f"127.0.0.1:{port}",
    )  # fmt: skip

    assert found["code"] == 1
    assert [found[name]["outcome"] for name in ("Redis", "Kafka", "Ray")] == ["fail"] * 3
    assert f"127.0.0.1:{port}" in found["Ray"]["sentence"]
    assert "geheim" not in json.dumps(found)


def test_a_variable_that_is_nearly_a_setting_is_a_warning(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_REDIS", "redis://localhost")

    found = examined()

    assert (found["code"], found["settings"]["outcome"]) == (0, "warn")


def test_people_see_a_line_for_each_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    said = CliRunner().invoke(app, ["doctor"])

    assert said.stdout.splitlines()[0].startswith("ok    versions")
    assert said.stdout.splitlines()[-1] == "Nothing would keep a workflow from running."
