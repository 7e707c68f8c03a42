"""The reader of channels and inboxes: columns in order, back-pressure, roll-backs, and a server that goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from headrace.actors.run_control import Asking
from headrace.actors.store import Store
from headrace.actors.store_requests import Request, RequestStore
from headrace.embedded import Valkey
from headrace.sources.channel import ChannelSender, ChannelSource
from headrace.sources.requests import RequestSource
from headrace.sources.stream_group import UNREACHABLE
from headrace.sources.streams import StreamReader
from headrace.workflows import transfers
from headrace.workflows.control import ControlEvent, decode
from headrace.workflows.executing import source_of
from headrace.workflows.keyspace import CONTROL
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records, Reentry
from headrace.workflows.store import Sender
from headrace.workflows.transfers import Transfer
from waiting import until_async

LINES = SourcePlan(0, "lines", ChannelSource(str, capacity=1000, name="lines"), 0, None, (0,))
ASKS = SourcePlan(1, "asks", RequestSource(str, name="asks"), 0, None, (0,))
HEADERS = (("trace", b"\xff"),)
ORDERS = SourcePlan(2, "orders", RequestSource(str, name="orders"), 0, None, (0,))


@dataclass
class Told:
    """What a reader tells its worker."""

    ready: list[int] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def told() -> Told:
    return Told()


def reader_of(
    url: str,
    told: Told,
    *sources: SourcePlan,
    buffer: int = 4096,
    batch: int = 1024,
) -> StreamReader:
    return StreamReader(
        url,
        "w",
        sources,
        on_ready=told.ready.append,
        on_problem=lambda word, sentence: told.problems.append((word, sentence)),
        buffer=buffer,
        batch=batch,
    )


def held(reader: StreamReader) -> list[int]:
    """Entries of partition 0 that are read and not pulled, by stream of events."""
    return [len(tail) for tail in reader._tails[0] if tail.origin != CONTROL]


@pytest.fixture
async def requests(redis_url: str) -> AsyncIterator[RequestStore]:
    async with RequestStore(redis_url) as requests:
        yield requests


@pytest.fixture
async def sender(redis_url: str) -> AsyncIterator[ChannelSender[str]]:
    sender = ChannelSender[str](redis_url, "w", "lines", partitions=1, capacity=1000)
    yield sender
    await sender.disconnect()


async def pulled(reader: StreamReader, partition: int, count: int) -> list[Records]:
    """Pull until there are `count` records."""
    found: list[Records] = []

    def enough() -> bool:
        found.extend(reader.pull(partition, count - sum(map(len, found))))
        return sum(map(len, found)) >= count

    await until_async(enough, f"{count} records have come")
    return found


async def test_requests_come_first_each_with_its_source(
    redis_url: str, told: Told, requests: RequestStore, sender: ChannelSender[str]
) -> None:
    await sender.send("backlog")
    for number, source in enumerate(["asks", "asks", "orders", "asks"]):
        reply = "replies:g" if number == 0 else ""
        request = Request(id=f"r{number}", key="s1", source=source, body=b"%d" % number, reply=reply)
        await requests.append_request("w", 0, request)
    reader = reader_of(redis_url, told, LINES, ASKS, ORDERS)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [4, 0, 1], "all is read")

    found = reader.pull(0, 100)

    assert [(records.source, records.origin, records.values) for records in found] == [
        (1, "inbox", [b"0", b"1"]),
        (2, "inbox", [b"2"]),
        (1, "inbox", [b"3"]),
        (0, "channel:lines", [b'"backlog"']),
    ]
    assert (found[0].ids, found[0].keys, found[0].replies) == (["r0", "r1"], [b"s1", b"s1"], ["replies:g", None])
    assert found[0].after == found[0].offsets[-1]
    assert found[0].times[0] > 1_600_000_000_000
    assert found[3].keys == [None]
    assert set(told.ready) == {0}
    assert reader.pull(0, 100) == []
    await reader.close()


async def test_requests_are_pulled_by_themselves_unless_their_source_is_paused(
    redis_url: str, told: Told, requests: RequestStore, sender: ChannelSender[str]
) -> None:
    await sender.send("backlog")
    reader = reader_of(redis_url, told, LINES, ASKS)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [0, 0, 1], "the backlog is read")
    assert (reader.has_requests(0), reader.pull_requests(0, 10)) == (False, [])
    await requests.append_request("w", 0, Request(id="r", key="s1", source="asks", body=b"1"))
    await until_async(lambda: held(reader) == [1, 0, 1], "the request, too")

    reader.paused = frozenset({ASKS.index})
    assert (reader.has_requests(0), reader.pull_requests(0, 10)) == (False, [])
    reader.paused = frozenset()
    assert (reader.has_requests(0), reader.has_requests(1)) == (True, False)
    assert [records.values for records in reader.pull_requests(0, 10)] == [[b"1"]]
    assert held(reader) == [0, 0, 1]
    await reader.close()


async def test_what_is_asked_of_runs_is_pulled_by_itself_also_while_sources_are_paused(
    redis_url: str, told: Told, sender: ChannelSender[str]
) -> None:
    await sender.send("backlog")
    async with Store(redis_url, "w") as store:
        await store.acquire(0, term=1, placement=1, worker="worker/0")
        await Asking(store).ask({0: [ControlEvent("terminate", "s1", 3), ControlEvent("delete", "s2")]})
    reader = reader_of(redis_url, told, LINES)
    reader.paused = frozenset({LINES.index})
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [0, 0, 1] and 0 in told.ready, "all is read")

    assert reader.pull(0, 100) == []
    (records,) = reader.pull_control(0)
    assert [decode(value or b"") for value in records.values] == [
        ControlEvent("terminate", "s1", 3),
        ControlEvent("delete", "s2"),
    ]
    assert reader.pull_control(0) == []

    await reader.assign(0, {CONTROL: str(records.offsets[0])})
    again: list[Records] = []
    await until_async(lambda: bool(again.extend(reader.pull_control(0)) or again), "what is not done is read again")
    assert [row.values for row in again] == [records.values[1:]]
    await reader.close()


async def hand(store: Store, events: list[bytes]) -> None:
    """Give them to partition 0, as partition 1 does."""
    owner = (await store.acquire(1, term=1, placement=1, worker="worker/0")).owner
    await store.append_internal(0, Sender("i/w/1", "w", 1, owner, 0), 1, events, known=True, most=100)


def handed(number: int, source: str, *, hops: int = 1) -> bytes:
    """An event of another partition, as its outbox had it."""
    return transfers.encode(
        Transfer(0, number, hops, source, f"readings/3/{number}", 1_700_000_000_000, b"s1", b"%d" % number, HEADERS)
    )


async def test_events_of_other_partitions_come_between_requests_and_channels_as_they_were(
    redis_url: str, told: Told, requests: RequestStore, sender: ChannelSender[str]
) -> None:
    await sender.send("backlog")
    await requests.append_request("w", 0, Request(id="r0", key="s1", source="asks", body=b"0"))
    events = [handed(1, "orders"), handed(2, "orders"), handed(3, "lines"), handed(4, "gone")]
    async with Store(redis_url, "w") as store:
        await hand(store, events)
    reader = reader_of(redis_url, told, LINES, ASKS, ORDERS)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [1, 4, 1], "all is read")

    found = reader.pull(0, 100)

    assert [(records.source, records.origin, records.values) for records in found] == [
        (1, "inbox", [b"0"]),
        (2, "internal", [b"1", b"2"]),
        (0, "internal", [b"3"]),
        (-1, "internal", [b"4"]),
        (0, "channel:lines", [b'"backlog"']),
    ]
    first, unknown = found[1], found[3]
    assert (first.ids, first.keys) == (["readings/3/1", "readings/3/2"], [b"s1", b"s1"])
    assert (first.headers, first.hops, first.times) == ([HEADERS] * 2, [1, 1], [1_700_000_000_000] * 2)
    assert unknown.unknown == "gone"
    assert first.after == first.offsets[-1]
    await reader.close()


async def test_no_stream_starves_another(
    redis_url: str, told: Told, requests: RequestStore, sender: ChannelSender[str]
) -> None:
    for number in range(20):
        await sender.send(str(number))
        await requests.append_request("w", 0, Request(id=f"r{number}", key="s1", source="asks", body=b"0"))
    async with Store(redis_url, "w") as store:
        events = [handed(number, "lines") for number in range(1, 21)]
        await hand(store, events)
    reader = reader_of(redis_url, told, LINES, ASKS)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [20, 20, 20], "all is read")

    found = reader.pull(0, 16)

    assert [(records.origin, len(records)) for records in found] == [
        ("inbox", 8),
        ("internal", 4),
        ("channel:lines", 4),
    ]
    await reader.close()


async def test_reading_goes_on_after_the_committed_position(
    redis_url: str, told: Told, sender: ChannelSender[str]
) -> None:
    for text in "abc":
        await sender.send(text)
    reader = reader_of(redis_url, told, LINES)
    await reader.open()
    await reader.assign(0, {})
    first = await pulled(reader, 0, 1)
    await pulled(reader, 0, 2)

    await reader.assign(0, {"channel:lines": first[-1].after})

    again = await pulled(reader, 0, 2)
    assert [value for records in again for value in records.values] == [b'"b"', b'"c"']
    await reader.close()


async def test_a_full_buffer_is_not_read_on(redis_url: str, told: Told, sender: ChannelSender[str]) -> None:
    for number in range(100):
        await sender.send(str(number))
    reader = reader_of(redis_url, told, LINES, buffer=10, batch=5)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [0, 0, 10], "the buffer is full")

    found = await pulled(reader, 0, 100)

    values = [value for records in found for value in records.values]
    assert values == [b'"%d"' % number for number in range(100)]
    assert max(map(len, found)) <= 15
    await reader.close()


async def test_a_revoked_partition_is_forgotten(redis_url: str, told: Told, sender: ChannelSender[str]) -> None:
    reader = reader_of(redis_url, told, LINES)
    await reader.open()
    await reader.assign(0, {})
    await sender.send("a")
    await until_async(lambda: told.ready, "it is read")

    await reader.revoke(0)

    assert reader.pull(0, 100) == []
    await reader.close()
    await reader.close()


async def test_a_partition_assigned_while_reading_waits_is_read_at_once(
    redis_url: str, told: Told, requests: RequestStore
) -> None:
    reader = reader_of(redis_url, told, ASKS)
    await reader.open()
    await reader.assign(0, {})
    for partition in range(1, 5):
        await requests.append_request("w", partition, Request(id="r", key="s", source="asks", body=b"1"))
        await reader.assign(partition, {})
        await until_async(lambda at=partition: reader.pull(at, 10), f"partition {partition} is read")  # type: ignore[misc]
    await reader.close()


async def test_a_server_that_is_away_is_told_of_once_and_found_again(own_valkey: Valkey, told: Told) -> None:
    url = f"redis://127.0.0.1:{own_valkey.port}/0"
    async with Store(url, "w", channels={"lines": 10}) as store:
        head = await store.acquire(0, term=1, placement=1, worker="worker/0")
        reader = reader_of(url, told, LINES)
        await reader.open()
        await reader.assign(0, head.positions)
        own_valkey.kill()
        await until_async(lambda: told.problems, "the reader says so")
        own_valkey.restart()
        sender = ChannelSender[str](url, "w", "lines", partitions=1, capacity=10)
        await sender.send("a")

        found = await pulled(reader, 0, 1)

        assert found[0].values == [b'"a"']
        assert [(word, bool(sentence)) for word, sentence in told.problems] == [
            (UNREACHABLE, True),
            (UNREACHABLE, False),
        ]
        await sender.disconnect()
        await reader.close()


async def test_a_reader_may_open_before_its_server_runs(own_valkey: Valkey, told: Told) -> None:
    own_valkey.stop()
    reader = reader_of(f"redis://127.0.0.1:{own_valkey.port}/0", told, LINES)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: told.problems, "the reader says that nobody answers")

    own_valkey.restart()

    await until_async(lambda: told.problems[-1] == (UNREACHABLE, ""), "the reader takes it back")
    await reader.close()


async def test_who_has_no_partition_any_more_has_no_problem_with_the_server(own_valkey: Valkey, told: Told) -> None:
    """It would stand for ever: nothing is read that shows when the server is back."""
    reader = reader_of(own_valkey.url, told, LINES)
    await reader.open()
    await reader.assign(0, {})
    own_valkey.kill()
    await until_async(lambda: told.problems, "the reader names it")

    await reader.revoke(0)

    await until_async(lambda: told.problems[-1] == (UNREACHABLE, ""), "the reader takes it back")
    await reader.close()


async def test_a_node_that_is_to_be_executed_is_asked_by_the_inbox_also_where_no_source_leads_into_it(
    redis_url: str, told: Told, requests: RequestStore
) -> None:
    for number, commit in enumerate([False, False, True]):
        source = source_of("check", commit=commit)
        await requests.append_request("w", 0, Request(id=f"x{number}", key="s1", source=source, body=b"1", reply="g"))
    reader = reader_of(redis_url, told, LINES)
    await reader.open()
    await reader.assign(0, {})
    await until_async(lambda: held(reader) == [3, 0, 0], "all is read")

    found = reader.pull(0, 100)

    assert [(records.source, records.origin, records.ids, records.entry) for records in found] == [
        (-1, "inbox", ["x0", "x1"], Reentry(node="check", execute="try")),
        (-1, "inbox", ["x2"], Reentry(node="check", execute="commit")),
    ]
    assert (found[0].unknown, found[0].keys) == ("execute/try/check", [b"s1", b"s1"])
    await reader.close()
