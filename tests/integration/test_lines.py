"""Lines to a server, and ears: what is asked gets its own answers, and what breaks says so and is not used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import exceptions

from headrace.embedded import Valkey
from headrace.sources.connection import connect
from headrace.sources.lines import Lines
from headrace.sources.routing import LinedClient, at_owner, subscription
from waiting import until_async


@asynccontextmanager
async def lined(url: str, **options: Any) -> AsyncIterator[LinedClient]:
    client = connect(url, **options)
    assert isinstance(client, LinedClient)
    try:
        yield client
    finally:
        await client.aclose()


async def connections(client: LinedClient) -> int:
    """How many the server has for this database, without the one that asks."""
    database = str(client.connection_pool.connection_kwargs["db"])
    return sum(row["db"] == database for row in await client.client_list()) - 1


async def test_answers_come_in_the_order_of_their_commands_and_errors_stand_in_their_places(redis_url: str) -> None:
    async with lined(redis_url) as client:
        found = await at_owner(client, "a", ("SET", "a", "1"), ("LPUSH", "a", "x"), ("GET", "a"))
        with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
            await at_owner(client, "a", ("LPUSH", "a", "x"), ("GET", "a"))

    assert found[0] and isinstance(found[1], exceptions.ResponseError)
    assert found[2] == b"1"


async def test_answers_are_as_the_library_gives_them(redis_url: str) -> None:
    async with lined(redis_url) as client:
        await client.xadd("s", {"n": "1"}, id="1-1")
        (read,) = await at_owner(client, "s", ("XREAD", "STREAMS", "s", "0"))
        (info,) = await at_owner(client, "s", ("XINFO STREAM", "s"))

        assert read == await client.xread({"s": "0"})
        assert info["length"] == 1


async def test_who_asks_at_the_same_time_each_gets_their_own_answer(redis_url: str) -> None:
    async with lined(redis_url, connections=3) as client:
        answers = await asyncio.gather(*(at_owner(client, "a", ("ECHO", str(number))) for number in range(500)))

        assert answers == [[str(number).encode()] for number in range(500)]
        assert await connections(client) == 3


async def test_a_line_that_is_left_before_its_answer_is_not_used_again(redis_url: str) -> None:
    async with lined(redis_url, connections=1, blocking=True) as client:
        waiting = asyncio.create_task(at_owner(client, "l", ("BLPOP", "l", 0)))
        await until_async(lambda: _blocked(client), "a caller that waits at the server")

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert await at_owner(client, "a", ("ECHO", "mine")) == [b"mine"]
        await client.rpush("l", "for somebody else")
        assert await client.llen("l") == 1


async def _blocked(client: LinedClient) -> bool:
    return int((await client.info("clients"))["blocked_clients"]) > 0


async def test_an_answer_that_takes_too_long_is_not_waited_for(redis_url: str) -> None:
    async with lined(redis_url) as client:
        lines = Lines(client.lines.dial, most=1, answer_within=0.05, wait=1)

        with pytest.raises(exceptions.TimeoutError):
            await lines.exchange([("BLPOP", "l", 0)])

        assert await lines.exchange([("ECHO", "again")]) == [b"again"]
        lines.close()


async def test_who_finds_all_lines_taken_waits_and_is_told_when_that_takes_too_long(redis_url: str) -> None:
    async with lined(redis_url, blocking=True) as client:
        lines = Lines(client.lines.dial, most=1, answer_within=None, wait=0.05)
        taken = asyncio.create_task(lines.exchange([("BLPOP", "l", 0)]))
        await until_async(lambda: _blocked(client), "a caller that waits at the server")

        with pytest.raises(exceptions.ConnectionError, match="No connection available"):
            await lines.exchange([("ECHO", "one more")])
        await client.rpush("l", "x")

        assert await taken == [[b"l", b"x"]]
        assert await lines.exchange([("ECHO", "now")]) == [b"now"]
        lines.close()


async def test_a_server_that_dies_is_an_error_and_one_that_comes_back_is_used(own_valkey: Valkey) -> None:
    async with lined(own_valkey.url, blocking=True) as client:
        waiting = asyncio.create_task(at_owner(client, "l", ("BLPOP", "l", 0)))
        await until_async(lambda: _blocked(client), "a caller that waits at the server")
        await at_owner(client, "a", ("ECHO", "one that is free meanwhile"))

        own_valkey.kill()
        with pytest.raises(exceptions.ConnectionError):
            await waiting
        with pytest.raises(exceptions.ConnectionError):
            await at_owner(client, "a", ("ECHO", "x"))
        own_valkey.restart()

        assert await at_owner(client, "a", ("ECHO", "again")) == [b"again"]


async def test_a_closed_client_has_no_connection_left(redis_url: str) -> None:
    async with lined(redis_url) as other:
        async with lined(redis_url) as client:
            await asyncio.gather(*(at_owner(client, "a", ("PING",)) for _ in range(5)))
            assert await connections(other) > 1

        async def gone() -> bool:
            return await connections(other) == 0

        await until_async(gone, "no connection left")


async def test_an_ear_hears_what_is_published_and_the_answer_to_a_ping(redis_url: str) -> None:
    async with lined(redis_url) as client, subscription(client) as heard:
        await heard.subscribe("one", "two")
        told = [await heard.get_message(timeout=5) for _ in range(2)]
        await client.publish("two", b"\x00 bytes")
        await heard.ping()
        told += [await heard.get_message(timeout=5) for _ in range(2)]
        await heard.unsubscribe("two")
        told.append(await heard.get_message(timeout=5))

        assert [(row["type"], row["channel"], row["data"]) for row in told if row is not None] == [
            ("subscribe", b"one", 1), ("subscribe", b"two", 2), ("message", b"two", b"\x00 bytes"),
            ("pong", None, b""), ("unsubscribe", b"two", 1),
        ]  # fmt: skip
        assert await heard.get_message(timeout=0.01) is None


async def test_an_ear_whose_server_dies_says_so_after_what_it_has_heard(own_valkey: Valkey) -> None:
    async with lined(own_valkey.url) as client, subscription(client) as heard:
        await heard.subscribe("one")
        await heard.get_message(timeout=5)
        await client.publish("one", "last words")
        waiting = asyncio.create_task(heard.get_message(timeout=5))
        own_valkey.kill()

        assert (await waiting or {}).get("data") == b"last words"
        with pytest.raises(exceptions.ConnectionError):
            await heard.get_message(timeout=5)


async def test_an_ear_that_may_not_hear_says_why(own_valkey: Valkey) -> None:
    async with lined(own_valkey.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "deaf", "on", "nopass", "+@all", "resetchannels")
    async with lined(own_valkey.url.replace("redis://", "redis://deaf:x@")) as client, subscription(client) as heard:
        await heard.subscribe("one")

        with pytest.raises(exceptions.NoPermissionError):
            await heard.get_message(timeout=5)
