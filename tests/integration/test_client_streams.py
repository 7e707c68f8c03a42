"""`run.follow` of both clients against a gateway: what nodes write, what is taken back, and connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from headrace import AsyncClient, Client
from headrace.client import AsyncRun, GatewayProblem, StreamEvent, StreamValues, UnknownRun
from http_rig import WORKFLOW, Rig, http_rig
from waiting import until_async


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with http_rig(redis_url) as rig:
        yield rig


def address(rig: Rig) -> str:
    return str(rig.http.base_url.join("/")).rstrip("/")


def counting(told: list[StreamEvent]) -> list[Any]:
    seen = StreamValues()
    for event in told:
        seen.take(event)
    return seen.values


async def followed(run: AsyncRun, after: str = "", *, told: list[StreamEvent] | None = None) -> list[StreamEvent]:
    """All that a follower is told; `told`: where it is as it comes."""
    told = [] if told is None else told
    async for event in run.follow("s", after=after):
        told.append(event)
    return told


async def test_a_follower_has_the_values_that_count_and_how_the_run_has_ended(rig: Rig) -> None:
    await rig.begin()
    async with AsyncClient(address(rig)) as client:
        told: list[StreamEvent] = []
        follower = asyncio.create_task(followed(client.runs(WORKFLOW).get("a"), told=told))
        await until_async(lambda: rig.gateway.follower.following == 1, "somebody follows")
        await rig.commit(sealed=[await rig.write("before", event="e0")])
        await rig.write("a", "b", token="first")
        await until_async(lambda: [event.value for event in told][-2:] == ["a", "b"], "it has what will be in vain")
        place = await rig.write("A", {"b": 1}, token="second")
        await rig.commit(sealed=[place])
        await rig.end()
        await follower

    assert counting(told) == ["before", "A", {"b": 1}]
    resets = [event.value for event in told if event.kind == "reset"]
    assert resets
    assert set(resets) <= {event.id for event in told if event.kind == "value"}
    assert (told[-1].kind, told[-1].value) == ("end", "completed")


async def test_a_program_goes_on_where_another_has_stopped(rig: Rig) -> None:
    await rig.begin()
    await rig.commit(sealed=[await rig.write(1, 2, 3)])
    await rig.end()

    def read() -> tuple[list[StreamEvent], list[StreamEvent], list[StreamEvent]]:
        with Client(address(rig)) as client:
            run = client.runs(WORKFLOW).get("a")
            whole = list(run.follow("s"))
            return whole, list(run.follow("s", after=whole[1].id)), list(run.follow("s", after=whole[-1].id))

    whole, rest, nothing = await asyncio.to_thread(read)

    assert counting(whole) == [1, 2, 3]
    assert (rest, nothing) == (whole[2:], [])


class Cutting(httpx.SyncByteStream):
    """Breaks behind a number of bytes."""

    def __init__(self, whole: httpx.SyncByteStream, left: int) -> None:
        self._whole, self._left = whole, left

    def __iter__(self) -> Iterator[bytes]:
        for some in self._whole:
            yield some[: self._left]
            self._left -= len(some)
            if self._left < 0:
                raise httpx.ReadError("cut")

    def close(self) -> None:
        self._whole.close()


class CutTransport(httpx.HTTPTransport):
    """Every connection breaks, each one a few bytes later than the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.connections += 1
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = Cutting(response.stream, 17 * self.connections)
        return response


async def test_connections_that_break_lose_nothing_and_repeat_nothing(rig: Rig) -> None:
    await rig.begin()
    await rig.write("a", "b", token="first")
    await rig.commit(sealed=[await rig.write("A", "B", "C", token="second")])
    await rig.end()
    transport = CutTransport()

    def read() -> tuple[list[StreamEvent], list[StreamEvent]]:
        with httpx.Client(transport=transport) as http, Client(address(rig)) as whole:
            cut = Client(address(rig), http=http)
            cut._sleep = lambda _: None
            return list(cut.runs(WORKFLOW).get("a").follow("s")), list(whole.runs(WORKFLOW).get("a").follow("s"))

    cut, whole = await asyncio.to_thread(read)

    assert cut == whole
    assert counting(cut) == ["A", "B", "C"]
    assert transport.connections > 3


async def test_what_is_not_there_can_not_be_followed(rig: Rig) -> None:
    await rig.begin()
    async with AsyncClient(address(rig)) as client:
        with pytest.raises(UnknownRun):
            await followed(client.runs(WORKFLOW).get("nobody"))
        with pytest.raises(GatewayProblem) as wrong:
            await followed(client.runs(WORKFLOW).get("a"), after="yesterday")

    assert wrong.value.problem == "invalid_cursor"
