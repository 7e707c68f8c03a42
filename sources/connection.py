"""How Headrace speaks with Redis or Valkey: connections, scripts, and errors that say what to do.

Rules: a client is made in the process (and loop) that uses it; no command is repeated behind our back
(what is written may be asked again, knowingly); a server that hangs is found out by time-outs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.sentinel import MasterNotFoundError

from headrace.sources.references import ReferenceUnresolved
from headrace.sources.routing import Argument, Client, at_owner
from headrace.sources.store_address import address_of
from headrace.sources.store_clients import ANSWER_WITHIN, CONNECT_WITHIN, connect
from headrace.workflows.effects import Effect, effect
from headrace.workflows.store import StoreDenied, StoreFull, StoreUnavailable

__all__ = [
    "ANSWER_WITHIN", "CONNECT_WITHIN", "Argument", "Client", "Script", "address_of", "connect", "store_errors",
]  # fmt: skip

_TEMPORARY: Final = (
    "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MOVED", "ASK", "UNBLOCKED", "LOADING",
)  # fmt: skip
"""Answers of a server that is in trouble, or about to be another one."""
_MOVING: Final = "access a non local key"
"""What a script is told of keys of a slot that is on its way to another server."""


@contextmanager
def store_errors(address: str) -> Iterator[None]:
    """Turn what the Redis client raises into errors of ours that say what to do."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as error:
        raise StoreDenied(address, str(error)) from error
    except exceptions.OutOfMemoryError as error:
        raise StoreFull(f"The store at {address}", str(error)) from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.ClusterError,
        exceptions.RedisClusterException,
        ReferenceUnresolved,
        OSError,
    ) as error:
        raise StoreUnavailable(address, _said(error)) from error
    except exceptions.ResponseError as error:
        if str(error).startswith(_TEMPORARY) or _MOVING in str(error) or isinstance(error, _REDIRECTIONS):
            raise StoreUnavailable(address, str(error)) from error
        raise


def _said(error: Exception) -> str:
    """What an error says, for people: of Sentinels the client shows its own insides."""
    if isinstance(error, (MasterNotFoundError, AsyncMasterNotFoundError)):
        why = "none can be reached" if "network:" in str(error) else "see SENTINEL MASTERS there"
        return f"no Sentinel names a primary of this service ({why})"
    return str(error).rstrip(".") or type(error).__name__


_REDIRECTIONS: Final = (exceptions.AskError, exceptions.TryAgainError, exceptions.MasterDownError)


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
        try:
            return (await at_owner(client, key, ("EVALSHA_RO", self.sha, 1, key, *arguments)))[0]
        except exceptions.NoScriptError:
            return (await at_owner(client, key, ("EVAL_RO", self.text, 1, key, *arguments)))[0]

    async def write(self, client: Client, kind: Effect, key: str, *arguments: Argument) -> Any:
        """Run it as the durable effect `kind`."""
        with effect(kind):
            try:
                return (await at_owner(client, key, ("EVALSHA", self.sha, 1, key, *arguments)))[0]
            except exceptions.NoScriptError:
                return (await at_owner(client, key, ("EVAL", self.text, 1, key, *arguments)))[0]

    def write_at_once(self, client: Any, kind: Effect, key: str, *arguments: Argument) -> Any:
        """The same, by a client of `connect_thread`, in a thread that may wait."""
        with effect(kind):
            try:
                return client.evalsha(self.sha, 1, key, *arguments)
            except exceptions.NoScriptError:
                return client.eval(self.text, 1, key, *arguments)

    async def write_then(
        self, client: Client, kind: Effect, then: Sequence[Argument], key: str, *arguments: Argument
    ) -> tuple[Any, Any]:
        """Run it as `write` does, and the command `then` right after it, on the same connection.

        Returns:
            What the script answered, and what the command did: also an error, if that is its answer.
        """
        with effect(kind):
            try:
                answers = await at_owner(client, key, ("EVALSHA", self.sha, 1, key, *arguments), then)
            except exceptions.NoScriptError:
                answers = await at_owner(client, key, ("EVAL", self.text, 1, key, *arguments), then)
        return answers[0], answers[1]


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
