"""Requests into the inboxes of partitions, and the answers to them: what the gateway asks of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import headrace.sources
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import PartitionKeys

_FOLDER: Final = Path(headrace.sources.__file__).parent / "scripts"
_APPEND: Final = Script(_FOLDER / "request_append.lua")

INBOX_QUOTA: Final = 10_000
"""Requests that may wait in one partition."""


class Admission(Enum):
    """What became of a request at the inbox."""

    APPENDED = "APPENDED"
    ALREADY = "ALREADY"
    """It lay there before: the answer to an earlier try was lost."""
    FULL = "FULL"
    """Too many wait in its partition: come again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a caller."""

    id: str
    """Of the event; a repeat with the same id is not appended again."""
    key: str
    """The run it is for."""
    source: str
    """Name of the source that takes it."""
    body: bytes
    """JSON."""
    reply: str = ""
    """Reply channel of the gateway process that waits; empty when nobody does."""


class RequestStore(Registry):
    """A registry that also takes requests in, for any workflow."""

    async def append_request(
        self, workflow: str, partition: int, request: Request, *, quota: int = INBOX_QUOTA
    ) -> Admission:
        """Put a request into its partition's inbox. May be asked again when the answer was lost.

        Raises:
            StoreUnavailable: It may be in the inbox or not.
            StoreFull: The store has no memory left.
        """
        with store_errors(self.address):
            answer = await _APPEND.write(
                self.client,
                Effect.REQUEST_APPEND,
                PartitionKeys(workflow, partition).head,
                request.id,
                request.key,
                request.source,
                request.body,
                request.reply,
                str(quota),
            )
        return Admission(answer.decode())

    async def replies(self, asked: Sequence[tuple[str, int, str]]) -> list[bytes | None]:
        """The durable answers (JSON) to requests, None where there is none yet.

        Args:
            asked: Workflow, partition and id of each request.
        """
        if not asked:
            return []
        with store_errors(self.address):
            async with self.client.pipeline(transaction=False) as pipe:
                for workflow, partition, request in asked:
                    pipe.get(PartitionKeys(workflow, partition).reply(request))
                found: list[Any] = await pipe.execute()
        return found
