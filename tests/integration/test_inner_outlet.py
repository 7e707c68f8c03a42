"""Events between partitions and workflows, on a real store: what is skipped, what waits, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.actors import inner_outlet
from headrace.actors.inner_outlet import DestinationMissing, InnerOutlet, OtherWorkflow, SameWorkflow
from headrace.actors.store import Store
from headrace.sources.outlet import Portion
from headrace.workflows import transfers
from headrace.workflows.commit import Commit, Output
from headrace.workflows.durability import FAST
from headrace.workflows.store import SenderLost, SourceDescriptor, StoreFull, WorkflowDescriptor
from headrace.workflows.transfers import TRANSFER, Transfer


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "shop") as store:
        yield store


@pytest.fixture
async def billing(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "billing") as store:
        yield store


@pytest.fixture
async def to_billing(redis_url: str) -> AsyncIterator[InnerOutlet]:
    made = InnerOutlet(OtherWorkflow(redis_url, "billing", "orders", "to_billing", FAST), "shop", "life")
    yield made
    await made.close()


async def committed(store: Store, partition: int, count: int, *, at: int = -1) -> Portion:
    """A partition of the shop has committed so many outputs for billing (or for partition `at` of its own)."""
    owner = (await store.acquire(partition, term=1, placement=1, worker="worker/0")).owner
    sink = 0 if at < 0 else TRANSFER
    rows = [Transfer(at, number, 0, "orders", f"e{number}", 0, b"s1", b"1") for number in range(1, count + 1)]
    outputs = [Output(sink, row.id, "s1", 0, transfers.encode(row)) for row in rows]
    await store.commit(partition, owner, Commit(1, outputs=outputs))
    return Portion(outputs, count, owner)


def described(*sources: tuple[str, str], partitions: int = 4) -> WorkflowDescriptor:
    """What billing publishes: its sources by name and kind."""
    return WorkflowDescriptor(
        name="billing", partitions=partitions,
        sources=tuple(SourceDescriptor(kind=kind, name=name) for name, kind in sources),
    )  # fmt: skip


async def ids(store: Store, partition: int) -> list[str]:
    """Events that lie at a partition, in order."""
    return [transfers.decode(blob).id for _, blob in await store.internal(partition)]


async def test_what_a_partition_sends_lies_at_one_partition_of_the_other_workflow_once(
    shop: Store, billing: Store, to_billing: InnerOutlet
) -> None:
    await billing.publish_workflow(described(("orders", "workflow")))
    portions = {6: await committed(shop, 6, 3), 1: await committed(shop, 1, 2)}

    assert await to_billing.send(portions) == []
    assert await to_billing.send(portions) == []

    assert [await ids(billing, partition) for partition in range(4)] == [[], ["e1", "e2"], ["e1", "e2", "e3"], []]


async def test_a_workflow_that_is_not_there_yet_is_waited_for(
    shop: Store, billing: Store, to_billing: InnerOutlet
) -> None:
    portion = {0: await committed(shop, 0, 1)}

    with pytest.raises(DestinationMissing, match="never started"):
        await to_billing.send(portion)
    await billing.publish_workflow(described(("orders", "kafka"), ("refunds", "workflow")))
    with pytest.raises(DestinationMissing, match=r"'orders' \(it has: refunds\)") as missing:
        await to_billing.send(portion)
    await billing.publish_workflow(described(("orders", "workflow")))

    assert await to_billing.send(portion) == []
    assert missing.value.workflow == "billing"
    assert await ids(billing, 0) == ["e1"]


async def test_a_workflow_removed_and_deployed_anew_gets_what_comes_from_then_on(
    shop: Store, billing: Store, to_billing: InnerOutlet
) -> None:
    await billing.publish_workflow(described(("orders", "workflow")))
    portion = await committed(shop, 3, 5)
    await to_billing.send({3: Portion(portion.outputs[:3], 3, portion.owner)})
    await billing.remove_workflow("billing")
    await billing.publish_workflow(described(("orders", "workflow"), partitions=2))

    assert await to_billing.send({3: Portion(portion.outputs[3:], 5, portion.owner)}) == []

    assert await ids(billing, 1) == ["e4", "e5"]


async def test_an_ended_workflow_refuses_them_for_good(shop: Store, billing: Store, to_billing: InnerOutlet) -> None:
    await billing.publish_workflow(described(("orders", "workflow"), partitions=1))
    owner = (await billing.acquire(0, term=1, placement=1, worker="worker/0")).owner
    await billing.commit(0, owner, Commit(1, counters={"ended": 1}))

    refused = await to_billing.send({0: await committed(shop, 0, 2)})

    assert [row.output.id for row in refused] == ["e1", "e2"]
    assert "'billing' has ended" in refused[0].error


async def test_many_go_in_several_calls_in_order(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_outlet, "BYTES_AT_ONCE", 4_000)
    own = InnerOutlet(SameWorkflow(shop, 4), "shop", "life")
    portion = await committed(shop, 0, 1_700, at=2)

    assert await own.send({0: portion}) == []

    assert [transfers.decode(blob).number for _, blob in await shop.internal(2, limit=10_000)] == list(range(1, 1_701))


async def test_a_full_partition_is_named_after_a_while(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_outlet, "MOST", 2)
    monkeypatch.setattr(inner_outlet, "_PATIENCE", 0.0)
    own = InnerOutlet(SameWorkflow(shop, 4), "shop", "life")
    portion = await committed(shop, 0, 4, at=2)
    await own.send({0: Portion(portion.outputs[:2], 2, portion.owner)})

    with pytest.raises(StoreFull, match="partition 2 of shop"):
        await own.send({0: portion})

    assert await ids(shop, 2) == ["e1", "e2"]


async def test_an_owner_of_the_past_sends_nothing(shop: Store) -> None:
    own = InnerOutlet(SameWorkflow(shop, 4), "shop", "life")
    portion = await committed(shop, 0, 1, at=2)
    await shop.acquire(0, term=1, placement=2, worker="worker/1")

    with pytest.raises(SenderLost):
        await own.send({0: portion})

    assert await ids(shop, 2) == []
