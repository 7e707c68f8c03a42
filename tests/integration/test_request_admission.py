"""Requests at the inbox of a partition: what may come in is looked at in the step that takes it in. No worker runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from headrace.actors.run_beginning import are_beginning
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.actors.store_requests import Admission, Condition, Request, RequestStore
from headrace.gateway.bridge import Bridge
from headrace.workflows.commit import Commit, Reply
from waiting import until_async


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "orders") as store:
        yield store


@pytest.fixture
async def requests(redis_url: str) -> AsyncIterator[RequestStore]:
    async with RequestStore(redis_url) as requests:
        yield requests


def request(id_: str, key: str = "4711", condition: Condition = Condition.ANY, fingerprint: str = "") -> Request:
    return Request(
        id=id_, key=key, source="requests", body=b"{}", condition=condition, fingerprint=fingerprint
    )  # fmt: skip


async def admit(requests: RequestStore, *asked: Request) -> list[Admission]:
    return await requests.append_requests("orders", 0, asked)


async def commit(store: Store, owner: str, sequence: int, **effects: object) -> None:
    await store.commit(0, owner, Commit(sequence=sequence, **effects))  # type: ignore[arg-type]


async def last_entry(store: Store) -> str:
    ((entry, _),) = await store.client.xrevrange(store.keys(0).inbox, count=1)
    return str(entry.decode())


async def test_a_run_that_has_not_begun_yet_is_not_begun_again(store: Store, requests: RequestStore) -> None:
    first, second, other = await admit(
        requests, request("1", condition=Condition.NEW), request("2", condition=Condition.NEW),
        request("3", key="4712", condition=Condition.NEW),
    )  # fmt: skip

    assert (first, second, other) == (Admission.APPENDED, Admission.RUNNING, Admission.APPENDED)
    assert await store.client.xlen(store.keys(0).inbox) == 2


async def test_a_run_that_is_about_to_begin_takes_messages(store: Store, requests: RequestStore) -> None:
    before = await admit(requests, request("1", condition=Condition.RUNNING))
    await admit(requests, request("2"))
    after = await admit(requests, request("3", condition=Condition.RUNNING))

    assert (before, after) == ([Admission.UNKNOWN], [Admission.APPENDED])


async def test_once_the_request_is_done_the_run_itself_counts(store: Store, requests: RequestStore) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await admit(requests, request("1", condition=Condition.NEW))
    entry = await last_entry(store)

    # Its event was refused: no run has begun.
    await commit(store, head.owner, 1, positions={"inbox": entry}, trims={"inbox": (entry, 1)})
    refused = await admit(requests, request("2", condition=Condition.RUNNING))
    again = await admit(requests, request("3", condition=Condition.NEW))
    entry = await last_entry(store)
    fields = ["status", "running", "number", "1"]
    await commit(
        store, head.owner, 2, positions={"inbox": entry}, trims={"inbox": (entry, 1)}, runs={"4711": fields},
        fresh=["4711"],
    )  # fmt: skip
    running = await admit(requests, request("4", condition=Condition.NEW))
    await commit(store, head.owner, 3, runs={"4711": ["status", "completed"]})
    ended = await admit(
        requests, request("5", condition=Condition.RUNNING), request("6", condition=Condition.OPEN),
        request("7", condition=Condition.NEW),
    )  # fmt: skip

    assert (refused, again, running) == ([Admission.UNKNOWN], [Admission.APPENDED], [Admission.RUNNING])
    assert ended == [Admission.ENDED, Admission.ENDED, Admission.APPENDED]


async def test_the_only_run_of_a_workflow_without_keys_is_about_to_begin_once(
    store: Store, requests: RequestStore, redis_url: str
) -> None:
    place, head = ("orders", 0, ""), await store.acquire(0, term=1, placement=1, worker="worker/0")
    async with Registry(redis_url) as registry:
        before = await are_beginning(registry, [place])
        await admit(requests, request("1", key=""))
        accepted = await are_beginning(registry, [place])
        entry = await last_entry(store)
        fields = ["status", "running", "number", "1"]
        await commit(store, head.owner, 1, positions={"inbox": entry}, runs={"": fields})
        await admit(requests, request("2", key=""))
        running = await are_beginning(registry, [place])

    assert (before, accepted, running) == ([False], [True], [False])


async def test_a_workflow_that_has_ended_takes_nothing(store: Store, requests: RequestStore) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await admit(requests, request("1", key=""))
    await commit(store, head.owner, 1, counters={"ended": "1"})

    late = await admit(requests, request("2", key=""))
    repeat = await admit(requests, request("1", key=""))

    assert (late, repeat) == ([Admission.ENDED], [Admission.ALREADY])


async def test_an_id_is_of_one_request(store: Store, requests: RequestStore) -> None:
    found = await admit(
        requests, request("1", fingerprint="a"), request("1", fingerprint="a"), request("1", fingerprint="b")
    )

    assert found == [Admission.APPENDED, Admission.ALREADY, Admission.OTHER]
    assert await store.client.xlen(store.keys(0).inbox) == 1


async def test_ids_are_remembered_for_as_long_as_is_said(store: Store, requests: RequestStore) -> None:
    await requests.append_request("orders", 0, request("1"), remembered=3600)
    await requests.append_request("orders", 0, request("2"))

    keys = store.keys(0)
    left = [await store.client.pttl(f"{keys.prefix}request:{id_}") for id_ in "12"]
    assert 3_500_000 < left[0] <= 3_600_000
    assert 500_000 < left[1] <= 600_000


async def test_a_full_inbox_takes_as_many_as_fit(requests: RequestStore) -> None:
    asked = [request(str(number), key=str(number)) for number in range(5)]

    found = await requests.append_requests("orders", 0, asked, quota=3)

    assert found == [Admission.APPENDED] * 3 + [Admission.FULL] * 2


async def test_more_than_one_step_takes_are_in_order(store: Store, requests: RequestStore) -> None:
    asked = [request(str(number)) for number in range(250)]

    found = await admit(requests, *asked)

    entries = await store.client.xrange(store.keys(0).inbox)
    assert set(found) == {Admission.APPENDED}
    assert [fields[b"id"].decode() for _, fields in entries] == [each.id for each in asked]


async def test_of_many_with_one_id_at_the_same_time_one_is_in(store: Store, requests: RequestStore) -> None:
    found = await asyncio.gather(*(admit(requests, request("1", fingerprint="a")) for _ in range(200)))

    assert Counter(admission for (admission,) in found) == {Admission.APPENDED: 1, Admission.ALREADY: 199}
    assert await store.client.xlen(store.keys(0).inbox) == 1


async def test_who_sends_again_by_another_process_gets_the_same_reply(
    redis_url: str, store: Store, requests: RequestStore
) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    bridges = [Bridge(redis_url, requests), Bridge(redis_url, requests)]
    try:
        for bridge in bridges:
            await bridge.open()
        calls = [
            asyncio.create_task(
                bridge.ask("orders", 0, "4711", "requests", b"{}", request="r1", wait=20, fingerprint="a")
            )
            for bridge in (*bridges, bridges[0])
        ]
        await until_async(lambda: sum(bridge.waiting for bridge in bridges) == 3, "all of them wait")
        await until_async(lambda: store.client.xlen(store.keys(0).inbox), "the request is in the inbox")
        ((_, fields),) = await store.client.xrange(store.keys(0).inbox)
        await commit(store, head.owner, 1, replies=[Reply("r1", fields[b"reply"].decode(), '"done"')])

        found = await asyncio.wait_for(asyncio.gather(*calls), 10)
    finally:
        for bridge in bridges:
            await bridge.close()

    assert [reply for _, reply in found] == [b'"done"'] * 3
    assert Counter(admission for admission, _ in found) == {Admission.APPENDED: 1, Admission.ALREADY: 2}


async def test_who_waits_is_let_go_when_the_process_is_to_end(redis_url: str, requests: RequestStore) -> None:
    bridge = Bridge(redis_url, requests)
    await bridge.open()
    call = asyncio.create_task(bridge.ask("orders", 0, "4711", "requests", b"{}", request="r1", wait=3600))
    await until_async(lambda: bridge.waiting, "it waits")

    bridge.stop_waiting()

    assert await asyncio.wait_for(call, 10) == (Admission.APPENDED, None)
    await bridge.close()


async def standing(store: Store, owner: str, sequence: int, wait: str = "approval", generation: int = 3) -> None:
    """The run stands at a wait, for the how-manieth time."""
    fields = ["status", "running", "number", "12", "wait", f'["{wait}",{generation},5,9]']
    await commit(store, owner, sequence, runs={"4711": fields})


def claiming(id_: str, claim: str, fingerprint: str = "") -> Request:
    return Request(
        id=id_, key="4711", source="approval", body=b"{}", condition=Condition.RUNNING, claim=claim,
        fingerprint=fingerprint,
    )  # fmt: skip


async def test_B25_of_fifty_that_claim_a_wait_at_once_one_is_taken_in(store: Store, requests: RequestStore) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await standing(store, head.owner, 1)

    found = await asyncio.gather(
        *(requests.append_request("orders", 0, claiming(str(number), "12.3")) for number in range(50))
    )

    assert Counter(found) == {Admission.APPENDED: 1, Admission.TAKEN: 49}
    assert await store.client.xlen(store.keys(0).inbox) == 1


@pytest.mark.parametrize("claim", ["12.2", "12.4", "11.3"])
async def test_a_claim_is_of_the_time_that_the_run_stands_there_now(
    claim: str, store: Store, requests: RequestStore
) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await standing(store, head.owner, 1)

    assert await admit(requests, claiming("1", claim), claiming("2", "12.3")) == [Admission.TAKEN, Admission.APPENDED]


async def test_a_run_that_stands_at_no_wait_has_none_to_be_claimed(store: Store, requests: RequestStore) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await standing(store, head.owner, 1, wait="")

    assert await admit(requests, claiming("1", "12.3")) == [Admission.TAKEN]


async def test_a_claim_that_came_to_nothing_does_not_keep_others_from_the_wait(
    store: Store, requests: RequestStore
) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await standing(store, head.owner, 1)
    first = await admit(requests, claiming("1", "12.3"), claiming("2", "12.3"))
    entry = await last_entry(store)

    # It was a dead letter: its epoch is committed, and the run stands where it stood.
    await commit(store, head.owner, 2, positions={"inbox": entry}, trims={"inbox": (entry, 1)})

    assert first == [Admission.APPENDED, Admission.TAKEN]
    assert await admit(requests, claiming("3", "12.3")) == [Admission.APPENDED]


async def test_a_claim_that_is_sent_again_is_the_same_request(store: Store, requests: RequestStore) -> None:
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    await standing(store, head.owner, 1)
    sent = claiming("1", "12.3", fingerprint="a")

    assert await admit(requests, sent, sent) == [Admission.APPENDED, Admission.ALREADY]
