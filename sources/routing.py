"""Commands to the server that has a key: several on one connection, in a cluster as well as at a single server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import redis.asyncio
from redis import exceptions

from headrace.sources.ear import Ear, Heard
from headrace.sources.lines import Argument, Lines

__all__ = ["Argument"]

Client: TypeAlias = redis.asyncio.Redis
"""Of one server. That of a cluster has the same commands, so it is taken for one; see `_cluster_of`."""
_REDIRECTIONS: Final = 8
_PAUSE: Final = 0.05
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, OSError)
_PLACES: Final = 1024


def is_cluster(client: Client) -> bool:
    """Whether its keys are on several servers."""
    return _cluster_of(client) is not None


class LinedClient(redis.asyncio.Redis):
    """A client of one server that has lines beside its connections, for what goes by `at_owner`."""

    lines: Lines
    callbacks: Mapping[Any, Any]
    """What the library makes of answers, by the command's name."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Disconnect all."""
        self.lines.close()
        await super().aclose(close_connection_pool)

    async def exchange(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Answers as `execute_command` would give them, errors among them."""
        answers = await self.lines.exchange(commands)
        for index, command in enumerate(commands):
            callback = self.callbacks.get(command[0])
            if callback is not None and not isinstance(answers[index], Exception):
                answers[index] = callback(answers[index])
        return answers


def _cluster_of(client: object) -> redis.asyncio.RedisCluster | None:
    return client if isinstance(client, redis.asyncio.RedisCluster) else None


async def at_owner(client: Client, key: str, *commands: Sequence[Argument]) -> list[Any]:
    """Answers of commands that travel together, on one connection to the server that has `key`.

    The first command's error is raised; those of the others stand in their answers' places.
    A slot that is being moved to another server is not followed (`ASK`): a script there would take keys that have not
    come yet for missing. Whoever asks again finds them when all have.
    """
    if isinstance(client, LinedClient):
        return _checked(await client.exchange(commands))
    cluster = _cluster_of(client)
    if cluster is None:
        if len(commands) == 1:
            return [await _untyped(client).execute_command(*commands[0])]
        async with client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return _checked(await pipe.execute(raise_on_error=False))
    return await _in_cluster(cluster, key, commands)


async def _in_cluster(
    cluster: redis.asyncio.RedisCluster, key: str, commands: Sequence[Sequence[Argument]]
) -> list[Any]:
    answers: list[Any] = []
    for _ in range(_REDIRECTIONS):
        await cluster.initialize()
        try:
            answers = await _at_node(cluster, cluster.get_node_from_key(key), commands)
        except _LOST:  # it could not even be sent; else the error is an answer
            await _look_around(cluster)
            raise
        first = answers[0]
        if isinstance(first, exceptions.MovedError):
            await cluster.nodes_manager.move_slot(first)
        elif isinstance(first, exceptions.TryAgainError):
            await asyncio.sleep(_PAUSE)
        else:
            if isinstance(first, _LOST):
                await _look_around(cluster)  # who asks again goes to whoever has it by then
            return _checked(answers)
    return _checked(answers)


async def _look_around(cluster: redis.asyncio.RedisCluster) -> None:
    """Learn anew which node has what; connections to those that are still there stay as they are."""
    with suppress(exceptions.RedisError, exceptions.RedisClusterException, OSError):  # the first error is told
        await cluster.nodes_manager.initialize()


async def _at_node(cluster: redis.asyncio.RedisCluster, node: Any, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    pipe = cluster.pipeline()
    for command in commands:
        pipe.execute_command(*command, target_nodes=node)
    return await pipe.execute(raise_on_error=False, allow_redirections=False)


def _untyped(client: object) -> Any:
    """The client's stubs know fewer options than it has."""
    return client


def _checked(answers: list[Any]) -> list[Any]:
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers


_READS: Final = frozenset({"TYPE", "PTTL", "GET", "HGETALL", "LRANGE", "SMEMBERS", "ZRANGE", "XRANGE", "XINFO STREAM"})


async def reads_at_owner(client: Client, key: str, *commands: Sequence[Argument]) -> list[Any]:
    """As `at_owner`, for commands that change nothing; the first error of any of them is raised."""
    if any(command[0] not in _READS for command in commands):
        raise ValueError(f"{commands} are not all reads")
    answers = await at_owner(client, key, *commands)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def scan(client: Client, place: int, match: str, count: int) -> tuple[int, list[bytes]]:
    """A page of the keys that match, of all servers.

    Args:
        client: The store.
        place: Where the page before ended; 0 for the first.
        match: Pattern.
        count: How many keys to look at.

    Returns:
        Where the next page begins (0: there is none), and the keys.
    """
    cluster, untyped = _cluster_of(client), _untyped(client)
    if cluster is None:
        following, keys = await untyped.scan(place, match=match, count=count)
        return int(following), keys
    await cluster.initialize()
    nodes = sorted(cluster.get_primaries(), key=lambda node: node.name)
    cursor, index = divmod(place, _PLACES)
    if index >= len(nodes):
        return 0, []
    cursors, keys = await untyped.scan(cursor, match=match, count=count, target_nodes=nodes[index])
    following = int(cursors[nodes[index].name] if isinstance(cursors, dict) else cursors)
    if following:
        return following * _PLACES + index, keys
    return (index + 1 if index + 1 < len(nodes) else 0), keys


async def texts(client: Client, keys: Sequence[str]) -> list[bytes | None]:
    """Texts from anywhere, None where there is none: at a single server in one go, in a cluster side by side.

    A cluster's client looks around when one command meets a dead node, but not when one of a pipeline does.
    """
    cluster = _cluster_of(client)
    if cluster is not None:
        await cluster.initialize()  # once, not by each: the client closes connections that others use meanwhile
        return list(await asyncio.gather(*(_untyped(client).get(key) for key in keys)))
    async with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.get(key)
        return await pipe.execute()


@asynccontextmanager
async def subscription(client: Client) -> AsyncIterator[Heard]:
    """A way to hear what is published, at whichever server: in a cluster each tells it to all.

    Once it has broken, another one looks anew which servers there are.
    """
    if isinstance(client, LinedClient):
        ear = Ear(await client.lines.dial())
        try:
            yield ear
        finally:
            ear.close()
        return
    cluster = _cluster_of(client)
    if cluster is None:
        async with _untyped(client).pubsub() as heard:
            yield heard
        return
    try:
        await cluster.initialize()
        async with _untyped(cluster).pubsub(node=cluster.get_random_primary_node()) as heard:
            yield heard
    finally:
        await cluster.aclose()


async def servers_of(client: Client) -> list[dict[str, Any]]:
    """For each server that takes writes: what to add to a command that is for it (`target_nodes`)."""
    cluster = _cluster_of(client)
    if cluster is not None:
        await cluster.initialize()
        return [{"target_nodes": node} for node in sorted(cluster.get_primaries(), key=lambda node: node.name)]
    return [{}]
