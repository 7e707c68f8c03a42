"""The Kafka reader against a real broker: who reads what, from where, and what it says when it can't."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from brokers import CACHE, Broker, Choice, Topics
from headrace.embedded import ApacheKafka
from headrace.embedded.ports import free_port
from headrace.sources.kafka_fetch import PARTITION_BYTES
from headrace.sources.kafka_log import FETCH_BELOW, offset_of, topic_id_of
from headrace.sources.kafka_metadata import ensure_topics
from headrace.sources.kafka_reader import KafkaReader
from headrace.workflows.errors import HeadraceError
from kafka_reading import Reading, numbered, offsets, plain, plan_of, values, write
from proxy import Proxy
from waiting import until_async


async def test_partition_s_reads_the_topic_partitions_that_are_s_modulo_the_number(
    kafka: Broker, topic: Topics
) -> None:
    name = topic(partitions=4)
    for number in range(4):
        await write(kafka.bootstrap, name, [b"from %d" % number], number)

    async with Reading(kafka.bootstrap, name, partitions=2) as reading:
        await reading.assign(only=1)
        taken = await reading.take(2)

    assert {records.origin: records.values for records in taken} == {
        "readings/1": [b"from 1"],
        "readings/3": [b"from 3"],
    }
    assert all(records.source == 0 for records in taken)


async def test_reading_goes_on_where_the_store_says(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 10))
    async with Reading(kafka.bootstrap, name) as before:
        await before.assign()
        await before.take(10, limit=4)
    await write(kafka.bootstrap, name, numbered(10, 12))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign(before.positions)
        taken = await reading.take(2)

    assert values(taken) == [b"10", b"11"]
    assert offset_of(reading.positions["readings/0"]) == 12


async def test_assigning_again_drops_what_was_buffered_and_reads_from_the_position_given(
    kafka: Broker, topic: Topics
) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 5))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        await reading.take(5)
        await reading.assign({"readings/0": "2"})
        taken = await reading.take(3)

    assert values(taken) == [b"2", b"3", b"4"]


async def test_a_revoked_partition_gives_nothing(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    async with Reading(kafka.bootstrap, name, partitions=2) as reading:
        await reading.assign()
        await write(kafka.bootstrap, name, [b"a"], 0)
        await until_async(lambda: reading.ready, "something has arrived")
        await reading.reader.revoke(0)
        await write(kafka.bootstrap, name, [b"b"], 1)
        taken = await reading.take(1)

        assert reading.reader.pull(0, 10) == []
    assert values(taken) == [b"b"]


async def test_a_source_may_begin_at_the_end_and_the_end_is_kept_before_anything_comes(
    kafka: Broker, topic: Topics
) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 3))

    async with Reading(kafka.bootstrap, name, source=plan_of(name, start="latest")) as reading:
        await reading.assign()
        await until_async(lambda: any(log.announce for log in reading.reader.logs()), "the end is known")
        assert await reading.take(0) != [], "records without any, but with a position"
        assert offset_of(reading.positions["readings/0"]) == 3
        assert reading.positions["readings/*"] == "begun", "not before the end itself is known"
        await write(kafka.bootstrap, name, [b"new"])
        taken = await reading.take(1)

    assert values(taken) == [b"new"]


@pytest.mark.parametrize(("hour", "first"), [(0, 0), (2, 2), (9, None)])
async def test_a_source_may_begin_at_a_time_and_what_that_means_is_kept(
    kafka: Broker, topic: Topics, hour: int, first: int | None
) -> None:
    """Records of 0, 1, 2 and 3 o'clock, and times half a millisecond before the hour."""
    if not kafka.transactions:
        pytest.skip("this broker can't look for a time")
    name = topic(retention_ms="-1")
    day = datetime(2024, 5, 1, tzinfo=UTC)
    await write(kafka.bootstrap, name, numbered(0, 4), times=[day + timedelta(hours=hour) for hour in range(4)])
    source = plan_of(name, start=day + timedelta(hours=hour, microseconds=-500))

    async with Reading(kafka.bootstrap, name, source=source) as reading:
        await reading.assign()
        await until_async(lambda: reading.ready, "it is known where to begin")
        if first is None:
            await reading.take(0)
            assert offset_of(reading.positions["readings/0"]) == 4, "the end, kept before anything comes"
            await write(kafka.bootstrap, name, [b"new"])
            assert values(await reading.take(1)) == [b"new"]
        else:
            assert values(await reading.take(4 - first)) == numbered(first, 4)


async def test_a_position_counts_more_than_the_time_to_begin_at(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 4))
    source = plan_of(name, start=datetime(2099, 1, 1, tzinfo=UTC))

    async with Reading(kafka.bootstrap, name, source=source) as reading:
        await reading.assign({"readings/0": "3"})
        assert values(await reading.take(1)) == [b"3"]


async def test_a_missing_topic_is_named_and_read_once_it_is_there(kafka: Broker, topic: Topics) -> None:
    name = topic(name="other") + "-late"

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        sentence = await reading.problem("topic_missing")
        assert name in sentence
        await ensure_topics(plain(kafka.bootstrap), {name: 1})
        await write(kafka.bootstrap, name, [b"at last"])

        assert values(await reading.take(1)) == [b"at last"]
        await reading.solved("topic_missing")


async def test_a_broker_that_is_away_at_the_start_is_named(kafka: Broker) -> None:
    address = f"127.0.0.1:{free_port()}"

    async with Reading(address, "anything") as reading:
        await reading.assign()
        sentence = await reading.problem("kafka_unreachable")

    assert address in sentence
    assert "keeps trying" in sentence


async def test_a_broker_that_comes_back_is_read_on_from_where_reading_was(own_kafka: Broker) -> None:
    if not own_kafka.transactions:
        pytest.skip("this broker forgets its topics at a restart")
    await ensure_topics(plain(own_kafka.bootstrap), {"kept": 1})
    await write(own_kafka.bootstrap, "kept", numbered(0, 3))

    async with Reading(own_kafka.bootstrap, "kept") as reading:
        await reading.assign()
        await reading.take(3)
        own_kafka.kill()
        await reading.problem("kafka_unreachable")
        await asyncio.to_thread(own_kafka.restart)
        await write(own_kafka.bootstrap, "kept", numbered(3, 5))

        assert values(await reading.take(2)) == [b"3", b"4"]
        await reading.solved("kafka_unreachable")


async def test_a_topic_made_again_is_not_followed(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 3))
    async with Reading(kafka.bootstrap, name) as before:
        await before.assign()
        await before.take(3)
    await remake(kafka.bootstrap, name)
    await write(kafka.bootstrap, name, numbered(100, 110))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign(before.positions)
        sentence = await reading.problem("log_lost")

    assert "made again" in sentence
    assert not reading.ready


async def test_events_of_a_topic_made_again_have_other_ids(kafka: Broker, topic: Topics) -> None:
    name = topic()
    logs = []

    for _ in range(2):
        await write(kafka.bootstrap, name, numbered(0, 3))
        async with Reading(kafka.bootstrap, name) as reading:
            await reading.assign()
            [records] = await reading.take(3)
        logs.append(records.identity)
        assert (records.origin, topic_id_of(records.after)) == ("readings/0", topic_id_of(records.identity))
        await remake(kafka.bootstrap, name)

    assert logs[0] != logs[1]


async def test_a_topic_made_again_while_it_is_read_is_noticed(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 3))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        await reading.take(3)
        await remake(kafka.bootstrap, name)
        await write(kafka.bootstrap, name, numbered(100, 110))
        await until_async(lambda: reading.problems.get("log_lost"), "it is noticed", within=40)

    assert offset_of(reading.positions["readings/0"]) == 3


async def remake(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name])

        async def is_gone() -> bool:
            return name not in await admin.list_topics()

        await until_async(is_gone, "the topic is deleted")
    finally:
        await admin.close()

    async def is_made() -> list[str]:
        return await ensure_topics(plain(bootstrap), {name: 1})

    await until_async(is_made, "the topic is made again")


async def test_a_position_behind_the_end_of_the_log_stops_with_a_name(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 3))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign({"readings/0": "50"})
        sentence = await reading.problem("log_lost")

    assert "ends at offset 3" in sentence
    assert "50" in sentence


@pytest.mark.parametrize("action", ["fail", "earliest"])
async def test_records_lost_before_they_were_read_are_a_gap_with_its_range(
    kafka: Broker, topic: Topics, action: str
) -> None:
    if not kafka.transactions:
        pytest.skip("this broker can't delete records")
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 10))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=6)})
    await admin.close()
    source = plan_of(name)
    object.__setattr__(source.source, "on_gap", action)

    async with Reading(kafka.bootstrap, name, source=source) as reading:
        await reading.assign({"readings/0": "2"})
        sentence = await reading.problem("gap")
        gap = reading.reader.gaps[0]
        assert (gap.origin, gap.first, gap.after, gap.action) == ("readings/0", 2, 6, action)
        assert "2 to 5" in sentence
        if action == "earliest":
            await until_async(lambda: reading.ready, "it goes on")
            taken = await reading.take(5)
            assert values(taken) == [None, *numbered(6, 10)]
            lost = taken[0]
            assert (lost.offsets, lost.after.partition("@")[0]) == ([2], "6"), "one record for all, and on behind it"
            assert (list(lost.faults or {}), lost.gaps) == ([0], {0})
            assert "2 to 5" in (lost.faults or {})[0]
        else:
            assert not reading.ready


async def test_a_topic_that_grows_is_read_in_its_new_partitions_after_the_old(kafka: Broker, topic: Topics) -> None:
    if not kafka.transactions:
        pytest.skip("this broker can't add partitions")
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 5))
    async with Reading(kafka.bootstrap, name) as before:
        await before.assign()
        await before.take(2)
    await grow(kafka.bootstrap, name, 2)
    await write(kafka.bootstrap, name, [b"grown"], 1)

    async with Reading(kafka.bootstrap, name, source=plan_of(name, start="latest")) as reading:
        await reading.assign({"readings/0": "2"})
        taken = await reading.take(4)

    assert values(taken) == [b"2", b"3", b"4", b"grown"]


async def grow(bootstrap: str, name: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_partitions({name: NewPartitions(total_count=partitions)})
    await admin.close()


@pytest.mark.parametrize("partitions", [6, 5], ids=["a multiple", "no multiple"])
async def test_a_topic_that_grows_under_load_keeps_the_order_of_each_key(
    kafka: Broker, topic: Topics, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    """Where it grows to a multiple, a key stays with its partition of the workflow; else its records are sent on."""
    if not kafka.transactions:
        pytest.skip("this broker can't add partitions")
    monkeypatch.setattr("headrace.sources.kafka_fetch._METADATA_SECONDS", 0.2)
    name = topic(2)
    count, keys = 6_000, 30

    async def load() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, metadata_max_age_ms=100) as producer:
            for number in range(count):
                await producer.send(name, b"%d" % number, key=b"key-%d" % (number % keys))
                if number == count // 3:
                    await producer.flush()
                    await grow(kafka.bootstrap, name, partitions)
                if number % 100 == 0:
                    await producer.flush()

    async with Reading(kafka.bootstrap, name, partitions=2) as reading:
        await reading.assign()
        loading = asyncio.create_task(load())
        taken = await reading.take(count, limit=200)
        await loading

    seen: dict[tuple[int, bytes | None], list[int]] = defaultdict(list)
    for records in taken:
        owner = int(records.origin.rpartition("/")[2]) % 2
        for key, value in zip(records.keys, records.values, strict=True):
            seen[owner, key].append(int(value or b""))
    assert sorted(number for numbers in seen.values() for number in numbers) == list(range(count)), "each once"
    assert all(numbers == sorted(numbers) for numbers in seen.values()), "in order"
    assert {records.origin for records in taken} == {f"readings/{number}" for number in range(partitions)}
    if partitions == 6:
        assert len(seen) == keys, "each key at one partition of the workflow"


async def test_what_is_not_pulled_is_not_fetched(kafka: Broker, topic: Topics) -> None:
    name = topic()
    payload = bytes(100_000)
    await write(kafka.bootstrap, name, [payload] * 150)

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        await until_async(lambda: reading.ready, "the first fetch is in")
        (log,) = reading.reader.logs()
        assert log.remaining < FETCH_BELOW + PARTITION_BYTES
        taken = await reading.take(150, limit=20)

    assert offsets(taken, "readings/0") == list(range(150))


async def test_a_message_larger_than_a_fetch_comes_whole_and_so_does_the_next(kafka: Broker, topic: Topics) -> None:
    if not kafka.transactions:
        pytest.skip("this broker is only asked for usual messages")
    name = topic(max_message_bytes="8000000")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=8_000_000) as producer:
        await producer.send_and_wait(name, bytes(6_000_000), partition=0)
        await producer.send_and_wait(name, b"small", partition=0)

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        taken = await reading.take(2)

    assert [len(value or b"") for value in values(taken)] == [6_000_000, 5]


async def test_lag_is_told_by_origin(kafka: Broker, topic: Topics) -> None:
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 7))

    async with Reading(kafka.bootstrap, name) as reading:
        await reading.assign()
        await until_async(lambda: reading.ready, "something has arrived")
        reading.reader.pull(0, 3)

        assert reading.reader.lag() == {"readings/0": (3, 7)}
        assert not reading.reader.caught_up()
        await reading.take(4)
        assert reading.reader.caught_up()


async def test_two_sources_of_one_topic_are_refused() -> None:
    with pytest.raises(HeadraceError, match="one source"):
        KafkaReader(
            [plan_of("t", 0), plan_of("t", 1)],
            connection=plain("127.0.0.1:1"),
            partitions=1,
            on_ready=lambda partition: None,
            on_problem=lambda word, sentence: None,
        )


async def test_a_broker_that_does_not_answer_any_more_is_named_and_read_on_when_it_does(
    broker_choice: Choice, tmp_path: Path
) -> None:
    if broker_choice.broker is not ApacheKafka:
        pytest.skip("only Apache Kafka can advertise another address than its own")
    with Proxy() as proxy:
        options = {"advertised.listeners": f"PLAINTEXT://{proxy.address}"}
        broker = ApacheKafka(cache=CACHE, folder=tmp_path / "kafka", port=proxy.target, options=options)
        await asyncio.to_thread(broker.start)
        await ensure_topics(plain(proxy.address), {"kept": 1})
        await write(proxy.address, "kept", numbered(0, 3))

        async with Reading(proxy.address, "kept") as reading:
            await reading.assign()
            await reading.take(3)
            proxy.stall()
            await until_async(lambda: reading.problems.get("kafka_unreachable"), "it is named", within=12)
            proxy.heal()
            await write(proxy.address, "kept", numbered(3, 5))

            assert values(await reading.take(2)) == [b"3", b"4"]
            await reading.solved("kafka_unreachable")
        await asyncio.to_thread(broker.stop)


async def test_that_a_source_has_begun_is_not_kept_before_where(kafka: Broker, topic: Topics) -> None:
    """A crash in between must not make the log look like one that appeared later: it would be read from its start."""
    name = topic()
    await write(kafka.bootstrap, name, numbered(0, 3))

    async with Reading(kafka.bootstrap, name, source=plan_of(name, start="latest")) as reading:
        await reading.assign()
        kept: list[str] = []
        await until_async(
            lambda: kept.extend(row.origin for row in reading.reader.pull(0, 10)) or "readings/*" in kept,
            "it has begun",
        )

    assert kept == ["readings/0", "readings/*"]
