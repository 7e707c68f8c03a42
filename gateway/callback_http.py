"""One call to somebody's address: resolved, looked at and connected to here; redirects and proxies are not followed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import certifi
import httpcore

from headrace.gateway.callback_targets import TargetRefused, TargetRules
from headrace.sources.standard_webhooks import retry_after
from headrace.workflows.effects import Effect, effect

_OPTIONS = Iterable[httpcore.SOCKET_OPTION]
_LONGEST: Final = 300
"""Characters of an error that are kept."""


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that were looked at, by their numbers."""

    def __init__(self, rules: TargetRules) -> None:
        self._rules = rules
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  of the interface
        local_address: str | None = None,
        socket_options: _OPTIONS | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first that can be reached of those that the name means now, all of which may be called."""
        last: Exception = OSError(f"{host} has no address")
        for address in await self._rules.addresses(host, port):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    async def sleep(self, seconds: float) -> None:
        """Of the interface."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call."""

    status: int = 0
    """0: there was no answer."""
    error: str = ""
    retry_after: float | None = None
    """Seconds that the receiver asks for."""
    refused: bool = False
    """It may not be called."""


class CallbackClient:
    """Makes calls.

    Args:
        rules: What may be called.
        within: Seconds for one call, all in all.
        trusted: Who signs the certificates of receivers; by default those whom browsers trust.
    """

    def __init__(self, rules: TargetRules, *, within: float, trusted: ssl.SSLContext | None = None) -> None:
        self._within = within
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted or ssl.create_default_context(cafile=certifi.where()),
            max_connections=None, max_keepalive_connections=0, network_backend=_Guarded(rules),
        )  # fmt: skip

    async def close(self) -> None:
        """Break off what is under way."""
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Called:
        """One call; whatever goes wrong is in the answer."""
        fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        try:
            async with asyncio.timeout(self._within):
                with effect(Effect.CALLBACK_SEND):
                    async with self._pool.stream("POST", url, headers=fields, content=body) as answer:
                        found = {name.lower(): value for name, value in answer.headers}
                        return Called(answer.status, retry_after=retry_after(found.get(b"retry-after")))
        except TargetRefused as error:
            return Called(error=error.reason[:_LONGEST], refused=True)
        except TimeoutError:
            return Called(error=f"no answer within {self._within:g} s")
        except (
            OSError,
            UnicodeError,
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
        ) as error:
            return Called(error=(str(error) or type(error).__name__)[:_LONGEST])
