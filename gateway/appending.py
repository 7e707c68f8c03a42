"""Requests on their way into inboxes: those that come while a step is under way go together in the next one.

So a lone request waits for nothing, and many cost one step, and one wait for the disk, for each partition. Requests of
one partition keep the order in which they came.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from headrace.actors.store_requests import BYTES_AT_ONCE, REMEMBERED, REQUESTS_AT_ONCE, Admission, Request, RequestStore
from headrace.gateway.tasks import end
from headrace.workflows.durability import Durability
from headrace.workflows.store import StoreError, StoreUnavailable

_log = structlog.get_logger(__name__)

_TRIES: Final = 3
"""How often requests are given to the store when the answer is lost."""
_FIRST_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go, and what they have to reach there: those of one place may go together."""

    workflow: str
    partition: int
    durability: Durability
    remembered: bool
    """Their ids are the callers' own."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    done: asyncio.Future[Admission]


class Appender:
    """Puts requests into inboxes, for all callers of one process.

    Args:
        store: Connection for requests.
        remembered: Seconds that ids are known for which callers have chosen.
    """

    def __init__(self, store: RequestStore, *, remembered: float) -> None:
        self._store = store
        self._remembered = remembered
        self._queues: dict[Hashable, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, place: Place, request: Request) -> Admission:
        """Put a request into its inbox; a caller that goes away meanwhile takes nothing back.

        Raises:
            NotDurable: It is in the store, but not durable.
            StoreUnavailable: The store does not answer: the request may be in it or not.
            StoreFull: The store has no memory left; the request is not in it.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        queue = self._queues.get(place)
        if queue is not None:
            queue.append(waiting)
            return await waiting.done
        self._queues[place] = deque([waiting])
        task = asyncio.create_task(self._work(place), name="requests-in")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await waiting.done

    async def close(self) -> None:
        """Take in no more; who still waits is told that it is not known. Idempotent."""
        await end(list(self._tasks))

    async def _work(self, place: Place) -> None:
        """Until nothing of a place waits."""
        queue = self._queues[place]
        try:
            while queue:
                await self._take(_next(queue), place)
        finally:
            del self._queues[place]
            _fail(queue, StoreUnavailable(self._store.address, "the gateway ends"))

    async def _take(self, rows: list[_Waiting], place: Place) -> None:
        try:
            admissions = await self._asked([row.request for row in rows], place)
        except StoreError as error:
            _fail(rows, error)
        except BaseException as error:
            _fail(rows, StoreUnavailable(self._store.address, str(error) or type(error).__name__))
            if not isinstance(error, Exception):
                raise
            _log.exception("requests_not_appended", workflow=place.workflow, partition=place.partition)
        else:
            for row, admission in zip(rows, admissions, strict=True):
                if not row.done.done():
                    row.done.set_result(admission)

    async def _asked(self, requests: list[Request], place: Place) -> list[Admission]:
        pause = _FIRST_PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return await self._store.append_requests(
                    place.workflow, place.partition, requests, durability=place.durability,
                    remembered=self._remembered if place.remembered else REMEMBERED,
                )  # fmt: skip
            except StoreUnavailable as problem:
                if not left:
                    raise
                _log.info("requests_asked_again", requests=[each.id for each in requests], reason=problem.cause)
            await asyncio.sleep(pause)
            pause *= 4
        raise AssertionError("the last try returns or raises")


def _next(queue: deque[_Waiting]) -> list[_Waiting]:
    """Those that go in one step: either all of them are in or none is."""
    rows, size = [queue.popleft()], 0
    while queue and len(rows) < REQUESTS_AT_ONCE:
        size += len(rows[-1].request.body)
        if size + len(queue[0].request.body) > BYTES_AT_ONCE:
            break
        rows.append(queue.popleft())
    return rows


def _fail(rows: Iterable[_Waiting], error: Exception) -> None:
    for row in rows:
        if not row.done.done():
            # Each has one of its own: one that several tasks raise would gather the traces of all.
            row.done.set_exception(copy.copy(error))
