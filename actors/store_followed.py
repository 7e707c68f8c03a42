"""A run's stream as followers read it: what has come, whether something before it is lost, and how the run stands."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from headrace.actors.run_beginning import is_beginning
from headrace.actors.store_registry import Registry
from headrace.actors.store_streams import entry_of
from headrace.sources.connection import store_errors
from headrace.workflows.keyspace import INBOX, PartitionKeys
from headrace.workflows.run_streams import Streamed, order_of
from headrace.workflows.runs import NUMBER_FIELD, RUNNING, STATUS_FIELD

FIRST: Final = "0-0"
"""Id before all others."""


class Followed(NamedTuple):
    """What there is of a stream, at one moment."""

    status: str | None
    """Of the run; None: none of this key is committed."""
    number: int
    """Of the run."""
    is_there: bool
    """There is a run, or is about to be."""
    is_written: bool
    """Something of the stream is there."""
    is_torn: bool
    """Of what comes after the place that was asked for, something is there no more: read again from `FIRST`."""
    entries: list[Streamed]
    events: list[str]
    """By entry: id of the event that a node has written it for; "" of all but values."""

    @property
    def is_over(self) -> bool:
        """The run has ended, so nothing comes any more."""
        return self.status is not None and self.status != RUNNING


class FollowedStreams:
    """Reads streams for those who follow them.

    Args:
        registry: Connection to the store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def read(
        self, workflow: str, partition: int, key: str, name: str, *, after: str = FIRST, limit: int = 200
    ) -> Followed:
        """Entries of a stream behind an id, in order.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        keys = PartitionKeys(workflow, partition)
        stream = keys.run_stream(key, name)
        with store_errors(self._registry.address):
            pipe: Any = self._registry.client.pipeline(transaction=True)
            pipe.hmget(keys.run(key), [STATUS_FIELD, NUMBER_FIELD])
            pipe.hget(keys.streams(key), "number")
            pipe.get(keys.starting(key))
            pipe.hget(keys.positions, INBOX)
            pipe.xrange(stream, "-", "+", count=1)
            pipe.xrange(stream, f"({after}", "+", count=limit)
            (status, number), written, mark, done, first, rows = await pipe.execute()
        if written is not None and number is not None and int(written) < int(number):
            first, rows = [], []  # of a run that had the key before
        if written is not None and number is not None and int(written) > int(number):
            status = number = None  # that is the run before: the next one has not been committed yet
        begins = status != RUNNING.encode() and is_beginning(mark, done)
        if begins and status is not None:
            status, first, rows = None, [], []  # the same; it has written nothing yet
        return Followed(
            status=None if status is None else status.decode(),
            number=int(number or written or 0),
            is_there=status is not None or written is not None or begins,
            is_written=bool(first),
            is_torn=after != FIRST and bool(first) and order_of(first[0][0].decode()) > order_of(after),
            entries=[entry_of(id_.decode(), fields) for id_, fields in rows],
            events=[_event_of(fields.get(b"p", b"").decode()) for _, fields in rows],
        )

    async def last(self, workflow: str, partition: int, key: str, name: str) -> str:
        """Id of a stream's last entry; `FIRST`: there is none.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        stream = PartitionKeys(workflow, partition).run_stream(key, name)
        with store_errors(self._registry.address):
            rows: Any = await self._registry.client.xrevrange(stream, "+", "-", count=1)
        return rows[0][0].decode() if rows else FIRST


def _event_of(place: str) -> str:
    """Id of the event in an attempt's place: node, blank, event, slash, number of nodes that it had passed."""
    return place.rpartition(" ")[2].rpartition("/")[0]
