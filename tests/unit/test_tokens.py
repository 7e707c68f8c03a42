"""JSON Web Tokens: only what the issuer has signed, for this audience, in time, and in a way that is allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.gateway import token_keys
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewayOptionError, gateway_settings
from headrace.gateway.tokens import InvalidToken, Tokens
from issuing import AUDIENCE, FORGED, ISSUER, KEY, OTHER, Issuer, settings_for, signed
from waiting import until_async


async def test_a_token_says_who_asks(tmp_path: Path) -> None:
    found = await Tokens(settings_for(tmp_path)).principal(signed(scope="read write:orders profile"))

    assert (found.tenant, found.name) == ("acme", "token of ann")
    assert found.scopes == {"read", "write:orders"}
    assert found.may("write", "orders")
    assert not found.may("write", "others")


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
async def test_a_token_that_does_not_count(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        await Tokens(settings_for(tmp_path)).principal(token)

    assert token not in str(refused.value) or len(token) < 4


async def test_clocks_may_be_some_seconds_apart(tmp_path: Path) -> None:
    assert await Tokens(settings_for(tmp_path)).principal(signed(exp=int(time.time()) - 10))
    with pytest.raises(InvalidToken, match="expired"):
        await Tokens(settings_for(tmp_path, jwt_leeway_seconds=0)).principal(signed(exp=int(time.time()) - 10))


async def test_a_secret_that_the_issuer_shares() -> None:
    table = {"jwt_secret": "s" * 32, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    tokens = Tokens(gateway_settings(table))

    assert (await tokens.principal(signed("s" * 32, "HS256"))).tenant == "default"
    with pytest.raises(InvalidToken):
        await tokens.principal(signed("t" * 32, "HS256"))
    with pytest.raises(InvalidToken):
        await tokens.principal(signed(KEY))


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"jwt_issuer": ""}, "jwt_issuer"),
        ({"jwt_audience": ""}, "jwt_audience"),
        ({"jwt_secret": "s" * 32}, "jwt_secret"),
        ({"jwt_public_key": "", "jwt_secret": "short"}, "jwt_secret"),
        ({"jwt_public_key": "", "jwt_secret": "env:NOWHERE_TO_BE_FOUND"}, "jwt_secret"),
        ({"jwt_public_key": "no pem"}, "jwt_public_key"),
        ({"jwt_public_key": "", "jwt_jwks_url": "http://issuer.test/keys"}, "jwt_jwks_url"),
        ({"jwt_algorithms": "HS256"}, "jwt_algorithms"),
        ({"jwt_algorithms": "none"}, "jwt_algorithms"),
    ],
)
def test_options_that_would_not_be_safe_are_refused(tmp_path: Path, more: dict[str, Any], option: str) -> None:
    with pytest.raises(GatewayOptionError) as error:
        Tokens(settings_for(tmp_path, **more))

    assert error.value.option == option


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def of_issuer(issuer: Issuer) -> Tokens:
    return Tokens(gateway_settings({"jwt_jwks_url": issuer.url, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}))


async def test_the_keys_of_an_issuer_are_fetched(issuer: Issuer) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    issuer.has("one", KEY)
    issuer.has("two", elliptic)
    tokens = of_issuer(issuer)

    assert await tokens.principal(signed(headers={"kid": "one"}))
    assert await tokens.principal(signed(elliptic, "ES256", headers={"kid": "two"}))
    for forged in (signed(OTHER, headers={"kid": "one"}), signed(headers={"kid": "three"}), signed()):
        with pytest.raises(InvalidToken):
            await tokens.principal(forged)


async def test_an_issuer_that_is_away_is_a_problem_that_passes(issuer: Issuer) -> None:
    table = {"jwt_jwks_url": "http://127.0.0.1:1/keys", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}

    with pytest.raises(ProblemError) as problem:
        await Tokens(gateway_settings(table)).principal(signed(headers={"kid": "one"}))

    assert (problem.value.code, problem.value.status) == ("credentials_unavailable", 503)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"keys": []}', b'{"keys": [1]}', b"[" * 100_000, b"\xff"])
async def test_what_is_no_keys_is_a_problem_that_passes(issuer: Issuer, body: bytes) -> None:
    issuer.body = body

    with pytest.raises(ProblemError) as problem:
        await of_issuer(issuer).principal(signed(headers={"kid": "one"}))

    assert problem.value.code == "credentials_unavailable"


async def test_names_of_keys_that_are_made_up_are_not_asked_for_again_and_again(issuer: Issuer) -> None:
    issuer.has("one", KEY)
    tokens = of_issuer(issuer)

    async def is_refused(name: Any) -> bool:
        with pytest.raises(InvalidToken):
            await tokens.principal(signed(headers={"kid": name}))
        return True

    assert all(await asyncio.gather(*(is_refused(f"none-{number}") for number in range(50))))
    assert await is_refused("none-50")
    assert await tokens.principal(signed(headers={"kid": "one"}))
    assert issuer.asked == 1


async def test_who_has_a_key_that_is_known_does_not_wait_for_who_has_made_one_up(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "AGAIN", 0.0)
    issuer.has("one", KEY)
    tokens = of_issuer(issuer)
    await tokens.principal(signed(headers={"kid": "one"}))
    issuer.answers.clear()

    forged = [asyncio.create_task(tokens.principal(signed(headers={"kid": f"none-{number}"}))) for number in range(50)]
    await until_async(lambda: issuer.asked == 2, "the issuer is asked, and does not answer")
    assert await tokens.principal(signed(headers={"kid": "one"}))
    assert not any(each.done() for each in forged)

    issuer.answers.set()
    found = await asyncio.gather(*forged, return_exceptions=True)
    assert {type(each) for each in found} == {InvalidToken}
    assert issuer.asked == 2


async def test_keys_are_fetched_anew_before_they_end_and_those_that_are_there_count_meanwhile(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "AGAIN", 0.0)
    monkeypatch.setattr(token_keys, "RENEW", 0.0)
    issuer.has("one", KEY)
    tokens = of_issuer(issuer)
    await tokens.principal(signed(headers={"kid": "one"}))
    issuer.answers.clear()

    assert await tokens.principal(signed(headers={"kid": "one"}))
    await until_async(lambda: issuer.asked == 2, "they are fetched anew")
    issuer.keys.clear()
    issuer.has("two", KEY)
    issuer.answers.set()

    async def is_withdrawn() -> bool:
        try:
            await tokens.principal(signed(headers={"kid": "one"}))
        except InvalidToken:
            return True
        return False

    await until_async(is_withdrawn, "the issuer has withdrawn it")
    assert await tokens.principal(signed(headers={"kid": "two"}))


async def test_keys_that_can_not_be_fetched_anew_end(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_keys, "AGAIN", 0.0)
    monkeypatch.setattr(token_keys, "FETCH", 0.05)
    issuer.has("one", KEY)
    tokens = of_issuer(issuer)
    await tokens.principal(signed(headers={"kid": "one"}))
    monkeypatch.setattr(token_keys, "COUNT", 0.0)
    issuer.answers.clear()

    with pytest.raises(ProblemError, match="can't be fetched"):
        await tokens.principal(signed(headers={"kid": "one"}))
    issuer.answers.set()
