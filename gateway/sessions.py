"""A session: one WebSocket for a run, by which events go in, and replies and what streams tell come out.

What comes in is taken in the order in which it came: a frame is read once the one before is in its inbox. What goes
out waits in one queue, whose bound is what a session may cost; a client that does not read for too long is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import WebSocket, WebSocketDisconnect

from headrace.actors.store_requests import Admission, Condition
from headrace.gateway.addresses import partition, run_address
from headrace.gateway.bodies import decode_json
from headrace.gateway.calls import Call, refusal
from headrace.gateway.claims import checked_claim
from headrace.gateway.following import KEEP_ALIVE, StreamPlace
from headrace.gateway.gateway import Gateway, message_source, request_source
from headrace.gateway.idempotency import checked_key, identity_of
from headrace.gateway.preferences import Preference
from headrace.gateway.problems import ProblemError, problem_of
from headrace.gateway.routes_events import check_key, late_condition
from headrace.gateway.session_frames import (
    AROUND,
    Frame,
    accepted_frame,
    error_frame,
    frame_of,
    id_in,
    reply_frame,
    stream_frame,
)
from headrace.gateway.session_streams import through_runs
from headrace.gateway.tasks import end
from headrace.gateway.turns import LONGEST
from headrace.workflows.durability import Durability
from headrace.workflows.store import WorkflowDescriptor

_log = structlog.get_logger(__name__)

GOING_AWAY: Final = 1001
NOT_TEXT: Final = 1003
NOT_ALLOWED: Final = 1008
TOO_LARGE: Final = 1009
FAILED: Final = 1011
TOO_SLOW: Final = 1013
_QUEUED: Final = 64
"""Texts that wait to be sent; a value has 64 KiB at most."""
_UNDER_WAY: Final = 100
"""Events and messages of one session whose replies have not come."""
_FAREWELL: Final = 2.0
"""Seconds to tell a client what there is to tell, and that it is over."""


class Closing(Exception):
    """Ends a session.

    Args:
        code: Of RFC 6455, section 7.4.
        reason: For people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client has opened a session for."""

    workflow: WorkflowDescriptor
    key: str
    tenant: str
    streams: Mapping[str, str]
    """Those that are followed, each with the id of the last that the client has had of it."""

    @property
    def home(self) -> str:
        """Address of the run."""
        return run_address(self.workflow, self.key)


class Session:
    """One open session.

    Args:
        gateway: Of this process.
        socket: To the client, accepted.
        asked: What it was opened for.
        count: Counts what the client sends; raises `ProblemError` where that is too much.
        still: Makes sure that the client's credentials still count; raises `ProblemError` if not.
    """

    def __init__(
        self,
        gateway: Gateway,
        socket: WebSocket,
        asked: Asked,
        count: Callable[[], Awaitable[None]],
        still: Callable[[], Awaitable[None]],
    ) -> None:
        self._gateway, self._socket, self._asked = gateway, socket, asked
        self._count, self._still = count, still
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_QUEUED)
        self._over: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client goes, or is let go; then nothing of it is left waiting."""
        try:
            with self._gateway.sessions.opened(self._leave):
                for work in (self._send(), self._listen(), self._stay_known()):
                    self._begin(work)
                for stream, last in self._asked.streams.items():
                    self._begin(self._follow(stream, last))
                if self._gateway.stopping:
                    self._leave()
                why = await self._over
                await self._say_good_bye(why)
        finally:
            await end([*self._asking, *self._tasks])

    def _leave(self) -> None:
        if not self._over.done():
            self._over.set_result(Closing(GOING_AWAY, "this process is about to end"))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="session")
        self._tasks.add(task)
        task.add_done_callback(self._has_ended)
        return task

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asking.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not self._over.done():
            self._over.set_result(error)

    async def _say_good_bye(self, why: Exception) -> None:
        if isinstance(why, WebSocketDisconnect):
            return
        if not isinstance(why, Closing):
            _log.error("session_failed", workflow=self._asked.workflow.name, exc_info=why)
            why = Closing(FAILED, "the gateway has failed at this session")
        try:
            async with asyncio.timeout(_FAREWELL):
                if why.code != TOO_SLOW:
                    if self._asking and why.code == GOING_AWAY:
                        await asyncio.wait(self._asking)
                    await self._outgoing.join()
        except TimeoutError:
            pass  # it does not read: what is left is at the addresses of the run
        await end([*self._asking, *self._tasks])
        try:
            async with asyncio.timeout(self._gateway.settings.body_seconds):
                await self._socket.close(why.code, why.reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return  # it has gone, or reads nothing, not even this

    async def _tell(self, text: str) -> None:
        seconds = self._gateway.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._outgoing.put(text)
        except TimeoutError:
            raise Closing(TOO_SLOW, f"nothing was read for {seconds:g} s") from None

    async def _send(self) -> None:
        while True:
            text = await self._outgoing.get()
            await self._socket.send_text(text)
            self._outgoing.task_done()

    async def _stay_known(self) -> None:
        """Who is not allowed any more has no open session, either."""
        while True:
            await asyncio.sleep(KEEP_ALIVE)
            try:
                await self._still()
            except ProblemError as problem:
                raise Closing(NOT_ALLOWED, problem.code) from problem

    async def _follow(self, stream: str, last: str) -> None:
        workflow, key = self._asked.workflow, self._asked.key
        place = StreamPlace(workflow.name, partition(workflow, key), key, stream)
        async for told in through_runs(self._gateway, place, last):
            await self._tell(stream_frame(stream, told))

    async def _listen(self) -> None:
        most = self._gateway.settings.body_bytes
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or FAILED)
            text = message.get("text")
            if text is None:
                raise Closing(NOT_TEXT, "frames are to be text")
            body = text.encode()
            if len(body) > most + AROUND:
                raise Closing(TOO_LARGE, f"data may have {most} bytes")
            await self._take(body)

    async def _take(self, body: bytes) -> None:
        try:
            await self._count()
            call, to = await self._call(frame_of(body, self._gateway.settings))
            if len(self._asking) >= _UNDER_WAY:
                raise ProblemError("too_many_waiting", f"{_UNDER_WAY} of this session wait for their replies")
            self._gateway.admit_any()
            leave = self._gateway.tenants.enter(self._asked.tenant)
        except Exception as error:  # noqa: BLE001  a session goes on after what is wrong with one frame
            await self._tell_problem(error, id_in(body))
            return
        admitted: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        asking = self._begin(self._ask(call, to, admitted))
        asking.add_done_callback(lambda _: leave())
        self._asking.add(asking)
        await asyncio.wait((asking, admitted), return_when=asyncio.FIRST_COMPLETED)

    async def _call(self, frame: Frame) -> tuple[Call, str]:
        """What a frame asks for, checked.

        Raises:
            ProblemError: It can't be so.
            StoreUnavailable: It can't be known whether it can.
        """
        gateway, key, body = self._gateway, self._asked.key, bytes(frame.data)
        workflow = await gateway.workflow(self._asked.workflow.name)
        is_event = frame.message is None
        source = request_source(workflow, frame.source) if is_event else message_source(workflow, frame.message or "")
        data = decode_json(body, gateway.settings)
        if is_event:
            check_key(workflow, source, key, data)
        await (await gateway.checks(workflow, source)).check(data, len(body))
        scope = (self._asked.tenant, workflow.name, key, "events" if is_event else "messages", source.name)
        return Call(
            workflow=workflow, source=source, key=key, body=body,
            identity=identity_of(checked_key(frame.id), scope, body),
            condition=late_condition(source) if is_event else Condition.RUNNING,
            preference=Preference(LONGEST, None), headers=(), caller=None, claim=checked_claim(frame.wait),
        ), frame.id  # fmt: skip

    async def _ask(self, call: Call, to: str, admitted: asyncio.Future[Admission]) -> None:
        workflow, durability = call.workflow, Durability.parse(call.workflow.durability)
        asking = asyncio.create_task(self._gateway.bridge.ask(
            workflow.name, partition(workflow, call.key), call.key, call.source.name, call.body,
            request=call.identity.id, wait=LONGEST, durability=durability, fingerprint=call.identity.fingerprint,
            condition=call.condition, claim=call.claim, admitted=admitted,
        ))  # fmt: skip
        try:
            await asyncio.wait((asking, admitted), return_when=asyncio.FIRST_COMPLETED)
            if admitted.done() and not (admission := admitted.result()).is_in:
                raise refusal(admission, workflow, call.key)
            if admitted.done():
                is_replayed = admitted.result() is Admission.ALREADY
                await self._tell(accepted_frame(to, str(durability), is_replayed=is_replayed))
            _, blob = await asking
            if blob is None:
                raise ProblemError("stopping", f"this process is about to end; it is in, its run is at {call.home}")
            await self._tell(reply_frame(to, blob, call.home))
        except Exception as error:  # noqa: BLE001  it concerns what was sent, not the session
            await self._tell_problem(error, to)
        finally:
            await end([asking])

    async def _tell_problem(self, error: Exception, to: str | None) -> None:
        if isinstance(error, Closing):
            raise error
        problem = problem_of(error)
        if problem.code == "internal_error":
            _log.error("frame_failed", workflow=self._asked.workflow.name, exc_info=error)
        await self._tell(error_frame(to, problem))
