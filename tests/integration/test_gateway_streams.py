"""Streams of runs over HTTP: read, followed, cut and gone on with, by ticket, and with the reply of an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from http_rig import Rig, Sent, events_in, http_rig, values_in
from waiting import until_async

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with http_rig(redis_url) as rig:
        yield rig


async def listed(rig: Rig, **query: int) -> Any:
    answer = await rig.http.get("/runs/a/streams/s", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def following(rig: Rig, count: int = 1) -> None:
    await until_async(lambda: rig.gateway.follower.following == count, "somebody follows")


async def test_S01_S08_every_reader_gets_the_same_values_also_such_as_look_like_marks(rig: Rig) -> None:
    mixed = [1, "two", None, {"r": "0-0"}, [], True, "end", "event: end\n\n", 1.5, {"event": "reset"}]
    await rig.begin()
    followers = [asyncio.create_task(rig.follow()) for _ in range(3)]
    await following(rig, 3)
    place = await rig.write(*mixed)
    await rig.commit(sealed=[place])
    await rig.end()

    for body in await asyncio.gather(*followers):
        assert values_in(events_in(body)) == mixed
        assert events_in(body)[-1].kind == "end"
    assert values_in(events_in(await rig.follow())) == mixed
    assert (await listed(rig))["values"] == (await listed(rig))["values"] == mixed


async def test_S02_offsets(rig: Rig) -> None:
    await rig.begin()
    await rig.write(1, 2, 3, 4)

    assert [(await listed(rig, offset=offset))["values"] for offset in (0, 2, 4, 100)] == [[1, 2, 3, 4], [3, 4], [], []]
    page = await listed(rig, offset=1, limit=2)
    assert (page["values"], page["count"], page["ended"]) == ([2, 3], 4, None)


async def test_S03_followers_end_with_the_run_after_what_was_written(rig: Rig) -> None:
    await rig.begin()
    follower, silent = asyncio.create_task(rig.follow()), asyncio.create_task(rig.follow("never"))
    await following(rig, 2)
    place = await rig.write(1, 2)
    await rig.commit(sealed=[place])
    await rig.end()

    assert [(event.kind, event.data) for event in events_in(await follower)] == [
        ("value", 1), ("value", 2), ("end", {"status": "completed"})
    ]  # fmt: skip
    assert [event.kind for event in events_in(await silent)] == ["end"]
    assert (await listed(rig))["ended"] == "completed"
    assert rig.gateway.follower.following == 0
    await until_async(lambda: rig.gateway.listener.topics == 0, "nobody listens any more")


async def test_S06_two_streams_are_independent(rig: Rig) -> None:
    await rig.begin()
    for number in range(3):
        await rig.write(number, stream="s", first=number + 1)
        await rig.write(-number, stream="other", first=number + 1)

    assert (await listed(rig))["values"] == [0, 1, 2]
    assert (await rig.http.get("/runs/a/streams/other")).json()["values"] == [0, -1, -2]


async def test_S12_followers_are_told_what_an_attempt_has_written_in_vain(rig: Rig) -> None:
    await rig.begin()
    await rig.write("before", event="e0")
    follower = asyncio.create_task(rig.follow())
    await following(rig)
    await rig.write("a", "b", "c", token="first")
    place = await rig.write("A", "B", token="second")
    await rig.commit(sealed=[place])
    assert (await listed(rig))["values"] == ["before", "A", "B"]
    await rig.end()

    events = events_in(await follower)
    assert values_in(events) == ["A", "B"]  # what e0 has written was never committed
    assert "reset" in [event.kind for event in events]


async def test_cut_anywhere_a_follower_goes_on_without_a_gap_or_a_repeat(rig: Rig) -> None:
    await rig.begin()
    await rig.write("a", "b", token="first")
    await rig.write("x", event="other")
    place = await rig.write("A", token="second")
    await rig.commit(sealed=[place])
    await rig.end()
    whole = await rig.follow()
    expected = events_in(whole)
    assert [event.kind for event in expected].count("reset") >= 1

    for cut in range(len(whole) + 1):
        first = events_in(whole[:cut])
        second = events_in(await rig.follow(last=first[-1].id if first else ""))
        assert first + second == expected, cut


async def test_who_has_had_the_end_is_told_not_to_come_again(rig: Rig) -> None:
    await rig.begin()
    await rig.write(1)
    await rig.end()
    last, never = events_in(await rig.follow())[-1], events_in(await rig.follow("never"))[-1]

    again = await rig.http.get("/runs/a/streams/s", headers={**SSE, "Last-Event-ID": last.id})
    assert (last.kind, again.status_code, again.content) == ("end", 204, b"")
    again = await rig.http.get("/runs/a/streams/never", headers={**SSE, "Last-Event-ID": never.id})
    assert (never.kind, again.status_code) == ("end", 204)


async def test_a_key_that_is_used_again_does_not_show_what_the_run_before_has_written(rig: Rig) -> None:
    await rig.begin()
    await rig.write("old")
    await rig.end()
    last = events_in(await rig.follow())[-1].id
    await rig.begin(number=2)

    assert await listed(rig) == {"values": [], "count": 0, "last_event_id": None, "ended": None}
    follower = asyncio.create_task(rig.follow(last=last))
    await following(rig)
    await rig.end(number=2)
    assert [event.kind for event in events_in(await follower)] == ["end"]


async def test_who_comes_back_too_late_begins_anew_and_is_told(rig: Rig) -> None:
    await rig.begin()
    await rig.write("first")
    last = (await listed(rig))["last_event_id"]
    stream = rig.store.keys(0).run_stream("a", "s")
    await rig.write("second", first=2)
    await rig.write("third", first=3)
    await rig.store.client.xtrim(stream, maxlen=1, approximate=False)  # as if thousands had come
    follower = asyncio.create_task(rig.follow(last=last))
    await following(rig)
    await rig.commit(sealed=[await rig.write()])
    await rig.end()

    events = events_in(await follower)
    assert (events[0].kind, events[0].data) == ("reset", {"from": "0-0"})
    assert [event.data for event in events if event.kind == "value"] == ["third"]


async def test_what_is_not_there_and_what_can_not_be_read(rig: Rig) -> None:
    assert (await rig.http.get("/runs/nobody/streams/s")).json()["code"] == "unknown_run"
    assert (await rig.http.get("/runs/nobody/streams/s", headers=SSE)).json()["code"] == "unknown_run"
    await rig.begin()
    bad = await rig.http.get("/runs/a/streams/s", headers={**SSE, "Last-Event-ID": "yesterday"})
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_cursor")
    headers = (await rig.http.get("/runs/a/streams/s", params={"limit": 0})).status_code
    assert headers == 400


async def test_a_follower_that_goes_leaves_nothing_behind(rig: Rig) -> None:
    await rig.begin()
    async with rig.http.stream("GET", "/runs/a/streams/s", headers=SSE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-store")
        first = await anext(answer.aiter_raw())
        assert first.startswith(b"retry: ")
        await following(rig)

    await following(rig, 0)
    await until_async(lambda: rig.gateway.listener.topics == 0, "nobody listens any more")


async def test_a_lost_connection_to_the_store_loses_no_value(rig: Rig) -> None:
    await rig.begin()

    async def first_value() -> Any:
        async with rig.http.stream("GET", "/runs/a/streams/s", headers=SSE) as answer:
            got = b""
            async for part in answer.aiter_raw():
                got += part
                if events_in(got):
                    return events_in(got)[0].data
        return None

    follower = asyncio.create_task(first_value())
    await following(rig)
    await until_async(lambda: rig.gateway.listener.listening, "it listens")
    before = rig.gateway.listener.connections
    database = str(rig.store.client.connection_pool.connection_kwargs["db"])
    for client in await rig.store.client.client_list(_type="pubsub"):
        if client["db"] == database:
            await rig.store.client.client_kill_filter(_id=client["id"])
    place = await rig.write("unheard")
    await until_async(lambda: rig.gateway.listener.connections > before, "it listens again")
    await until_async(lambda: rig.gateway.listener.listening, "it hears again")
    async with asyncio.timeout(10):  # less than what a silent follower waits until it looks by itself
        assert await follower == "unheard"
    await rig.commit(sealed=[place])


async def test_a_ticket_is_good_for_its_stream_and_for_no_other(redis_url: str) -> None:
    async with http_rig(redis_url) as rig:
        await rig.begin()
        await rig.commit(sealed=[await rig.write(1)])
        await rig.end()
        made = (await rig.http.post("/runs/a/streams/s/tickets")).json()
        base = rig.http.base_url
        link = base.copy_with(raw_path=made["links"]["stream"].encode())

        by_ticket = await rig.http.get(link, headers=SSE)
        assert values_in(events_in(by_ticket.content)) == [1]
        token = {"ticket": made["ticket"]}
        other = await rig.http.get("/runs/a/streams/other", params=token)
        run = await rig.http.get("/runs/b/streams/s", params=token)
        wrong = await rig.http.get("/runs/a/streams/s", params={"ticket": "guessed"})
        assert [(row.status_code, row.json()["code"]) for row in (other, run, wrong)] == [(401, "invalid_ticket")] * 3

        keys = [key async for key in rig.store.client.scan_iter(match="hr:ticket:*")]
        assert keys
        assert all(made["ticket"].encode() not in key for key in keys)
        assert 0 < await rig.store.client.ttl(keys[0]) <= 60
        await rig.store.client.delete(keys[0])
        assert (await rig.http.get(link, headers=SSE)).status_code == 401


async def test_an_event_s_answer_has_what_is_written_for_it_and_then_its_reply(rig: Rig) -> None:
    await rig.begin()
    await rig.write("of another one", event="e0")
    call = asyncio.create_task(rig.http.post("/runs/a/events?stream=s", json={}, headers=SSE))
    request, channel = await rig.request()
    await rig.write("a", event=request, token="first")
    await rig.write("of a third one", event="e1")
    await rig.write("A", event=request, token="second")
    place = await rig.write("B", event=request, token="second", first=2)
    await rig.reply(request, channel, {"said": "AB"}, sealed=[place])

    answer = await call
    events = events_in(answer.content)
    assert (answer.status_code, answer.headers["headrace-durability"]) == (200, "fast")
    assert values_in(events) == ["A", "B"]
    assert (events[-1].kind, events[-1].data) == ("reply", {"said": "AB"})
    assert rig.gateway.waiting == 0


async def test_an_event_that_is_refused_is_a_problem_and_no_stream(rig: Rig) -> None:
    answer = await rig.http.post("/runs/a/events?stream=s", content=b"{", headers=SSE)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    await rig.commit(counters={"ended": 1})
    answer = await rig.http.post("/runs/a/events?stream=s", json={}, headers=SSE)
    assert answer.status_code == 409
    assert rig.gateway.waiting == 0


async def test_a_gateway_that_ends_lets_its_followers_go(rig: Rig) -> None:
    await rig.begin()
    follower = asyncio.create_task(rig.follow())
    await following(rig)
    await asyncio.to_thread(rig.thread.__exit__, None, None, None)

    assert events_in(await follower) == []


def test_it_is_a_sent_event_only_when_it_is_whole() -> None:
    assert events_in(b"retry: 1\n\nevent: value\ndata: 1\n\nevent: value\ndata: 2\n") == [Sent("value", 1)]
