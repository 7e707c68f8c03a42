"""Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header-07): a request that is sent again counts once."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from fastapi import Request

from headrace.gateway.problems import ProblemError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
"""Header of answers to requests that were sent before."""
_ALLOWED: Final = re.compile(r"[\x21-\x7e]{1,255}")
_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a request this one."""

    id: str
    """Of the event."""
    fingerprint: str
    """Of what was sent; empty where the caller chose no key, so that nothing can be mixed up."""


def idempotency_key(request: Request) -> str | None:
    """The key that a caller has chosen; None: none. It may stand in quotes, as the draft has it.

    Raises:
        ProblemError: There are several, or it is too long, or has other characters.
    """
    found = request.headers.getlist(HEADER)
    if not found:
        return None
    text = found[0].strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(found) > 1:
        raise _unusable()
    return checked_key(text)


def checked_key(text: str) -> str:
    """A key that a caller has chosen.

    Raises:
        ProblemError: It is too long, or has other characters.
    """
    if not _ALLOWED.fullmatch(text):
        raise _unusable()
    return text


def _unusable() -> ProblemError:
    return ProblemError("invalid_idempotency_key", "there is to be one, of 1 to 255 visible ASCII characters")


def identity_of(key: str | None, scope: tuple[str, ...], body: bytes) -> Identity:
    """The identity of a request.

    Args:
        key: Its Idempotency-Key; without one it is a new request each time.
        scope: Within which the key counts: tenant, workflow, run, what is done. So the same key at two runs names two
            requests, wherever they lie.
        body: As it came.
    """
    if key is None:
        return Identity(secrets.token_hex(_SIZE), "")
    return Identity(digest(*scope, key), hashlib.blake2b(body, digest_size=_SIZE).hexdigest())


def minted_key(key: str | None, tenant: str, workflow: str) -> str:
    """The key of a run that is to begin and whose key nobody has chosen: with the same Idempotency-Key the same one."""
    return secrets.token_hex(_SIZE) if key is None else digest("runs", tenant, workflow, key)


def digest(*parts: str) -> str:
    """A short text that stands for all these, and for no others."""
    state = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
