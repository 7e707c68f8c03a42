"""From a waiting caller to a worker and back: one reply channel for all waiters of this process.

A reply is a durable key and a wake-up on the channel. Wake-ups get lost whenever the connection breaks,
so at every (re)subscription the durable keys of all waiters are read; and a waiter reads its key once
more before it gives up. Where a reply may leave only once it is durable, its worker may die between commit
and wake-up; so the keys of those who wait for such replies are read every second.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from starlette.types import Receive

from headrace.actors.store_requests import REMEMBERED, Admission, Condition, Request, RequestStore
from headrace.gateway.appending import Appender, Place
from headrace.gateway.hearing import Hearing
from headrace.gateway.leaving import has_gone
from headrace.gateway.tasks import end
from headrace.sources.connection import connect, store_errors
from headrace.sources.routing import subscription
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.records import Headers
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

_SWEEP: Final = 1.0
"""Seconds between two looks for replies that nobody was woken for."""
_FIRST_LOOK: Final = 0.02
_LAST_LOOK: Final = 0.5
"""Seconds between two looks for the reply to a request that was sent before, at first and at last."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A caller that waits for the reply to its request."""

    workflow: str
    partition: int
    durability: Durability
    reply: asyncio.Future[bytes | None]
    """None: there is none yet, and nobody waits any longer."""
    caller: Receive | None
    """By which it is seen that the caller has gone."""
    leaving: asyncio.Task[None] | None = None
    """Ends once the caller has gone."""

    def answer(self, body: bytes | None) -> None:
        """Let the caller have it, unless it has got something."""
        if not self.reply.done():
            self.reply.set_result(body)


def _has_left(waiter: _Waiter, leaving: asyncio.Task[None]) -> None:
    if not leaving.cancelled():
        waiter.answer(None)


class Bridge(Hearing):
    """Sends requests and waits for replies; one for each gateway process and event loop.

    Args:
        url: Address of the store.
        store: Connection for requests.
        remembered: Seconds that the ids of requests are known for, of those that have a fingerprint.
    """

    def __init__(self, url: str, store: RequestStore, *, remembered: float = REMEMBERED) -> None:
        super().__init__(store.address, "replies_interrupted")
        self._store = store
        self._appender = Appender(store, remembered=remembered)
        self._client = connect(url, connections=2, blocking=True)
        self._channel = f"hr:replies:{secrets.token_hex(8)}"
        self._waiters: dict[str, list[_Waiter]] = {}
        """By request: several callers may wait for one, if they have sent it with the same Idempotency-Key."""
        self._count = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return self._count

    def stop_waiting(self) -> None:
        """All who wait get what is there now, from here on: this process is about to end."""
        self._stopping = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.answer(None)

    async def open(self) -> None:
        """Start listening; while the store is away, try again."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._hear_forever(), name="reply-listener"),
                asyncio.create_task(self._sweep_forever(), name="reply-sweeper"),
            ]

    async def close(self) -> None:
        """Stop listening; who still waits gets no reply. Idempotent."""
        tasks, self._tasks = self._tasks, []
        await end(tasks)
        await self._appender.close()
        await self._client.aclose()

    async def ask(  # noqa: PLR0913  each is a part of the request
        self,
        workflow: str,
        partition: int,
        key: str,
        source: str,
        body: bytes,
        *,
        request: str,
        wait: float,
        durability: Durability = FAST,
        headers: Headers = (),
        fingerprint: str = "",
        condition: Condition = Condition.ANY,
        claim: str = "",
        admitted: asyncio.Future[Admission] | None = None,
        caller: Receive | None = None,
    ) -> tuple[Admission, bytes | None]:
        """Put a request into the inbox and wait for its reply.

        Args:
            workflow: Name of the workflow.
            partition: Where the key belongs.
            key: The run.
            source: Name of the source that takes it.
            body: JSON.
            request: Id of the request.
            wait: Seconds to wait for the reply; 0 does not wait.
            durability: What request and reply have to reach before the caller hears of them.
            headers: Of the event.
            fingerprint: Of all that makes it this request, where its id is chosen by the caller.
            condition: What must be so of the run.
            claim: Id of the wait that it is for; empty: of none in particular.
            admitted: Told what became of the request as soon as that is known.
            caller: Whose body is read: once it has gone, within a second or two nobody waits any more.

        Returns:
            What became of the request, and its answer (JSON of a `RequestAnswer`); None when it did not come in time.

        Raises:
            NotDurable: The request is in the store, but not durable.
            StoreUnavailable: The store does not answer: the request may be in it or not.
            StoreFull: The store has no memory left; the request is not in it.
        """
        waiter = _Waiter(workflow, partition, durability, asyncio.get_running_loop().create_future(), caller)
        self._waiters.setdefault(request, []).append(waiter)
        self._count += 1
        try:
            place = Place(workflow, partition, durability, remembered=bool(fingerprint))
            admission = await self._appender.append(place, Request(
                id=request, key=key, source=source, body=body, reply=self._channel, headers=headers,
                fingerprint=fingerprint, condition=condition, claim=claim,
            ))  # fmt: skip
            if admitted is not None:
                admitted.set_result(admission)
            if not admission.is_in:
                return admission, None
            return admission, await self._reply_within(wait, request, waiter, attached=admission is Admission.ALREADY)
        finally:
            self._forget(request, waiter)

    def _forget(self, request: str, waiter: _Waiter) -> None:
        self._count -= 1
        if waiter.leaving is not None:
            waiter.leaving.cancel()
        left = [each for each in self._waiters[request] if each is not waiter]
        if left:
            self._waiters[request] = left
        else:
            del self._waiters[request]

    async def _reply_within(self, wait: float, request: str, waiter: _Waiter, *, attached: bool) -> bytes | None:
        if wait <= 0 and not attached:
            return None
        looking = asyncio.create_task(self._look_for(request, waiter)) if attached else None
        ending = asyncio.get_running_loop().call_later(0.0 if self._stopping else wait, waiter.answer, None)
        try:
            body = await waiter.reply
        finally:
            ending.cancel()
            if looking is not None:
                looking.cancel()
        return await self._read(request, waiter) if body is None else body

    async def _read(self, request: str, waiter: _Waiter) -> bytes | None:
        try:
            return (await self._store.replies([(waiter.workflow, waiter.partition, request)], waiter.durability))[0]
        except StoreUnavailable as problem:
            # The request is in the inbox: the caller learns where to look for the reply later.
            _log.info("reply_not_read", request=request, reason=problem.cause)
            return None

    async def _look_for(self, request: str, waiter: _Waiter) -> None:
        """Read again and again: the wake-up goes to the process that sent the request first, or has gone already."""
        pause = _FIRST_LOOK
        while not waiter.reply.done():
            body = await self._read(request, waiter)
            if body is not None:
                self._answer(request, body)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_LOOK)

    async def _hear_once(self) -> None:
        """Hand out wake-ups until the connection breaks; always ends by an error."""
        with store_errors(self._address):
            async with subscription(self._client) as heard:
                await heard.subscribe(self._channel)
                while True:
                    await self._take(await self._message(heard))

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            await self._sweep(self._waiters)
            self.listening = True
        elif message["type"] == "message":
            request, _, body = message["data"].partition(b" ")
            self._answer(request.decode(), body)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self._watch_callers()
            waiting = [request for request, waiters in self._waiters.items() if waiters[0].durability.waits]
            try:
                await self._sweep(waiting)
            except StoreUnavailable as problem:
                _log.info("replies_not_read", requests=len(waiting), reason=problem.cause)

    def _watch_callers(self) -> None:
        """Look after those who still wait: most have had their answers, and cost nothing."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if waiter.leaving is None and waiter.caller is not None:
                    waiter.leaving = asyncio.create_task(has_gone(waiter.caller), name="caller-leaving")
                    waiter.leaving.add_done_callback(partial(_has_left, waiter))

    async def _sweep(self, requests: Iterable[str]) -> None:
        """Read the durable replies of some who wait: their wake-ups may have been lost."""
        asked: dict[Durability, list[tuple[str, int, str]]] = {}
        for request in requests:
            waiter = self._waiters[request][0]
            asked.setdefault(waiter.durability, []).append((waiter.workflow, waiter.partition, request))
        for durability, rows in asked.items():
            for (_, _, request), body in zip(rows, await self._store.replies(rows, durability), strict=True):
                if body is not None:
                    self._answer(request, body)

    def _answer(self, request: str, body: bytes) -> None:
        for waiter in self._waiters.get(request, ()):
            waiter.answer(body)
