"""Clients of the store, for loops and for threads: one server, one behind Sentinels, or a cluster; plain or by TLS."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis import exceptions
from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from headrace.sources.lines import Lines
from headrace.sources.routing import Client, LinedClient
from headrace.sources.store_address import StoreAddress, Tls

ANSWER_WITHIN: Final = 3.0
"""Seconds after which a command without an answer counts as failed (the server may be suspended)."""
CONNECT_WITHIN: Final = 3.0
_WAIT_FOR_CONNECTION: Final = 5.0
_TO_EACH_NODE: Final = 1024
"""Connections to a node of a cluster: its client refuses one more instead of waiting."""


def connect(url: str, *, connections: int = 16, blocking: bool = False) -> Client:
    """A client for this process and loop; it connects at its first command.

    Args:
        url: See `StoreAddress.parse`.
        connections: How many at most, and as many lines (see `lines`) beside them; who wants one more waits for it.
            In a cluster as many as are needed.
        blocking: For commands that wait at the server (`XREAD BLOCK`): no time limit on answers.

    Raises:
        StoreAddressError: The URL is none.
        ReferenceUnresolved: It refers to what is not there.
    """
    address = StoreAddress.parse(url)
    options = _options(address, None if blocking else ANSWER_WITHIN, CONNECT_WITHIN)
    options["retry"] = AsyncRetry(NoBackoff(), 0)
    if address.kind == "cluster":
        nodes = [AsyncClusterNode(host, port) for host, port in address.hosts]
        cluster: Any = redis.asyncio.RedisCluster(
            startup_nodes=nodes, max_connections=_TO_EACH_NODE, require_full_coverage=False, **options, **_tls(address)
        )
        cluster.commands_parser = _Commands(cluster)
        return cluster  # type: ignore[no-any-return]  # it has the same commands
    limits: dict[str, Any] = {"max_connections": connections, "timeout": _WAIT_FOR_CONNECTION}
    if address.kind == "sentinel":
        untyped: Any = _SentinelPool
        pool = untyped(
            address.service, _sentinels(address), ssl=address.tls is not None, db=address.database, **limits, **options,
            **_certificates(address.tls),
        )  # fmt: skip
        return redis.asyncio.Redis.from_pool(pool)
    limits["connection_class"] = _connection_class(address)
    return _lined(
        redis.asyncio.BlockingConnectionPool(**_place(address), **limits, **options, **_certificates(address.tls)),
        connections, options["socket_timeout"],
    )  # fmt: skip


def _lined(pool: redis.asyncio.BlockingConnectionPool, most: int, answer_within: float | None) -> Client:
    """A client whose lines are connections as the pool would make them."""

    async def dial() -> Any:
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        await connection.connect()
        return connection

    client = LinedClient.from_pool(pool)
    assert isinstance(client, LinedClient), "made of its own class"
    client.lines = Lines(dial, most=most, answer_within=answer_within, wait=_WAIT_FOR_CONNECTION)
    client.callbacks = {str(name).upper(): callback for name, callback in client.response_callbacks.items()}
    return client


def connect_thread(url: str, *, answer_within: float) -> Any:
    """A client for plain threads, with a limit in seconds on connecting and on each answer.

    Raises:
        StoreAddressError: The URL is none.
        ReferenceUnresolved: It refers to what is not there.
    """
    address = StoreAddress.parse(url)
    options = _options(address, answer_within, answer_within)
    options["retry"] = Retry(NoBackoff(), 0)
    if address.kind == "cluster":
        untyped: Any = ClusterNode
        nodes = [untyped(host, port) for host, port in address.hosts]
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options, **_tls(address))
    if address.kind == "sentinel":
        login = _login(address.sentinel_login.provider)
        make: Any = redis.sentinel.Sentinel
        sentinels = make(
            list(address.hosts),
            sentinel_kwargs={"socket_timeout": answer_within, "socket_connect_timeout": answer_within, "protocol": 2,
                             "retry": Retry(NoBackoff(), 0), **login, **_tls(address)},
        )  # fmt: skip
        return sentinels.master_for(address.service, db=address.database, **options, **_tls(address))
    if address.path:
        return redis.Redis(unix_socket_path=address.path, db=address.database, **options)
    return redis.Redis(**_place(address), **options, **_tls(address))


class _Commands(AsyncCommandsParser):
    """What commands there are, told by whichever node answers: the client itself asks one only, maybe the dead one."""

    def __init__(self, cluster: redis.asyncio.RedisCluster) -> None:
        super().__init__()
        self._cluster = cluster

    async def initialize(self, node: Any = None) -> None:
        """Ask one after the other."""
        *first, last = dict.fromkeys([node, *self._cluster.get_primaries()])
        for candidate in first:
            with suppress(exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                await super().initialize(candidate)
                return
        await super().initialize(last)


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the server that the Sentinels name; who wants more than there may be waits for one."""

    async def aclose(self) -> None:
        """Disconnect, also from the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()


def _sentinels(address: StoreAddress) -> redis.asyncio.sentinel.Sentinel:
    untyped: Any = redis.asyncio.sentinel.Sentinel
    options: dict[str, Any] = {"socket_timeout": ANSWER_WITHIN, "socket_connect_timeout": CONNECT_WITHIN, "protocol": 2}
    options |= {"retry": AsyncRetry(NoBackoff(), 0), **_login(address.sentinel_login.provider), **_tls(address)}
    return untyped(list(address.hosts), sentinel_kwargs=options)  # type: ignore[no-any-return]


def _options(address: StoreAddress, answer_within: float | None, connect_within: float) -> dict[str, Any]:
    return {
        "socket_timeout": answer_within,
        "socket_connect_timeout": connect_within,
        "protocol": 2,
        **_login(address.login.provider),
    }


def _login(provider: Any) -> dict[str, Any]:
    return {} if provider is None else {"credential_provider": provider}


def _place(address: StoreAddress) -> dict[str, Any]:
    if address.path:
        return {"path": address.path, "db": address.database}
    host, port = address.hosts[0]
    return {"host": host, "port": port, "db": address.database}


def _connection_class(address: StoreAddress) -> Any:
    if address.path:
        return redis.asyncio.UnixDomainSocketConnection
    return redis.asyncio.SSLConnection if address.tls else redis.asyncio.Connection


def _tls(address: StoreAddress) -> dict[str, Any]:
    return {"ssl": True, **_certificates(address.tls)} if address.tls else {}


def _certificates(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    found = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    return {"ssl_check_hostname": tls.check_hostname, **{name: value for name, value in found.items() if value}}
