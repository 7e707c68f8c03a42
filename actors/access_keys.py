"""Keys for callers of the gateway: made, listed, found by what a caller shows, taken back.

The store has a digest of each, so that who reads the store can't call by them. A key has 256 random bits: what
makes guessing hard for passwords (a slow digest, a salt) would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect

PREFIX: Final = "hr_"
"""What keys begin with, so that they are found where they should not be."""
_ALL: Final = "hr:access_keys"
"""Hash: id -> JSON of an `AccessKey`."""
_WRITTEN: Final = re.compile(r"hr_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key: all of it but the key itself."""

    id: str
    name: str
    """For people: who has it."""
    tenant: str
    scopes: list[str]
    """`read`, `write`, `admin`: of all workflows; `read:orders`: of one."""
    digest: str
    """SHA-256 of the secret part, in hex."""
    created: int
    """Milliseconds since 1970 UTC; as `expires`."""
    expires: int | None = None
    rate: str = ""
    """How often it may be used, as `Rate.parse` reads it; empty: as often as the gateway says."""

    def is_over(self, now: float) -> bool:
        """Whether it has expired, at this time (seconds)."""
        return self.expires is not None and self.expires <= now * 1000


_decoder: Final = msgspec.json.Decoder(AccessKey)


def split_key(text: str) -> tuple[str, str] | None:
    """Id and digest of a key that somebody shows; None: it is no key."""
    found = _WRITTEN.fullmatch(text)
    return None if found is None else (found[1], _digest(found[2]))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def create_key(
    registry: Registry, name: str, tenant: str, scopes: Sequence[str], *, lifetime: float | None, rate: str = ""
) -> tuple[AccessKey, str]:
    """Make a key.

    Args:
        registry: The store.
        name: For people.
        tenant: Whose runs it is for.
        scopes: What it may do.
        lifetime: Seconds until it expires; None: never.
        rate: How often it may be used.

    Returns:
        What is known of it, and the key itself, which is written nowhere.

    Raises:
        StoreUnavailable: It may be there; make another one.
    """
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    now = time.time()
    key = AccessKey(
        id=secrets.token_hex(_ID_BYTES), name=name, tenant=tenant, scopes=list(scopes), digest=_digest(secret),
        created=int(now * 1000), expires=None if lifetime is None else int((now + lifetime) * 1000), rate=rate,
    )  # fmt: skip
    with store_errors(registry.address), effect(Effect.ACCESS_KEY):
        await _answer(registry.client.hset(_ALL, key.id, msgspec.json.encode(key).decode()))
    return key, f"{PREFIX}{key.id}_{secret}"


async def find_key(registry: Registry, id_: str) -> AccessKey | None:
    """The key with this id; None: there is none.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        found = await _answer(registry.client.hget(_ALL, id_))
    return None if found is None else _decoder.decode(found)


async def list_keys(registry: Registry) -> list[AccessKey]:
    """All keys, those made first in front.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        found = await _answer(registry.client.hgetall(_ALL))
    return sorted(map(_decoder.decode, found.values()), key=lambda key: (key.created, key.id))


async def revoke_key(registry: Registry, id_: str) -> bool:
    """Take a key back; whether there was one.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address), effect(Effect.ACCESS_KEY):
        return bool(await _answer(registry.client.hdel(_ALL, id_)))


def fits(key: AccessKey, digest: str) -> bool:
    """Whether what somebody has shown is this key; takes the same time, however much of it is right."""
    return hmac.compare_digest(key.digest, digest)


async def _answer(asked: Any) -> Any:
    """The client's types leave open whether there is something to wait for."""
    return await asked
