"""What the store holds beside partitions: descriptors of workflows, terms, leases, status documents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

import headrace.sources
from headrace.sources.connection import Client, Script, address_of, connect, store_errors
from headrace.sources.durable import Durable
from headrace.sources.routing import texts
from headrace.sources.suitable import check_server
from headrace.workflows.durability import Durability
from headrace.workflows.effects import Effect, effect
from headrace.workflows.key_format import check_format
from headrace.workflows.keyspace import format_key, lease_key, status_prefix, term_key, workflow_key
from headrace.workflows.store import WorkflowDescriptor

_CONFIRM: Final = Script(Path(headrace.sources.__file__).parent / "scripts" / "confirm.lua")
_WORKFLOWS: Final = "hr:workflows"
"""Set of the names of all workflows."""


class Registry:
    """A connection to the store, and all of it that belongs to no partition.

    Made in the process that uses it, closed there: `async with Registry(url) as registry`.

    Args:
        url: `redis://host:port/database`, or another form of `StoreAddress.parse`.
        connections: How many connections at most.
    """

    def __init__(self, url: str, *, connections: int = 16) -> None:
        self.url = url
        self.address = address_of(url)
        self.server = ""
        """Name and version of the server, once `open` has seen it."""
        self.client: Client = connect(url, connections=connections)

    async def open(self) -> None:
        """Connect, and make sure that state is safe there.

        Raises:
            StoreUnavailable: It cannot be reached; try again.
            StoreUnsuitable: It might lose state by its configuration.
        """
        self.server = await check_server(self.client, self.address)

    async def close(self) -> None:
        """Disconnect; idempotent."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def publish_workflow(self, descriptor: WorkflowDescriptor) -> None:
        """Tell gateways and the command line what the workflow is; the last one told counts."""
        with store_errors(self.address), effect(Effect.PUBLISH):
            await self.client.set(workflow_key(descriptor.name), msgspec.json.encode(descriptor))
            await _wait(self.client.sadd(_WORKFLOWS, descriptor.name))

    async def workflow(self, name: str) -> WorkflowDescriptor | None:
        """The descriptor of a workflow; None when nobody has published one of that name.

        Raises:
            KeyFormatUnknown: Another Headrace has written its keys, in a way that this one does not know.
            RestoreUnfinished: A backup of it is being restored.
        """
        with store_errors(self.address):
            blob, document = await texts(self.client, [workflow_key(name), format_key(name)])
        check_format(name, document)
        return None if blob is None else msgspec.json.decode(blob, type=WorkflowDescriptor)

    async def check_format(self, name: str) -> None:
        """Make sure that the keys of a workflow, if there are any, are as this Headrace reads them.

        Raises:
            KeyFormatUnknown: Another Headrace has written them, in a way that this one does not know.
            RestoreUnfinished: A backup of it is being restored.
            StoreUnavailable: Ask again.
        """
        with store_errors(self.address):
            (document,) = await texts(self.client, [format_key(name)])
        check_format(name, document)

    async def workflows(self) -> list[str]:
        """Names of all workflows, sorted."""
        with store_errors(self.address):
            return sorted(name.decode() for name in await _wait(self.client.smembers(_WORKFLOWS)))

    async def next_term(self, workflow: str) -> int:
        """A number that no supervisor of this workflow had before, higher than all of them."""
        with store_errors(self.address), effect(Effect.TERM):
            return int(await self.client.incr(term_key(workflow)))

    async def confirm(self, key: str, durability: Durability) -> None:
        """Wait until a text that was written a moment ago is durable: what follows from it lies elsewhere.

        Raises:
            NotDurable: It is not; ask again.
            StoreUnavailable: The server does not answer.
        """
        await Durable(self.client, self.address, durability).write(_CONFIRM, Effect.TOUCH, key)

    async def leases(self, names: Sequence[str]) -> dict[str, str | None]:
        """Who holds each lease: its incarnation; None where it has lapsed (by the store's clock)."""
        if not names:
            return {}
        with store_errors(self.address):
            values = await texts(self.client, [lease_key(name) for name in names])
        return {name: None if value is None else value.decode() for name, value in zip(names, values, strict=True)}

    async def lease_left(self, name: str) -> float | None:
        """Seconds until a lease lapses unless it is renewed; None when it has lapsed."""
        with store_errors(self.address):
            left = await self.client.pttl(lease_key(name))
        return None if left < 0 else left / 1000

    async def put_status(self, workflow: str, process: str, document: Any, *, keep_ms: int = 15_000) -> None:
        """Leave a status document (anything that JSON can carry) that fades unless it is left again."""
        with store_errors(self.address), effect(Effect.STATUS):
            await self.client.set(status_prefix(workflow) + process, msgspec.json.encode(document), px=keep_ms)

    async def status(self, workflow: str, process: str) -> Any:
        """The status document of one process; None when it has left none lately."""
        with store_errors(self.address):
            value = await self.client.get(status_prefix(workflow) + process)
        return None if value is None else msgspec.json.decode(value)

    async def count_workflow(self, name: str) -> int:
        """How many keys the store holds of a workflow."""
        with store_errors(self.address):
            count = int(await self.client.exists(workflow_key(name)))
            for pattern in _patterns(name):
                count += len([key async for key in self.client.scan_iter(match=pattern, count=1000)])
        return count

    async def remove_workflow(self, name: str, *, keep: Collection[str] = ()) -> int:
        """Take out all that the store holds of a workflow: state, streams, descriptor. For good.

        Only for a workflow that nobody runs any more.

        Args:
            name: Its name.
            keep: Keys that stay.

        Returns:
            How many keys there were.
        """
        removed = 0
        with store_errors(self.address), effect(Effect.REMOVE):
            for pattern in _patterns(name):
                found = [key async for key in self.client.scan_iter(match=pattern, count=1000)]
                for key in found:
                    if key.decode() in keep:
                        continue
                    removed += int(await self.client.unlink(key))
            removed += int(await self.client.delete(workflow_key(name)))
            await _wait(self.client.srem(_WORKFLOWS, name))
        return removed


def _patterns(workflow: str) -> tuple[str, str]:
    """What all keys of a workflow but its descriptor look like."""
    name = _literal(workflow)
    return f"hr:{{{name}/*}}:*", f"hr:{{{name}}}:*"


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("*", "\\*").replace("?", "\\?")


async def _wait(answer: Any) -> Any:
    """The client's stubs say of some commands that they answer at once or later; here it is later."""
    return await answer
