"""JSON Web Tokens: only what the issuer has signed, for this audience, in time, and in a way that is allowed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewayOptionError, GatewaySettings, gateway_settings
from headrace.gateway.tokens import InvalidToken, Tokens

ISSUER, AUDIENCE = "https://issuer.test", "headrace"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip


def settings_for(tmp_path: Path, **more: Any) -> GatewaySettings:
    (tmp_path / "issuer.pem").write_bytes(PEM)
    table = {"jwt_public_key": f"file:{tmp_path}/issuer.pem", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    return gateway_settings({**table, "jwt_tenant_claim": "org", **more})


def claims(**more: Any) -> dict[str, Any]:
    """What a token has to say; None takes a claim out."""
    row = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "ann", "org": "acme", "scope": "read"}
    return {name: value for name, value in (row | more).items() if value is not None}


def signed(key: Any = KEY, algorithm: str | None = "RS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers)


async def test_a_token_says_who_asks(tmp_path: Path) -> None:
    found = await Tokens(settings_for(tmp_path)).principal(signed(scope="read write:orders profile"))

    assert (found.tenant, found.name) == ("acme", "token of ann")
    assert found.scopes == {"read", "write:orders"}
    assert found.may("write", "orders")
    assert not found.may("write", "others")


def _segment(row: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(row).encode()).decode().rstrip("=")


def signed_by_the_public_key() -> str:
    """By HMAC, with the issuer's public key for a secret; the library won't do that, so by hand."""
    text = f"{_segment({'alg': 'HS256', 'typ': 'JWT'})}.{_segment(claims())}"
    mac = hmac.digest(PEM, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


FORGED = {
    "of another key": signed(OTHER),
    "not signed": signed(None, "none"),
    "not signed, in other letters": f"{_segment({'alg': 'NoNe'})}.{_segment(claims())}.",
    "by the public key for a secret": signed_by_the_public_key(),
    "in a way that is not allowed": signed(algorithm="RS512"),
    "for another audience": signed(aud="others"),
    "for no audience": signed(aud=None),
    "of another issuer": signed(iss="https://others.test"),
    "of no issuer": signed(iss=None),
    "expired": signed(exp=int(time.time()) - 31),
    "without an end": signed(exp=None),
    "not yet": signed(nbf=int(time.time()) + 3600),
    "of no tenant": signed(org=None),
    "of a tenant that can't be": signed(org="acme:x"),
    "of a list of tenants": signed(org=["acme"]),
    "changed": signed()[:-6] + "AAAAAA",
    "no token": "abc",
    "empty parts": "..",
    "with demands that are not known": signed(headers={"crit": ["b64"], "b64": False}),
}


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


class Issuer:
    """Serves the keys of an issuer, which may change."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def has(self, name: str, key: Any) -> None:
        algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        self.keys.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever, daemon=True)
    thread.start()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()
    thread.join()


async def test_the_keys_of_an_issuer_are_fetched(issuer: Issuer) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    issuer.has("one", KEY)
    issuer.has("two", elliptic)
    tokens = Tokens(gateway_settings({"jwt_jwks_url": issuer.url, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}))

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
