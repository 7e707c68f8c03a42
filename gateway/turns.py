"""An event with its stream and its reply in one answer: what nodes write for it as they do, and then the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Response

from headrace.actors.store_followed import FIRST
from headrace.actors.store_requests import Admission
from headrace.gateway.addresses import partition
from headrace.gateway.answers import answer_response
from headrace.gateway.calls import DURABILITY, Call, refusal
from headrace.gateway.following import StreamPlace, Told
from headrace.gateway.gateway import Gateway
from headrace.gateway.idempotency import REPLAYED
from headrace.gateway.problems import ProblemError
from headrace.gateway.routes_streams import event_of, problem_data
from headrace.gateway.sse import RETRY, sse_event, sse_response
from headrace.gateway.staying import Still, while_known
from headrace.gateway.tasks import end
from headrace.workflows.durability import Durability
from headrace.workflows.run_streams import order_of

LONGEST: Final = 3_600.0
"""Seconds after which nobody waits for a reply any more, however alive the connection is."""


async def send_followed(gateway: Gateway, call: Call, stream: str, still: Still) -> Response:
    """Hand a request over, and answer with what comes of it, as events: those of its stream, then `reply`.

    Raises:
        ProblemError: It was refused, for what is known of its run.
        StoreUnavailable, StoreFull: It may be in the inbox, or is not.
    """
    gateway.admit_one()
    workflow, durability = call.workflow, Durability.parse(call.workflow.durability)
    place = StreamPlace(workflow.name, partition(workflow, call.key), call.key, stream)
    # One that may have been sent before has written already; nothing of another one is before this moment.
    after = FIRST if call.identity.fingerprint else await gateway.follower.last(place)
    admitted: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(gateway.bridge.ask(
        workflow.name, place.partition, call.key, call.source.name, call.body, request=call.identity.id, wait=LONGEST,
        durability=durability, headers=call.headers, fingerprint=call.identity.fingerprint, condition=call.condition,
        admitted=admitted,
    ))  # fmt: skip
    try:
        await asyncio.wait((asking, admitted), return_when=asyncio.FIRST_COMPLETED)
        if not admitted.done():
            asking.result()  # its error; else it would have been admitted, or refused
        if not admitted.result().is_in:
            raise refusal(admitted.result(), workflow, call.key)
    except BaseException:
        await end([asking])
        raise
    headers = {DURABILITY: str(durability), "Content-Location": call.home}
    if admitted.result() is Admission.ALREADY and call.identity.fingerprint:
        headers[REPLAYED] = "true"
    return sse_response(_events(gateway, call, place, after, asking, still), headers)


async def _events(
    gateway: Gateway,
    call: Call,
    place: StreamPlace,
    after: str,
    asking: asyncio.Task[tuple[Admission, bytes | None]],
    still: Still,
) -> AsyncIterator[bytes]:
    ear = asyncio.Event()
    asking.add_done_callback(lambda _: ear.set())
    newest = (0, 0)
    try:
        yield RETRY
        tellings = gateway.follower.follow(place, after, ear=ear, until=asking.done)
        async for told in while_known(tellings, still):
            if told.kind == "end" or not _is_of(told, call.identity.id, newest):
                continue
            newest = order_of(told.id) if told.kind == "value" else newest
            yield event_of(told, call.workflow, place)
        yield _reply(call, asking.result()[1] if asking.done() else None)
    except ProblemError as problem:
        yield sse_event("error", problem_data(problem, call.workflow, call.key))
    finally:
        await end([asking])


def _is_of(told: Told, request: str, newest: tuple[int, int]) -> bool:
    """Whether it is about what nodes have written for this request."""
    if told.kind == "value":
        return told.event == request or told.event.startswith(f"{request}.")
    return told.kind != "reset" or order_of(told.value.decode()) <= newest


def _reply(call: Call, blob: bytes | None) -> bytes:
    if blob is None:
        raise ProblemError("stopping", f"this process is about to end; the event is in, its run is at {call.home}")
    return sse_event("reply", bytes(answer_response(blob, call.home, {}).body))
