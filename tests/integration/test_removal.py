"""Taking a workflow out, and what a new version would do to its states: on real servers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from brokers import Broker, Topics
from headrace import ChannelSource, Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.actors.cluster import deployment_of
from headrace.actors.deployments import (
    ChangeUnderWay,
    begin_change,
    end_change,
    get_deployment,
    is_stopped,
    mark_stopped,
    put_deployment,
)
from headrace.actors.removal import KafkaNotCleared, remove_workflow, what_goes
from headrace.actors.spec import CodeRef, Deployment
from headrace.actors.states_kept import StatesLost, make_ready, refuse_loss
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_markers import marker_topic
from headrace.sources.kafka_metadata import describe_topics, ensure_topics
from headrace.workflows.commit import Commit
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.plan import Plan

CODE = CodeRef(folder="", module="flow", version="1", bundle=True)


class Total(msgspec.Struct):
    count: int = 0


class Strict(msgspec.Struct):
    count: str = ""


def total(event: Event[str], ctx: Context[Total]) -> str:
    return event.data


def strict(event: Event[str], ctx: Context[Strict]) -> str:
    return event.data


async def topics_there(connection: KafkaConnection, *names: str) -> set[str]:
    client = await connection.connect()
    try:
        return set(await describe_topics(client, names))
    finally:
        await client.close()


def deployment_with(name: str, source: str, sink: str, redis_url: str, bootstrap: str) -> Deployment:
    workflow = Workflow(name)
    node = workflow.node(total)
    workflow.source(KafkaSource(source, str)).to(node)
    node.to(workflow.sink(KafkaSink(sink, str)))
    kafka = {"bootstrap_servers": bootstrap}
    return deployment_of(workflow.compile(), CODE, redis_url, kafka=kafka, cluster="default")


async def test_a_workflow_goes_from_store_and_kafka_and_its_topics_stay_unless_asked_for(
    redis_url: str, kafka: Broker, topic: Topics
) -> None:
    name = f"w-{uuid.uuid4().hex[:8]}"
    source, sink, markers = topic(name="in"), topic(name="out"), marker_topic(name)
    connection = KafkaConnection("", kafka.bootstrap, {})
    await ensure_topics(connection, {markers: 1})
    async with Store(redis_url, name) as store:
        await store.acquire(0, term=1, placement=1, worker="worker/0")
        await put_deployment(store, deployment_with(name, source, sink, redis_url, kafka.bootstrap))

        planned = await what_goes(store, name, topics=False, kafka=True)

        assert planned.keys >= 2
        assert markers in planned.lines[0]
        assert await topics_there(connection, source, sink, markers) == {source, sink, markers}

        await remove_workflow(store, planned)

        assert (await what_goes(store, name, topics=False, kafka=True)).keys == 0
        assert await topics_there(connection, source, sink, markers) == {source, sink}


async def test_its_topics_go_where_that_is_asked_for(redis_url: str, kafka: Broker, topic: Topics) -> None:
    name = f"w-{uuid.uuid4().hex[:8]}"
    source, sink = topic(name="in"), topic(name="out")
    connection = KafkaConnection("", kafka.bootstrap, {})
    async with Registry(redis_url) as registry:
        await put_deployment(registry, deployment_with(name, source, sink, redis_url, kafka.bootstrap))

        await remove_workflow(registry, await what_goes(registry, name, topics=True, kafka=True))

    assert await topics_there(connection, source, sink) == set()


async def test_a_broker_that_is_away_leaves_the_store_untouched(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        await put_deployment(registry, deployment_with("w", "in", "out", redis_url, "127.0.0.1:1"))

        with pytest.raises(KafkaNotCleared, match="--store-only"):
            await remove_workflow(registry, await what_goes(registry, "w", topics=False, kafka=True))

        assert await get_deployment(registry, "w") is not None
        await remove_workflow(registry, await what_goes(registry, "w", topics=False, kafka=False))
        assert await get_deployment(registry, "w") is None


async def test_deploying_again_takes_the_mark_of_a_stop_away(redis_url: str) -> None:
    deployment = Deployment(workflow="w", code=CODE, redis_url=redis_url, partitions=1, cluster="default")
    async with Registry(redis_url) as registry:
        await put_deployment(registry, deployment)
        await mark_stopped(registry, "w")
        assert await is_stopped(registry, "w")

        await put_deployment(registry, deployment)

        assert not await is_stopped(registry, "w")


async def test_one_at_a_time_may_change_a_workflow(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        await begin_change(registry, "w", "ada")

        with pytest.raises(ChangeUnderWay, match="w is being changed by ada"):
            await begin_change(registry, "w", "bob")
        await end_change(registry, "w", "bob")
        with pytest.raises(ChangeUnderWay):
            await begin_change(registry, "w", "bob")
        await begin_change(registry, "other", "bob")

        await end_change(registry, "w", "ada")
        await begin_change(registry, "w", "bob")


def version_with(node: object, **options: Any) -> tuple[Plan, Deployment]:
    workflow = Workflow("w", partitions=1)
    handle = workflow.node(node, **options)  # type: ignore[call-overload]
    workflow.source(ChannelSource(str, capacity=1, name="lines", key=str)).to(handle)
    handle.to(None)
    plan = workflow.compile()
    return plan, deployment_of(plan, CODE, "redis://unused")


@asynccontextmanager
async def states_of_version_1(redis_url: str) -> AsyncIterator[tuple[Store, Deployment]]:
    """A store with states of two runs of the node `count`, and the deployment that has left them."""
    plan, before = version_with(total, name="count")
    async with Store(redis_url, "w") as store:
        await store.publish_workflow(descriptor_of(plan, 1))
        owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
        state = ["status", "running", "number", "1", "node:count", '{"count":1}']
        await store.commit(0, owner, Commit(sequence=1, positions={}, runs={"a": state, "b": state}))
        yield store, before


async def contents(store: Store) -> dict[bytes, bytes]:
    """All that the store has, as the server dumps it."""
    return {key: await store.client.dump(key) async for key in store.client.scan_iter()}


async def test_states_that_a_new_version_has_no_place_for_are_not_lost_unasked(redis_url: str) -> None:
    renamed, _ = version_with(total, name="tally")
    changed, _ = version_with(strict, name="count")
    raising, _ = version_with(strict, name="count", migrations={1: lambda old: old["nothing"]})
    async with states_of_version_1(redis_url) as (store, before):
        stored = await contents(store)

        with pytest.raises(StatesLost, match="count had states, in 2 runs, and is gone"):
            await refuse_loss(store, before, renamed)
        with pytest.raises(
            StatesLost, match=r"state of count of run '[ab]' \(and of 1 more run\)[\s\S]*--drop-state count"
        ):
            await refuse_loss(store, before, changed)
        with pytest.raises(
            StatesLost, match=r"its migration from version 1 to 2, .*<lambda>, raised KeyError: 'nothing'"
        ):
            await refuse_loss(store, before, raising)

        assert await contents(store) == stored
        with pytest.raises(StatesLost):
            await refuse_loss(store, before, renamed, drop=["another"])
        assert (await refuse_loss(store, before, renamed, drop=["count"])).loses
        assert await contents(store) == stored
        assert await make_ready(store, before, renamed, drop=["count"]) == 2
        assert not (await refuse_loss(store, before, renamed)).loses
        assert "node:count" not in await store.run(0, "a")


async def test_runs_that_stand_at_a_wait_that_is_gone_are_let_go_only_where_that_is_said(redis_url: str) -> None:
    plan, before = version_with(total, name="count")
    async with states_of_version_1(redis_url) as (store, _):
        owner = (await store.acquire(0, term=1, placement=2, worker="worker/0")).owner
        stands = ["wait", '["approval",2,5,9]']
        await store.commit(0, owner, Commit(sequence=2, positions={}, runs={"a": stands}))
        stored = await contents(store)

        with pytest.raises(StatesLost, match="1 run stands at the wait 'approval', which is gone"):
            await refuse_loss(store, before, plan)

        assert await contents(store) == stored
        assert await make_ready(store, before, plan, drop=["@wait:approval"]) == 1
        assert (await store.run(0, "a"))["wait"] == b'["",2,0,0]'
        assert not (await refuse_loss(store, before, plan)).loses


async def test_states_under_an_old_name_are_moved_when_a_version_no_longer_speaks_of_it(redis_url: str) -> None:
    second, deployed = version_with(total, name="tally", renamed_from="count")
    third, _ = version_with(total, name="tally")
    async with states_of_version_1(redis_url) as (store, before):
        assert not (await refuse_loss(store, before, second)).loses
        assert await make_ready(store, before, second) == 0
        assert "node:count" in await store.run(0, "a")  # with its next event

        for _ in range(2):
            assert not (await refuse_loss(store, deployed, third)).loses
            assert await make_ready(store, deployed, third) == 0

        run = await store.run(0, "a")
        assert (run.get("node:count"), run["node:tally"]) == (None, b'{"count":1}')


async def test_a_walk_through_many_runs_says_how_far_it_is_and_may_end_early(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.actors.state_check.PROGRESS", 1)
    plan, _ = version_with(total, name="count")
    told: list[int] = []
    async with states_of_version_1(redis_url) as (store, before):
        await refuse_loss(store, before, plan, on_progress=told.append)

        assert told == [1, 2]
        assert (await refuse_loss(store, before, plan, limit=1)).runs == 1
