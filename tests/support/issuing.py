"""An issuer of JSON Web Tokens: what it signs, what others forge, and its keys over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.gateway.settings import GatewaySettings, gateway_settings

ISSUER, AUDIENCE = "https://issuer.test", "headrace"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip


def settings_for(folder: Path, **more: Any) -> GatewaySettings:
    """Of a gateway that takes this issuer's tokens, by its key in a file of `folder`."""
    (folder / "issuer.pem").write_bytes(PEM)
    table = {"jwt_public_key": f"file:{folder}/issuer.pem", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    return gateway_settings({**table, "jwt_tenant_claim": "org", **more})


def claims(**more: Any) -> dict[str, Any]:
    """What a token has to say; None takes a claim out."""
    row = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "ann", "org": "acme", "scope": "read"}
    return {name: value for name, value in (row | more).items() if value is not None}


def signed(key: Any = KEY, algorithm: str | None = "RS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    """A token."""
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers)


def segment(row: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(row if isinstance(row, bytes) else json.dumps(row).encode()).decode().rstrip("=")


def by_hand(payload: bytes) -> str:
    """Signed by the issuer, whatever it says."""
    text = f"{segment({'alg': 'RS256', 'typ': 'JWT'})}.{segment(payload)}"
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{text}.{segment(algorithm.sign(text.encode(), KEY))}"


def _by_the_public_key() -> str:
    """By HMAC, with the issuer's public key for a secret; the library won't do that, so by hand."""
    text = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment(claims())}"
    mac = hmac.digest(PEM, text.encode(), hashlib.sha256)
    return f"{text}.{segment(mac)}"


def _with_claims(more: bytes) -> str:
    """Signed by the issuer, with a claim that JSON libraries read and nobody can use."""
    text = json.dumps(claims(exp=None)).encode()
    return by_hand(text[:-1] + b", " + more + b"}")


FORGED: Final = {
    "of another key": signed(OTHER),
    "not signed": signed(None, "none"),
    "not signed, in other letters": f"{segment({'alg': 'NoNe'})}.{segment(claims())}.",
    "by the public key for a secret": _by_the_public_key(),
    "in a way that is not allowed": signed(algorithm="RS512"),
    "for another audience": signed(aud="others"),
    "for no audience": signed(aud=None),
    "of another issuer": signed(iss="https://others.test"),
    "of no issuer": signed(iss=None),
    "expired": signed(exp=int(time.time()) - 31),
    "without an end": signed(exp=None),
    "with an end that never is": _with_claims(b'"exp": Infinity'),
    "with an end that no clock has": _with_claims(b'"exp": 1' + b"0" * 400),
    "not yet": signed(nbf=int(time.time()) + 3600),
    "of no tenant": signed(org=None),
    "of a tenant that can't be": signed(org="acme:x"),
    "of a list of tenants": signed(org=["acme"]),
    "changed": signed()[:-6] + "AAAAAA",
    "no token": "abc",
    "empty parts": "..",
    "with demands that are not known": signed(headers={"crit": ["b64"], "b64": False}),
    "of too many levels": f"{segment(b'[' * 4000)}.{segment(claims())}.AAAA",
    "with a key's name that is none": f"{segment({'alg': 'RS256', 'kid': ['a']})}.{segment(claims())}.AAAA",
    "signed in several ways": f"{segment({'alg': ['RS256']})}.{segment(claims())}.AAAA",
    "of an unpaired surrogate": f"{segment({'alg': 'RS256', 'kid': chr(0xD800)})}.{segment(claims())}.AAAA",
}
"""Tokens that don't count."""


class Issuer:
    """Serves the keys of an issuer, which may change; use as `with Issuer() as issuer`."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        """What it says in place of its keys."""
        self.asked = 0
        """How often."""
        self.answers = threading.Event()
        """It answers; cleared: it lets them wait."""
        self.answers.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.answers.wait()
                body = issuer.body if issuer.body is not None else json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"

    def has(self, name: str, key: Any) -> None:
        """One more key."""
        algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        self.keys.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
