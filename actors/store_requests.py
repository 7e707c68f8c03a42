"""Requests into the inboxes of partitions, and the answers to them: what the gateway asks of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import headrace.sources
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.sources.durable import Durable
from headrace.sources.routing import texts
from headrace.sources.tail import encode_headers
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.records import Headers
from headrace.workflows.wait_claims import CLAIM

_FOLDER: Final = Path(headrace.sources.__file__).parent / "scripts"
_APPEND: Final = Script(_FOLDER / "request_append.lua")
_REPLIES: Final = Script(_FOLDER / "replies.lua")

INBOX_QUOTA: Final = 10_000
"""Requests that may wait in one partition."""


REMEMBERED: Final = 600.0
"""Seconds that the id of a request is known for, unless somebody says more: for those who lost the answer."""
REQUESTS_AT_ONCE: Final = 100
BYTES_AT_ONCE: Final = 1 << 20
"""Requests, and their bytes, that one step takes in: the server is busy for about a millisecond."""


class Admission(Enum):
    """What became of a request at the inbox."""

    APPENDED = "APPENDED"
    ALREADY = "ALREADY"
    """It lay there before: the answer to an earlier try was lost, or somebody sent it again."""
    OTHER = "OTHER"
    """Another request had its id."""
    FULL = "FULL"
    """Too many wait in its partition: come again later."""
    RUNNING = "RUNNING"
    """Refused: a run of its key is running, or about to begin."""
    ENDED = "ENDED"
    """Refused: the run of its key has ended; or the workflow has."""
    UNKNOWN = "UNKNOWN"
    """Refused: there is no run of its key."""
    TAKEN = "TAKEN"
    """Refused: the wait that it is for is over, or another one is on its way to it."""

    @property
    def is_in(self) -> bool:
        """It is in the inbox, or has been."""
        return self in (Admission.APPENDED, Admission.ALREADY)


class Condition(Enum):
    """What must be so of the run of a request's key, looked at in the step that takes it in."""

    ANY = "any"
    NEW = "new"
    """None is running, or about to begin."""
    OPEN = "open"
    """The last one has not ended."""
    RUNNING = "running"
    """There is one, or is about to be."""


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
    headers: Headers = ()
    """Of the event."""
    fingerprint: str = ""
    """Of all that makes it this request: another one with the same id is refused."""
    condition: Condition = Condition.ANY
    claim: str = ""
    """Id of the wait that it is for, see `wait_claims`; empty: for the next one on its name."""


class RequestStore(Registry):
    """A registry that also takes requests in, for any workflow."""

    def __init__(self, url: str, *, connections: int = 16) -> None:
        super().__init__(url, connections=connections)
        self._durable: dict[Durability, Durable] = {}

    def at(self, durability: Durability) -> Durable:
        """Writes that have to be durable at this level."""
        found = self._durable.get(durability)
        if found is None:
            found = self._durable[durability] = Durable(self.client, self.address, durability)
        return found

    async def append_request(
        self,
        workflow: str,
        partition: int,
        request: Request,
        *,
        durability: Durability = FAST,
        quota: int = INBOX_QUOTA,
        remembered: float = REMEMBERED,
    ) -> Admission:
        """Put a request into its partition's inbox. May be asked again when the answer was lost.

        Returns once it is durable at the workflow's level.

        Args:
            workflow: Name of the workflow.
            partition: Where the request's key belongs.
            request: What comes in.
            durability: What it has to reach.
            quota: Requests that may wait in the partition.
            remembered: Seconds that its id is known for at least.

        Raises:
            NotDurable: It is in the inbox, but not durable.
            StoreUnavailable: It may be in the inbox or not.
            StoreFull: The store has no memory left.
        """
        (admission,) = await self.append_requests(
            workflow, partition, [request], durability=durability, quota=quota, remembered=remembered
        )
        return admission

    async def append_requests(
        self,
        workflow: str,
        partition: int,
        requests: Sequence[Request],
        *,
        durability: Durability = FAST,
        quota: int = INBOX_QUOTA,
        remembered: float = REMEMBERED,
    ) -> list[Admission]:
        """Put requests into their partition's inbox, in order, some at a time; none of them is waited for.

        Raises:
            NotDurable, StoreUnavailable, StoreFull: As `append_request`; some may be in the inbox.
        """
        head, admissions = PartitionKeys(workflow, partition).head, list[Admission]()
        for chunk in _chunks(requests):
            fields = [field for request in chunk for field in _fields(request)]
            settings = (chunk[0].reply, str(quota), str(round(remembered * 1000)))
            answers = await self.at(durability).write(_APPEND, Effect.REQUEST_APPEND, head, *settings, *fields)
            admissions += [Admission(answer.decode()) for answer in answers]
        return admissions

    async def replies(self, asked: Sequence[tuple[str, int, str]], durability: Durability = FAST) -> list[bytes | None]:
        """The durable answers (JSON) to requests, None where there is none yet.

        A reply can be read as soon as its commit is applied. So those that are there are read once more, together
        with a write, and that is waited for: on the same connection, as after a fail-over another server has them.

        Args:
            asked: Workflow, partition and id of each request.
            durability: What the replies have to have reached.

        Raises:
            NotDurable: Some are there, but not durable.
            StoreUnavailable: The server does not answer.
        """
        if not asked:
            return []
        found = await self._read_replies(asked)
        if not durability.waits:
            return found
        there: dict[str, list[tuple[int, str]]] = {}
        for place, ((workflow, number, request), body) in enumerate(zip(asked, found, strict=True)):
            if body is not None:
                there.setdefault(PartitionKeys(workflow, number).head, []).append((place, request))
        for head, rows in there.items():
            ids = [request for _, request in rows]
            bodies = await self.at(durability).write(_REPLIES, Effect.TOUCH, head, *ids)
            for (place, _), body in zip(rows, bodies, strict=True):
                found[place] = body
        return found

    async def _read_replies(self, asked: Sequence[tuple[str, int, str]]) -> list[bytes | None]:
        keys = [PartitionKeys(workflow, partition).reply(request) for workflow, partition, request in asked]
        with store_errors(self.address):
            return await texts(self.client, keys)


def _fields(request: Request) -> tuple[str | bytes, ...]:
    """As the script has them."""
    headers = (*request.headers, (CLAIM, request.claim.encode())) if request.claim else request.headers
    return (
        request.id, request.key, request.source, request.body, encode_headers(headers) if headers else b"",
        request.fingerprint, request.condition.value, request.claim,
    )  # fmt: skip


def _chunks(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Parts that one step takes in."""
    chunk: list[Request] = []
    size = 0
    for request in requests:
        if chunk and (len(chunk) == REQUESTS_AT_ONCE or size + len(request.body) > BYTES_AT_ONCE):
            yield chunk
            chunk, size = [], 0
        chunk.append(request)
        size += len(request.body)
    if chunk:
        yield chunk
