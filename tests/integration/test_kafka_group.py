"""The consumer group: it is told of positions, and speaks up when a store has lost them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker, Topics
from command_line import Headrace
from headrace.cli.exits import ExitCode
from headrace.sources.kafka_cleanup import remove_traces
from headrace.sources.kafka_connection import ClusterUnavailable, KafkaClusters
from headrace.sources.kafka_group import group_of, group_offsets
from headrace.sources.kafka_prior import StateLost, refuse_lost_state
from kafka_reading import Reading, numbered, plain, plan_of, values, write
from waiting import until_async


@pytest.fixture(autouse=True)
def quick(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A group that is told ten times a second."""
    if not kafka.transactions:
        pytest.skip("this broker answers for groups in a form that no client reads")
    monkeypatch.setattr("headrace.sources.kafka_group._EVERY", 0.1)
    monkeypatch.setattr("headrace.sources.kafka_prior._RECHECK", 0.1)
    yield


async def told(kafka: Broker, group: str) -> dict[Any, int]:
    """What the group has, once it has something."""

    async def look() -> dict[Any, int]:
        try:
            return await group_offsets(plain(kafka.bootstrap), group)
        except ClusterUnavailable:  # the broker's first group: its topic is being made
            return {}

    found: dict[Any, int] = await until_async(look, "the group has positions")
    return found


async def read_some(kafka: Broker, name: str, group: str) -> None:
    """A workflow of two partitions has processed 5 records of topic partition 1."""
    await write(kafka.bootstrap, name, numbered(0, 5), 1)
    async with Reading(kafka.bootstrap, name, partitions=2, group=group) as reading:
        await reading.assign()
        await reading.take(5)
        reading.reader.committed(1, {**reading.positions, "inbox": "17-0"})
        assert await told(kafka, group) == {(name, 1): 5}


async def test_a_group_is_told_of_committed_positions_for_lag_tools(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)

    await read_some(kafka, name, f"{name}-group")


async def test_what_is_new_at_the_end_is_told_too(
    kafka: Broker, topic: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    await write(kafka.bootstrap, name, numbered(0, 5), 1)

    async with Reading(kafka.bootstrap, name, partitions=2, group=group) as reading:
        await reading.assign()
        await reading.take(5)
        reading.reader.committed(1, reading.positions)
        await told(kafka, group)
        monkeypatch.setattr("headrace.sources.kafka_group._EVERY", 60)
        await write(kafka.bootstrap, name, numbered(5, 7), 1)
        await reading.take(2)
        reading.reader.committed(1, reading.positions)

    assert await told(kafka, group) == {(name, 1): 7}


async def test_a_store_that_lost_a_partition_is_noticed_and_nothing_is_read_again(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    await read_some(kafka, name, group)
    await write(kafka.bootstrap, name, [b"of another"], 0)

    async with Reading(kafka.bootstrap, name, partitions=2, group=group) as reading:
        await reading.assign()
        sentence = await reading.problem("state_lost")
        taken = await reading.take(1)

        assert values(taken) == [b"of another"], "a partition that was never processed begins"
        assert "partition 1" in sentence
        assert f"{name}/1: offset 5" in sentence
        assert "--start-over" in sentence

        await remove_traces(plain(kafka.bootstrap), name, group=group)
        await reading.solved("state_lost")
        assert values(await reading.take(5)) == numbered(0, 5), "who removes the group begins anew"


async def test_positions_in_the_store_are_believed(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    await read_some(kafka, name, group)

    async with Reading(kafka.bootstrap, name, partitions=2, group=group) as reading:
        await reading.assign({"readings/1": "3"})
        assert values(await reading.take(2)) == [b"3", b"4"]


async def test_starting_over_can_be_asked_for(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    await read_some(kafka, name, group)

    async with Reading(kafka.bootstrap, name, partitions=2, group=group, start_over=True) as reading:
        await reading.assign()
        assert len(values(await reading.take(5))) == 5


async def test_a_workflow_whose_store_knows_nothing_is_refused_at_the_start(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    where = KafkaClusters({"bootstrap_servers": kafka.bootstrap})
    group = group_of(name, plain(kafka.bootstrap))
    assert group == f"headrace-{name}"
    await refuse_lost_state(name, [plan_of(name)], where)
    await read_some(kafka, name, group)

    with pytest.raises(StateLost, match="offset 5") as lost:
        await refuse_lost_state(name, [plan_of(name)], where)

    assert (lost.value.workflow, lost.value.group, lost.value.places) == (name, group, {(name, 1): 5})
    await refuse_lost_state("another", [plan_of(name)], where)
    await refuse_lost_state(name, [plan_of("another-topic")], where)


async def test_a_group_is_removed_and_may_be_gone_already(kafka: Broker, topic: Topics) -> None:
    name = topic(partitions=2)
    await read_some(kafka, name, f"{name}-group")

    await remove_traces(plain(kafka.bootstrap), name, group=f"{name}-group")
    await remove_traces(plain(kafka.bootstrap), name, group=f"{name}-group")
    assert await group_offsets(plain(kafka.bootstrap), f"{name}-group") == {}


def test_a_cluster_may_name_its_group_or_want_none() -> None:
    assert group_of("heat", plain("x:1")) == "headrace-heat"
    assert group_of("heat", plain("x:1", group_id="ours")) == "ours"
    assert group_of("heat", plain("x:1", group_id="")) is None


FLOW = """
from headrace import Context, Event, KafkaSource, Workflow

def shout(event: Event[str], ctx: Context) -> None: ...

workflow = Workflow("NAME", partitions=2)
workflow.source(KafkaSource("NAME", str, key=str)).to(workflow.node(shout))
"""


@pytest.mark.parametrize(
    ("verb", "beyond"),
    [
        (("dev", "--inline"), "Level"),  # `run` goes the same way
        (("deploy", "--address", "127.0.0.1:1"), "nobody answers"),
    ],
    ids=["dev", "deploy"],
)
async def test_whoever_starts_it_with_another_store_is_told_before_anything_is_touched(
    kafka: Broker, topic: Topics, redis_url: str, tmp_path: Path, verb: tuple[str, ...], beyond: str
) -> None:
    name = topic(partitions=2)
    await read_some(kafka, name, f"headrace-{name}")
    (tmp_path / "flow.py").write_text(FLOW.replace("NAME", name))
    typed = (*verb, "flow.py", "--redis", redis_url, "--kafka", kafka.bootstrap, "--durability", "fast")

    refused = Headrace(tmp_path, *typed)
    assert await asyncio.to_thread(refused.ends) == ExitCode.PROBLEMS
    assert f"{name} has no state in this store" in refused.text
    assert "--start-over" in refused.text

    anew = Headrace(tmp_path, *typed, "--start-over")
    await asyncio.to_thread(anew.says, beyond)
    anew.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(anew.ends)
