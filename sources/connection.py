"""How Headrace speaks with Redis or Valkey: connections, scripts, and errors that say what to do.

Rules: a client is made in the process (and loop) that uses it; no command is repeated behind our back
(what is written may be asked again, knowingly); a server that hangs is found out by time-outs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace.workflows.effects import Effect, effect
from headrace.workflows.store import StoreFull, StoreUnavailable, StoreUnsuitable

Client: TypeAlias = redis.asyncio.Redis
Argument: TypeAlias = str | bytes | int

ANSWER_WITHIN: Final = 3.0
"""Seconds after which a command without an answer counts as failed (the server may be suspended)."""
CONNECT_WITHIN: Final = 3.0
_WAIT_FOR_CONNECTION: Final = 5.0


def connect(url: str, *, connections: int = 16, blocking: bool = False) -> Client:
    """A client for this process and loop; it connects at its first command.

    Args:
        url: `redis://host:port/database`, `rediss://` or `unix://`.
        connections: How many at most; who wants one more waits for it.
        blocking: For commands that wait at the server (`XREAD BLOCK`): no time limit on answers.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=_WAIT_FOR_CONNECTION,
        socket_timeout=None if blocking else ANSWER_WITHIN,
        socket_connect_timeout=CONNECT_WITHIN,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return redis.asyncio.Redis.from_pool(pool)


def address_of(url: str) -> str:
    """The part of a URL that may be shown: without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix:{parts.path}"
    database = parts.path.strip("/")
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}" + (f"/{database}" if database else "")


@contextmanager
def store_errors(address: str) -> Iterator[None]:
    """Turn what the Redis client raises into errors of ours that say what to do."""
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise StoreUnsuitable(address, str(error), "Put user and password into the URL.") from error
    except exceptions.OutOfMemoryError as error:
        raise StoreFull(f"The store at {address}", str(error)) from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, OSError) as error:
        raise StoreUnavailable(address, str(error) or type(error).__name__) from error
    except exceptions.ResponseError as error:
        if str(error).startswith(("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")):
            raise StoreUnavailable(address, str(error)) from error
        raise


class Script:
    """A Lua script: known to the server by its hash, sent again when the server has forgotten it.

    Args:
        path: The file. A line `-- include: <name>` is replaced by the file of that name beside it, or in
            the folder of the scripts that sources and actors share.
    """

    def __init__(self, path: Path) -> None:
        self.text = _with_includes(path)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def ask(self, client: Client, key: str, *arguments: Argument) -> Any:
        """Run it as a read: the server refuses any write in it."""
        untyped: Any = client
        try:
            return await untyped.evalsha_ro(self.sha, 1, key, *arguments)
        except exceptions.NoScriptError:
            return await untyped.eval_ro(self.text, 1, key, *arguments)

    async def write(self, client: Client, kind: Effect, key: str, *arguments: Argument) -> Any:
        """Run it as the durable effect `kind`."""
        untyped: Any = client
        with effect(kind):
            try:
                return await untyped.execute_command("EVALSHA", self.sha, 1, key, *arguments)
            except exceptions.NoScriptError:
                return await untyped.execute_command("EVAL", self.text, 1, key, *arguments)

    async def write_then(
        self, client: Client, kind: Effect, then: Sequence[Argument], key: str, *arguments: Argument
    ) -> tuple[Any, Any]:
        """Run it as `write` does, and the command `then` right after it, on the same connection.

        Returns:
            What the script answered, and what the command did: also an error, if that is its answer.
        """
        try:
            return await _in_one_go(client, kind, ("EVALSHA", self.sha, 1, key, *arguments), then)
        except exceptions.NoScriptError:
            return await _in_one_go(client, kind, ("EVAL", self.text, 1, key, *arguments), then)


async def _in_one_go(
    client: Client, kind: Effect, command: Sequence[Argument], then: Sequence[Argument]
) -> tuple[Any, Any]:
    """Two commands that travel together, on one connection. Only the first one's errors are raised."""
    with effect(kind):
        async with client.pipeline(transaction=False) as pipe:
            pipe.execute_command(*command)
            pipe.execute_command(*then)
            answer, after = await pipe.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
    return answer, after


_SHARED: Final = Path(__file__).parent / "scripts"


def _with_includes(path: Path) -> str:
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("-- include: "):
            name = line.removeprefix("-- include: ").strip()
            lines.append((_SHARED / name).read_text().rstrip())
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
