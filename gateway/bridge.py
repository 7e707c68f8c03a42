"""From a waiting caller to a worker and back: one reply channel for all waiters of this process.

A reply is a durable key and a wake-up on the channel. Wake-ups get lost whenever the connection breaks,
so at every (re)subscription the durable keys of all waiters are read; and a waiter reads its key once
more before it gives up.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import structlog

from headrace.actors.store_requests import Admission, Request, RequestStore
from headrace.sources.connection import connect, store_errors
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

_QUIET: Final = 2.0
"""Seconds without a message after which the connection is tried, and after as many given up."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_TRIES: Final = 3
"""How often a request is given to the store when the answer is lost."""


class Bridge:
    """Sends requests and waits for replies; one for each gateway process and event loop.

    Args:
        url: Address of the store.
        store: Connection for requests.
    """

    def __init__(self, url: str, store: RequestStore) -> None:
        self._store = store
        self._client = connect(url, connections=2, blocking=True)
        self._channel = f"hr:replies:{secrets.token_hex(8)}"
        self._waiters: dict[str, tuple[str, int, asyncio.Future[bytes]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.listening = False
        """Wake-ups come in."""

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return len(self._waiters)

    async def open(self) -> None:
        """Start listening; while the store is away, try again."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen_forever(), name="reply-listener")

    async def close(self) -> None:
        """Stop listening; who still waits gets no reply. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._client.aclose()

    async def ask(
        self, workflow: str, partition: int, key: str, source: str, body: bytes, *, request: str, wait: float
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

        Returns:
            What became of the request, and the reply (JSON), or None when it did not come in time.

        Raises:
            StoreUnavailable: The store does not answer: the request may be in it or not.
            StoreFull: The store has no memory left; the request is not in it.
        """
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiters[request] = (workflow, partition, reply)
        try:
            admission = await self._append(workflow, partition, Request(
                id=request, key=key, source=source, body=body, reply=self._channel
            ))  # fmt: skip
            if admission is Admission.FULL:
                return admission, None
            return admission, await self._reply_within(wait, (workflow, partition, request), reply)
        finally:
            self._waiters.pop(request, None)

    async def _append(self, workflow: str, partition: int, request: Request) -> Admission:
        pause = _FIRST_PAUSE
        for _ in range(_TRIES - 1):
            try:
                return await self._store.append_request(workflow, partition, request)
            except StoreUnavailable as problem:
                _log.info("request_asked_again", request=request.id, reason=problem.cause)
            await asyncio.sleep(pause)
            pause *= 4
        return await self._store.append_request(workflow, partition, request)

    async def _reply_within(
        self, wait: float, asked: tuple[str, int, str], reply: asyncio.Future[bytes]
    ) -> bytes | None:
        await asyncio.wait((reply,), timeout=wait)
        if reply.done():
            return reply.result()
        try:
            return (await self._store.replies([asked]))[0]
        except StoreUnavailable as problem:
            # The request is in the inbox: the caller learns where to look for the reply later.
            _log.info("reply_not_read", request=asked[2], reason=problem.cause)
            return None

    async def _listen_forever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen()
            except StoreUnavailable as problem:
                if self.listening or pause == _FIRST_PAUSE:
                    _log.warning("replies_interrupted", reason=problem.cause)
            pause = _FIRST_PAUSE if self.listening else min(2 * pause, _LONGEST_PAUSE)
            self.listening = False
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Hand out wake-ups until the connection breaks; always ends by an error."""
        with store_errors(self._store.address):
            async with self._client.pubsub() as subscription:
                await subscription.subscribe(self._channel)
                tried = False
                while True:
                    message = await subscription.get_message(timeout=_QUIET)
                    if message is not None:
                        tried = False
                        await self._take(message)
                    elif tried:
                        raise StoreUnavailable(self._store.address, f"no answer to a ping within {_QUIET:g} s")
                    else:
                        await subscription.ping()
                        tried = True

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            await self._sweep()
            self.listening = True
        elif message["type"] == "message":
            request, _, body = message["data"].partition(b" ")
            self._answer(request.decode(), body)

    async def _sweep(self) -> None:
        """Read the durable replies of all who wait: their wake-ups may have been lost."""
        asked = [(workflow, partition, request) for request, (workflow, partition, _) in self._waiters.items()]
        for (_, _, request), body in zip(asked, await self._store.replies(asked), strict=True):
            if body is not None:
                self._answer(request, body)

    def _answer(self, request: str, body: bytes) -> None:
        waiter = self._waiters.get(request)
        if waiter is not None and not waiter[2].done():
            waiter[2].set_result(body)
