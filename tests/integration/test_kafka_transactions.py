"""Exactly-once outputs on a real broker: whoever dies or wakes up when, committed readers see each output once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from brokers import Broker, Topics
from committed import read_committed
from headrace.embedded import Tansu
from headrace.embedded.ports import free_port
from headrace.sources import kafka_markers
from headrace.sources.kafka import KafkaSink
from headrace.sources.kafka_cleanup import remove_traces
from headrace.sources.kafka_markers import marker_topic
from headrace.sources.kafka_metadata import ensure_topics
from headrace.sources.kafka_sink import SinkUnavailable
from headrace.sources.kafka_transactions import KafkaTransactions, Origin
from headrace.sources.outlet import Portion
from headrace.workflows.commit import Output
from headrace.workflows.plan import SinkPlan
from kafka_reading import plain
from waiting import until_async

PARTITIONS = 4
WHATEVER = 1_000_000
"""As the last output that the store knows of: any marker fits."""


def outputs(first: int, last: int, *, sink: int = 0, key: str = "s1") -> list[Output]:
    return [Output(sink, f"readings/0@{number}:0", key, 1, b"%d" % number) for number in range(first, last + 1)]


def portion(first: int, last: int) -> Portion:
    return Portion(outputs(first, last), last)


class Owner(Protocol):
    """Makes the sinks of one worker; all of a test are of the same workflow."""

    def __call__(self, *topics: str, incarnation: str = "i1") -> KafkaTransactions: ...


@pytest.fixture
async def owner(kafka: Broker, topic: Topics) -> AsyncIterator[Owner]:
    if not kafka.transactions:
        pytest.skip("this broker has no transactions")
    workflow = topic(name="workflow")
    made: list[KafkaTransactions] = []

    def make(*topics: str, incarnation: str = "i1") -> KafkaTransactions:
        sinks = [SinkPlan(index, name, KafkaSink(name, dict), 0) for index, name in enumerate(topics)]
        made.append(
            KafkaTransactions(sinks, Origin(workflow, incarnation, PARTITIONS), connection=plain(kafka.bootstrap))
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()
    await remove_traces(plain(kafka.bootstrap), workflow)


class Suspended:
    """Holds a sender just before or after it asks its coordinator for something, as SIGSTOP would."""

    def __init__(self, sink: KafkaTransactions, ask: str, when: str) -> None:
        producer = sink._stays[0].producer
        assert producer is not None
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._asks: Callable[..., Awaitable[None]] = getattr(producer, ask)
        self._when = when
        setattr(producer, ask, self._ask)

    async def _ask(self, *given: Any, **named: Any) -> None:
        if self._when == "after":
            await self._asks(*given, **named)
        self.reached.set()
        await self.go_on.wait()
        if self._when == "before":
            await self._asks(*given, **named)


async def test_outputs_of_several_topics_arrive_together_with_how_far_they_go(
    owner: Owner, kafka: Broker, topic: Topics
) -> None:
    alerts, totals = topic(3, name="alerts"), topic(name="totals")
    sink = owner(alerts, totals)

    assert await sink.begin(2, 0) == 0
    assert await sink.send({2: Portion([*outputs(1, 3), *outputs(4, 4, sink=1)], 4)}) == []
    assert await sink.send({2: Portion([], 6)}) == [], "those of other clusters count, too"

    assert await read_committed(kafka.bootstrap, alerts) == [b"1", b"2", b"3"]
    assert await read_committed(kafka.bootstrap, totals) == [b"4"]
    assert await owner(alerts, totals).begin(2, WHATEVER) == 6
    assert await owner(alerts, totals).begin(1, WHATEVER) == 0, "partitions have markers of their own"
    assert await owner(alerts, totals, incarnation="i2").begin(2, WHATEVER) == 0, "and so have other lives"


@pytest.mark.parametrize(
    ("ask", "when", "arrived"),
    [("begin", "after", 5), ("end", "before", 5), ("end", "after", 8)],
    ids=["before anything is sent", "before the commit", "after the commit"],
)
async def test_a_sender_suspended_amid_a_transaction_is_shut_out_by_the_next(
    owner: Owner, kafka: Broker, topic: Topics, ask: str, when: str, arrived: int
) -> None:
    alerts = topic(name="alerts")
    zombie, heir = owner(alerts), owner(alerts)
    await zombie.begin(0, 0)
    await zombie.send({0: portion(1, 5)})
    held = Suspended(zombie, ask, when)
    sending = asyncio.create_task(zombie.send({0: portion(6, 8)}))
    await held.reached.wait()

    assert await heir.begin(0, WHATEVER) == arrived
    await heir.send({0: portion(arrived + 1, 9)})
    held.go_on.set()
    with pytest.raises(SinkUnavailable, match=r"taken over|old epoch"):
        await sending
        await zombie.send({0: portion(9, 9)})

    assert await read_committed(kafka.bootstrap, alerts) == [b"%d" % number for number in range(1, 10)]


async def test_the_marker_is_right_however_often_partitions_are_taken_over_amid_commits(
    owner: Owner, kafka: Broker, topic: Topics
) -> None:
    take_overs, size = 30, 3
    names = [topic(name="alerts") for _ in range(PARTITIONS)]

    async def send_on(sink: KafkaTransactions, partition: int, after: int) -> None:
        with suppress(SinkUnavailable):
            while True:
                sent = outputs(after + 1, after + size, sink=partition)
                if not await sink.send({partition: Portion(sent, after + size)}):
                    after += size  # else its topic is not known yet, as on a machine with too much to do

    async def begin(sink: KafkaTransactions, partition: int) -> int:
        while True:
            with suppress(SinkUnavailable):  # as on a machine with too much to do
                return await sink.begin(partition, WHATEVER)

    async def change_hands(partition: int) -> int:
        sinks = [owner(*names) for _ in range(2)]
        sending: list[asyncio.Task[None] | None] = [None, None]
        for number in range(take_overs):
            turn = number % 2
            before = sending[turn]
            if before is not None:
                await before  # the other one has shut it out
            after = await begin(sinks[turn], partition)
            sending[turn] = asyncio.create_task(send_on(sinks[turn], partition, after))
            await asyncio.sleep(0.01 * (number % 7))  # so that it is amid another step each time
        end = await begin(owner(*names), partition)
        await asyncio.gather(*filter(None, sending))
        return end

    ends = await asyncio.gather(*map(change_hands, range(PARTITIONS)))

    for name, end in zip(names, ends, strict=True):
        assert await read_committed(kafka.bootstrap, name) == [b"%d" % number for number in range(1, end + 1)]


async def test_if_one_output_is_refused_nothing_arrives_until_it_is_left_out(
    owner: Owner, kafka: Broker, topic: Topics
) -> None:
    alerts = topic(name="alerts", max_message_bytes="20000")
    sink = owner(alerts)
    await sink.begin(0, 0)
    given = outputs(1, 4)
    given[2] = Output(0, "readings/0@3:0", "s1", 1, bytes(50_000))

    (refused,) = await sink.send({0: Portion(given, 4)})
    before = await read_committed(kafka.bootstrap, alerts)
    assert await sink.send({0: Portion([output for output in given if output is not refused.output], 4)}) == []

    assert (refused.output, before) == (given[2], [])
    assert "error 10" in refused.error
    assert await read_committed(kafka.bootstrap, alerts) == [b"1", b"2", b"4"]


async def test_a_topic_that_is_deleted_refuses_and_the_others_go_on(owner: Owner, kafka: Broker, topic: Topics) -> None:
    alerts, totals = topic(name="alerts"), topic(name="totals")
    sink = owner(alerts, totals)
    await sink.begin(0, 0)
    await sink.send({0: Portion([*outputs(1, 1), *outputs(2, 2, sink=1)], 2)})
    await delete(kafka.bootstrap, totals)
    gone, stays = outputs(4, 4, sink=1), outputs(3, 3)

    refused: Sequence[Any] = []
    while not refused:
        with suppress(SinkUnavailable):
            await sink.begin(0, 2)
            refused = await sink.send({0: Portion([*stays, *gone], 4)})
    await sink.send({0: Portion(stays, 4)})

    assert [row.output for row in refused] == gone
    assert "does not exist" in refused[0].error
    assert await read_committed(kafka.bootstrap, alerts) == [b"1", b"3"]


async def test_a_store_that_lost_its_tail_is_believed_and_the_marker_set_back(
    owner: Owner, kafka: Broker, topic: Topics
) -> None:
    alerts = topic(name="alerts")
    before, after = owner(alerts), owner(alerts)
    await before.begin(0, 0)
    await before.send({0: portion(1, 9)})

    assert await after.begin(0, 5) == 5

    assert await owner(alerts).begin(0, 7) == 5, "so what has got a number anew is not taken for sent"


async def test_beginning_again_in_one_stay_believes_what_it_sent_itself(owner: Owner, topic: Topics) -> None:
    sink = owner(topic(name="alerts"))
    await sink.begin(0, 5)
    await sink.send({0: portion(6, 9)})

    assert await sink.begin(0, 5) == 9
    await sink.drop(0)
    assert await sink.begin(0, 5) == 5


async def test_the_marker_is_found_behind_those_of_other_lives(owner: Owner, topic: Topics) -> None:
    alerts = topic(name="alerts")
    ours, theirs = owner(alerts), owner(alerts, incarnation="i2")
    await ours.begin(0, 0)
    await ours.send({0: portion(1, 5)})
    await theirs.begin(0, 0)
    for number in range(40):
        await theirs.send({0: Portion([], number + 1)})

    assert await owner(alerts).begin(0, WHATEVER) == 5


async def test_a_marker_behind_an_open_transaction_of_another_life_is_waited_for(owner: Owner, topic: Topics) -> None:
    alerts = topic(name="alerts")
    ours, theirs, heir = owner(alerts), owner(alerts, incarnation="i2"), owner(alerts)
    await ours.begin(0, 0)
    await theirs.begin(0, 0)
    held = Suspended(theirs, "end", "before")
    sending = asyncio.create_task(theirs.send({0: Portion([], 3)}))
    await held.reached.wait()
    await ours.send({0: portion(1, 5)})

    beginning = asyncio.create_task(heir.begin(0, WHATEVER))
    done, _ = await asyncio.wait([beginning], timeout=1)
    assert not done
    held.go_on.set()

    assert await beginning == 5
    await sending


async def test_the_marker_topic_is_made_with_as_many_partitions_and_grows(
    kafka: Broker, topic: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kafka.transactions:
        pytest.skip("this broker has no transactions")
    alerts = topic(name="alerts")
    monkeypatch.setattr(kafka_markers, "SMALL", {"cleanup.policy": "compact", "segment.bytes": "1"})  # is refused

    for partitions in (1, 3):
        sinks = [SinkPlan(0, alerts, KafkaSink(alerts, dict), 0)]
        sink = KafkaTransactions(sinks, Origin(alerts, "i1", partitions), connection=plain(kafka.bootstrap))
        for partition in range(partitions):
            await sink.begin(partition, WHATEVER)
            await sink.send({partition: portion(1, 1)})
        await sink.close()

    assert await read_committed(kafka.bootstrap, marker_topic(alerts)) == [b"1"] * 4
    await remove_traces(plain(kafka.bootstrap), alerts)
    await remove_traces(plain(kafka.bootstrap), alerts, group="nobody")


async def test_a_broker_that_is_away_is_an_error_to_try_again() -> None:
    address = f"127.0.0.1:{free_port()}"
    sink = KafkaTransactions([], Origin("w", "i1", 1), connection=plain(address))

    with pytest.raises(SinkUnavailable) as unavailable:
        await sink.begin(0, 0)
    with pytest.raises(SinkUnavailable, match="has not begun"):
        await sink.send({0: portion(1, 1)})
    await sink.close()

    assert (unavailable.value.address, sink.exactly_once) == (address, None)


async def test_a_broker_killed_and_restarted_while_outputs_leave_gets_each_once(own_kafka: Broker) -> None:
    if not own_kafka.transactions:
        pytest.skip("this broker has no transactions")
    await ensure_topics(plain(own_kafka.bootstrap), {"alerts": 1})
    sinks = [SinkPlan(0, "alerts", KafkaSink("alerts", dict), 0)]
    sink = KafkaTransactions(sinks, Origin("w", "i1", 1), connection=plain(own_kafka.bootstrap))
    done, last, blocked = 0, 1_000, asyncio.Event()

    async def relay() -> None:
        nonlocal done
        while done < last:
            try:
                done = await sink.begin(0, WHATEVER)
                while done < last:
                    await sink.send({0: portion(done + 1, done + 20)})
                    done += 20
            except SinkUnavailable:
                blocked.set()
                await asyncio.sleep(0.2)

    relaying = asyncio.create_task(relay())
    await until_async(lambda: done >= 200, "some have left")
    own_kafka.kill()
    await blocked.wait()
    await asyncio.to_thread(own_kafka.restart)
    await relaying
    await sink.close()

    assert await read_committed(own_kafka.bootstrap, "alerts") == [b"%d" % number for number in range(1, last + 1)]


async def test_a_broker_without_transactions_gets_them_at_least_once() -> None:
    with Tansu() as broker:
        await ensure_topics(plain(broker.bootstrap), {"alerts": 1})
        sinks = [SinkPlan(0, "alerts", KafkaSink("alerts", dict), 0)]
        sink = KafkaTransactions(sinks, Origin("w", "i1", 1), connection=plain(broker.bootstrap))

        assert await sink.begin(0, WHATEVER) == 0
        assert await sink.send({0: portion(1, 3)}) == []
        await sink.close()

        assert sink.exactly_once is False
        async with AIOKafkaConsumer(
            "alerts", bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
        ) as reader:
            assert [(await reader.getone()).value for _ in range(3)] == [b"1", b"2", b"3"]


async def delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
