"""`headrace keys` as typed, and a gateway that others would reach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Start, commands_in, said
from headrace.gateway.serving import listen
from headrace.gateway.settings import GatewayOptionError, GatewaySettings, gateway_settings


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments."""
    with commands_in(tmp_path, "") as start:
        yield start


def test_a_key_is_shown_once_listed_and_taken_back(start: Start, redis_url: str) -> None:
    redis = ("--redis", redis_url)
    made = said(
        start, "keys", "create", "shop", "--tenant", "acme", "--scope", "write", "--workflow", "orders",
        "--workflow", "returns", "--expires", "90d", "--rate", "100/s", *redis,
    )  # fmt: skip
    key = made.strip().splitlines()[-1]
    (row,) = json.loads(said(start, "keys", "list", "-o", "json", *redis))

    assert key.startswith(f"hr_{row['id']}_")
    assert (row["name"], row["tenant"], row["rate"]) == ("shop", "acme", "100/s")
    assert row["scopes"] == ["write:orders", "write:returns"]
    assert row["expires"] - row["created"] == 90 * 86_400_000
    listed = said(start, "keys", "list", *redis)
    assert "acme" in listed
    assert key.rpartition("_")[2] not in listed

    said(start, "keys", "revoke", row["id"], *redis)
    assert "There are no keys" in said(start, "keys", "list", *redis)
    assert "no key with this id" in said(start, "keys", "revoke", row["id"], *redis, code=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tenant", "a:b"), "no name of a tenant"),
        (("--scope", "all"), "no scope 'all'"),
        (("--rate", "often"), "is no rate"),
        (("--expires", "soon"), "no length of time"),
        (("--expires", "0s"), "expired already"),
    ],
)
def test_a_key_that_can_not_be_is_not_made(start: Start, redis_url: str, options: tuple[str, str], words: str) -> None:
    assert words in said(start, "keys", "create", "shop", *options, "--redis", redis_url, code=2)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "gateway.test"])
def test_others_reach_a_gateway_only_if_that_was_thought_of(host: str) -> None:
    with pytest.raises(GatewayOptionError, match="headrace keys create") as error:
        listen(GatewaySettings(host=host, port=0))

    assert error.value.option == "authentication"


@pytest.mark.parametrize("table", [
    {"host": "127.0.0.1"}, {"host": "localhost"}, {"host": "127.9.9.9"},
    {"host": "0.0.0.0", "authentication": "required"}, {"host": "0.0.0.0", "authentication": "none"},
])  # fmt: skip
def test_what_was_thought_of_is_served(table: dict[str, str]) -> None:
    with listen(gateway_settings({**table, "port": 0})) as found:
        assert found.getsockname()[1] > 0


@pytest.mark.parametrize("text", ["often", "0/s", "1/0s", "1/2d", "-1/s", "1/s ", "1 / s"])
def test_a_rate_that_can_not_be_is_named(text: str) -> None:
    with pytest.raises(GatewayOptionError, match=r"gateway\.rate: .* is no rate"):
        gateway_settings({"rate": text})
