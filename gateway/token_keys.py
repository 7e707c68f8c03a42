"""The keys of an issuer of tokens, as it publishes them (RFC 7517): one fetches them for all, now and then.

Whoever sends a token names the key, and names can be made up: so an issuer is not asked again for each that is unknown,
and nobody whose key is there waits for such a question.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from headrace.gateway.problems import ProblemError

if TYPE_CHECKING:
    import jwt

_log = structlog.get_logger(__name__)
FETCH: Final = 5.0
"""Seconds for the issuer to send its keys."""
COUNT: Final = 300.0
"""Seconds for which keys count that were fetched: a key that the issuer has withdrawn counts that long."""
RENEW: Final = 150.0
"""Seconds after which they are fetched anew, while those that are there go on to count."""
AGAIN: Final = 10.0
"""Seconds between two fetches, at least, whatever is asked for."""


class IssuerKeys:
    """Keys by their names.

    Args:
        client: Fetches them; of the library whose tokens these are.
    """

    def __init__(self, client: jwt.PyJWKClient) -> None:
        self._client = client
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read = self._begun = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def named(self, name: Any) -> jwt.PyJWK | None:
        """A key; None: the issuer has none of this name.

        Args:
            name: As a token has it, so anything.

        Raises:
            ProblemError: `credentials_unavailable`: it can't be known now.
        """
        now = time.monotonic()
        key = self._keys.get(name) if isinstance(name, str) and now - self._read < COUNT else None
        if (key is None or now - self._read >= RENEW) and now - self._begun >= AGAIN and self._fetching is None:
            self._begun = now
            self._fetching = asyncio.create_task(self._fetch())
        if key is not None:
            return key
        if self._fetching is not None:
            await asyncio.wait((self._fetching,), timeout=FETCH)
        if self._read < self._begun:
            raise ProblemError("credentials_unavailable", "the keys of the tokens' issuer can't be fetched")
        return self._keys.get(name) if isinstance(name, str) else None

    async def _fetch(self) -> None:
        """Never raises: keys that can't be had are those that are not there."""
        try:
            rows = (await asyncio.to_thread(self._client.get_jwk_set, refresh=True)).keys
        except Exception as error:  # noqa: BLE001  whatever an issuer says that are no keys
            _log.warning("issuer_keys_not_fetched", reason=str(error) or type(error).__name__)
        else:
            self._keys = {row.key_id: row for row in rows if row.key_id and row.public_key_use in ("sig", None)}
            self._read = time.monotonic()
        finally:
            self._fetching = None
