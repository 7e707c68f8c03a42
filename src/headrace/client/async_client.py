"""`AsyncClient`: the same as `Client`, for programs with an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import httpx

from headrace.client.answers import Answer, Executed, RunStatus
from headrace.client.exchange import Ask, Got, Lost, Pause, Talk
from headrace.client.operations import (
    RETRY,
    Rules,
    ended,
    home_of,
    key_in,
    looked_at,
    message_path,
    node_executed,
    posted,
    source_params,
    started,
    stream_path,
    terminated,
)
from headrace.client.streams import Follower, StreamEvent
from headrace.client.transport import (
    DEFAULT_ADDRESS,
    READING,
    TIMEOUT,
    all_headers,
    content_type,
    got,
    lost,
    new_key,
    options,
)
from headrace.workflows.retry import Retry

R = TypeVar("R")


class AsyncClient:
    """Speaks with a gateway; for programs with an event loop. Several tasks may share one.

    Each call is made again after a 429, a 503 or a broken connection, as `retry` says and no earlier than the gateway
    asks for; what is sent has an Idempotency-Key, so it counts once however often it is sent.

    Args:
        address: Of the gateway.
        token: A credential, sent as `Authorization: Bearer`.
        headers: More headers of each request.
        retry: How often, and after which waits; its `on=` chooses between `GatewayUnreachable` and `GatewayProblem`.
        timeout: For connecting and for an answer, beyond the time that the gateway is asked to wait.
        http: A client of httpx to use; it is yours to close.

    Examples:
        async with AsyncClient("http://localhost:8080") as client:
            run = await client.runs("orders").start({"id": "4711", "total": 12.5})
            await run.message("approval", {"approved": True, "by": "ann"})
            print(await run.result(wait=timedelta(minutes=1)))
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry = RETRY,
        timeout: timedelta = TIMEOUT,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._address = address.rstrip("/")
        self._headers = all_headers(token, headers)
        self._timeout = timeout.total_seconds()
        self._http = http or httpx.AsyncClient()
        self._is_own = http is None
        self._sleep = asyncio.sleep
        self.rules = Rules(retry, time.monotonic, new_key)

    def runs(self, workflow: str) -> AsyncRuns:
        """The runs of a workflow, by its name."""
        return AsyncRuns(self, workflow)

    async def close(self) -> None:
        """Close its connections."""
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def do(self, talk: Talk[R]) -> R:
        """Have a conversation with the gateway."""
        said: Got | Lost | None = None
        while True:
            try:
                step = talk.send(said)
            except StopIteration as done:
                result: R = done.value
                return result
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                said = None
            else:
                said = await self._call(step)

    async def follow(self, follower: Follower) -> AsyncGenerator[StreamEvent]:
        """Everything that a follower is told, through all its connections."""
        while True:
            ask, pause = follower.ask(), 0.0
            url = self._address + ask.path
            headers = self._headers | dict(ask.headers)
            try:
                async with self._http.stream(ask.method, url, headers=headers, timeout=READING) as response:
                    if response.is_error:
                        await response.aread()
                        pause = follower.refused(got(response))
                    elif follower.connected(response.status_code, content_type(response)):
                        async for some in response.aiter_bytes():
                            for event in follower.feed(some):
                                yield event
                        if not follower.ended:
                            pause = follower.lost(Lost(url, "the connection was closed"))
            except httpx.TransportError as error:
                pause = follower.lost(lost(url, error))
            if follower.ended:
                return
            await self._sleep(pause)

    async def _call(self, ask: Ask) -> Got | Lost:
        url = self._address + ask.path
        try:
            return got(await self._http.request(ask.method, url, **options(ask, self._headers, self._timeout)))
        except httpx.TransportError as error:
            return lost(url, error)


class AsyncRuns:
    """The runs of one workflow; made by `client.runs(name)`."""

    def __init__(self, client: AsyncClient, workflow: str) -> None:
        self._client, self._workflow = client, workflow

    async def start(
        self,
        data: Any,
        *,
        key: str | None = None,
        source: str | None = None,
        wait: timedelta | None = None,
        idempotency_key: str | None = None,
        callback: str | None = None,
    ) -> AsyncRun:
        """Begin a run with an event, and wait for the reply to it: `run.answer`.

        Args:
            data: Structs, dataclasses, dicts: what `msgspec.json` can write.
            key: Of the run, where the data don't say it; by default one is made.
            source: Name of the `RequestSource`, where there are several.
            wait: For the reply; None: as the gateway does (10 s, if nothing else is set).
            idempotency_key: Who starts a run twice with the same one has one run. By default one is made.
            callback: Address that the run tells when it waits, gives an event up, and ends; signed calls by the
                gateway, if it has secrets to sign with.

        Raises:
            RunExists: A run with this key is running.
            GatewayProblem: It was refused otherwise.
            GatewayUnreachable: No answer came; start it again with the same `idempotency_key`.
        """
        talk = started(
            self._client.rules, self._workflow, data, key, source, wait=wait, idempotency_key=idempotency_key,
            callback=callback,
        )  # fmt: skip
        answer, home = await self._client.do(talk)
        return AsyncRun(self._client, home, answer)

    def get(self, key: str | None = None) -> AsyncRun:
        """The run with a key, whether there is one or not; None: that of a workflow without keys."""
        return AsyncRun(self._client, home_of(self._workflow, key))


class AsyncRun:
    """One run; made by `runs.start(data)` or `runs.get(key)`.

    Attributes:
        address: Where it is, without the gateway's own address.
        answer: To the event that it was started with; None: it was not started here.
    """

    def __init__(self, client: AsyncClient, address: str, answer: Answer | None = None) -> None:
        self._client = client
        self.address, self.answer = address, answer

    @property
    def key(self) -> str | None:
        """Its key; None in a workflow without keys."""
        return key_in(self.address)

    async def send(
        self,
        data: Any,
        *,
        source: str | None = None,
        wait: timedelta | None = None,
        idempotency_key: str | None = None,
        callback: str | None = None,
    ) -> Answer:
        """Send an event to it, which begins it if it is not there, and wait for the reply; see `Runs.start`.

        Raises:
            RunEnded: It takes no more.
            RunNotCompleted: It has ended meanwhile, without a result.
            GatewayProblem: It was refused otherwise, or has failed for good.
            GatewayUnreachable: No answer came; send it again with the same `idempotency_key`.
        """
        path, params = f"{self.address}/events", source_params(source)
        return await self._post(path, data, wait, idempotency_key, params, callback)

    async def message(
        self, name: str, data: Any, *, wait: timedelta = timedelta(0), idempotency_key: str | None = None
    ) -> Answer:
        """Send a message to a wait of it, which is kept until the run gets there.

        Args:
            name: Of the `MessageSource`.
            data: See `Runs.start`.
            wait: For the reply of who takes it; by default it is not waited for.
            idempotency_key: See `Runs.start`.

        Raises:
            UnknownRun: There is no such run.
            RunEnded: It takes no more.
            GatewayProblem: It was refused otherwise.
            GatewayUnreachable: No answer came; send it again with the same `idempotency_key`.
        """
        return await self._post(message_path(self.address, name), data, wait, idempotency_key)

    async def execute(
        self,
        node: str,
        data: Any,
        *,
        commit: bool = False,
        wait: timedelta = timedelta(seconds=30),
        idempotency_key: str | None = None,
    ) -> Executed:
        """Have one of its nodes process data out of line, with the states that it has; nothing goes on from there.

        Args:
            node: Its name.
            data: What the node takes; see `Runs.start`.
            commit: Keep states and effects; else all of that is forgotten.
            wait: For what comes of it.
            idempotency_key: See `Runs.start`.

        Raises:
            UnknownRun: There is no such run.
            RunEnded: It has ended.
            GatewayProblem: The node has failed (`failed`), there is none, or it was refused otherwise.
            NotAnswered: It is not known in time; ask again with the same `idempotency_key`.
            GatewayUnreachable: No answer came; send it again with the same `idempotency_key`.
        """
        talk = node_executed(
            self._client.rules, self.address, node, data, commit=commit, wait=wait, idempotency_key=idempotency_key
        )
        return await self._client.do(talk)

    async def status(self) -> RunStatus:
        """How it stands.

        Raises:
            UnknownRun: It never began, or is forgotten already.
        """
        return (await self._client.do(looked_at(self._client.rules, self.address)))[0]

    async def result(self, *, wait: timedelta = timedelta(seconds=30)) -> Any:
        """Wait for its end; its result.

        Raises:
            RunNotCompleted: It has ended without one.
            RunNotEnded: It has not ended in time.
            UnknownRun: There is no such run.
        """
        return await self._client.do(ended(self._client.rules, self.address, wait, begun=self.answer is not None))

    async def terminate(self, reason: Any = None, *, wait: timedelta | None = None) -> RunStatus:
        """End it as soon as what is under way of it is done; how it stands then, or after `wait`.

        Raises:
            RunEnded: It has ended otherwise.
            UnknownRun: There is no such run.
        """
        return await self._client.do(terminated(self._client.rules, self.address, reason, wait))

    def follow(self, stream: str, *, after: str = "") -> AsyncGenerator[StreamEvent]:
        """What is written into a stream of it, from its beginning, until the run ends; through broken connections.

        `StreamValues` makes of it the values that count.

        Args:
            stream: Its name.
            after: Go on behind the event with this id.

        Raises:
            UnknownRun: There is no such run.
            GatewayProblem: It was refused otherwise.
            GatewayUnreachable: Connecting has failed as often as `retry` allows.
        """
        return self._client.follow(Follower(stream_path(self.address, stream), after, self._client.rules.retry))

    async def _post(
        self, path: str, data: Any, wait: timedelta | None, idempotency_key: str | None,
        params: dict[str, str] | None = None, callback: str | None = None,
    ) -> Answer:  # fmt: skip
        talk = posted(
            self._client.rules, path, data, wait=wait, idempotency_key=idempotency_key, params=params, callback=callback
        )
        return (await self._client.do(talk))[0]
