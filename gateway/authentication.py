"""Credentials: one header `Authorization: Bearer`, with a key of `headrace keys create` or a JSON Web Token.

Nothing of a credential is ever logged, or told back. RFC 6750: what is missing or wrong is answered 401 with
`WWW-Authenticate`, what is not allowed 403.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from fastapi import Request

from headrace.actors.access_keys import PREFIX, AccessKey, find_key, fits, split_key
from headrace.actors.rates import Rate
from headrace.actors.store_registry import Registry
from headrace.gateway.again import read_again
from headrace.gateway.principal import REALM, Principal
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings
from headrace.gateway.tokens import InvalidToken, Tokens

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
_LONGEST: Final = 8192
_KEY: Final = "key "
"""What the ids of those begin with who have keys."""
_MOST_KNOWN: Final = 10_000


class Credentials:
    """Tells who asks.

    Args:
        store: Has the keys.
        settings: Whether tokens are taken, and how long a key is known.

    Raises:
        GatewayOptionError: An option about tokens can't be used.
        ExtraMissing: Tokens are to be taken, and the extra `jwt` is not installed.
    """

    def __init__(self, store: Registry, settings: GatewaySettings) -> None:
        self._store = store
        self._seconds = settings.credentials_seconds
        self._tokens = Tokens(settings) if settings.takes_tokens else None
        self._known: dict[str, tuple[float, AccessKey | None]] = {}

    async def __call__(self, request: Request) -> Principal:
        """Who asks.

        Raises:
            ProblemError: `credentials_missing`, `credentials_invalid`, `credentials_repeated`.
            StoreUnavailable: Keys can't be looked up.
        """
        credential = bearer_of(request.headers.getlist("authorization"))
        if credential.startswith(PREFIX):
            return await self._of_key(credential)
        if self._tokens is None:
            raise refused("it is no key of this gateway")
        try:
            return await self._tokens.principal(credential)
        except InvalidToken as error:
            raise refused(str(error)) from None

    async def counts(self, caller: str) -> bool:
        """Whether the credentials of a caller still count, by its `Principal.id`.

        Of tokens only they themselves tell.

        Raises:
            StoreUnavailable: Keys can't be looked up.
        """
        id_ = caller.removeprefix(_KEY)
        if id_ == caller:
            return True
        key = await self._find(id_)
        return key is not None and not key.is_over(time.time())

    async def _of_key(self, credential: str) -> Principal:
        found = split_key(credential)
        key = None if found is None else await self._find(found[0])
        if found is None or key is None or not fits(key, found[1]):
            raise refused("there is no such key")
        if key.is_over(time.time()):
            raise refused("the key has expired")
        return Principal(
            tenant=key.tenant, scopes=frozenset(key.scopes), name=f"key {key.name}", id=f"{_KEY}{key.id}",
            rate=Rate.parse(key.rate) if key.rate else None,
            until=None if key.expires is None else key.expires / 1000,
        )  # fmt: skip

    async def _find(self, id_: str) -> AccessKey | None:
        """The key of this id; what was found, or not, is taken for so for some seconds."""
        read, key = self._known.get(id_, (float("-inf"), None))
        now = time.monotonic()
        if now - read < self._seconds:
            return key
        key = await read_again(partial(find_key, self._store, id_))
        self._known.pop(id_, None)
        while len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[id_] = (now, key)
        return key


def bearer_of(headers: list[str]) -> str:
    """The credential in the header.

    Raises:
        ProblemError: There is none, or several, or another kind.
    """
    if not headers:
        raise ProblemError(
            "credentials_missing", "send Authorization: Bearer, with a key or a token", headers=challenge()
        )
    if len(headers) > 1:
        raise ProblemError(
            "credentials_repeated", "there are several headers Authorization", headers=challenge("invalid_request")
        )
    found = _BEARER.fullmatch(headers[0]) if len(headers[0]) <= _LONGEST else None
    if found is None:
        raise refused("the header is to be Authorization: Bearer, and a key or a token")
    return found[1]


def refused(why: str) -> ProblemError:
    """The problem of a credential that does not count."""
    return ProblemError("credentials_invalid", why, headers=challenge("invalid_token"))


def challenge(error: str = "") -> Mapping[str, str]:
    """What a caller is asked for (RFC 6750, section 3)."""
    return {"WWW-Authenticate": f'{REALM}, error="{error}"' if error else REALM}
