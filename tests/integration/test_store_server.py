"""What only a real server can do to a store: tear a commit, forget scripts, hang, fill up, be set up wrongly."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from headrace.actors.dead_letters import get_letter
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.actors.store_values import ValueReader
from headrace.embedded import Valkey
from headrace.sources.connection import ANSWER_WITHIN
from headrace.workflows.commit import STRAY, Answer, Commit, DeadLetter, Output, Reply
from headrace.workflows.store import (
    PartitionTorn,
    SourceDescriptor,
    StalePlacement,
    StoreFull,
    StoreUnavailable,
    StoreUnsuitable,
    WorkflowDescriptor,
)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "w") as store:
        yield store


async def owned(store: Store) -> str:
    return (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner


def url_of(server: Valkey) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


async def test_a_commit_that_stops_half_way_leaves_its_mark(store: Store) -> None:
    owner = await owned(store)
    await store.client.set(store.keys(0).run("s2"), "no hash")

    torn = Commit(sequence=1, positions={"readings/0": "1"}, runs={"s2": ["status", "running"]})
    assert await store.commit(0, owner, torn) is Answer.TORN

    assert await store.commit(0, owner, torn) is Answer.TORN
    assert await store.commit(0, owner, Commit(sequence=2)) is Answer.TORN
    with pytest.raises(PartitionTorn, match="WRONGTYPE") as stands:
        await owned(store)
    assert stands.value.sequence == "1"


@pytest.mark.parametrize(
    "wrong",
    [
        Commit(sequence=1, positions={"readings/0": 7}),  # type: ignore[dict-item]
        Commit(sequence=1, runs={"s1": []}),
        Commit(sequence=1, runs={"s1": ["status"]}),
        Commit(sequence=1, runs={"s1": ["status", None]}),  # type: ignore[list-item]
        Commit(sequence=1, ended={"s1": -1}),
        Commit(sequence=1, trims={"outbox": ("1-0", 1)}),
        Commit(sequence=1, trims={"inbox": ("last", 1)}),
        Commit(sequence=1, counters={"owner": 1}),
        Commit(sequence=1, replies=[Reply("r", "c", None)]),  # type: ignore[arg-type]
    ],
)
async def test_a_malformed_commit_is_refused_before_anything_is_written(store: Store, wrong: Commit) -> None:
    owner = await owned(store)
    wrong.outputs = [Output(0, "a", "s1", 0, b"1")]

    with pytest.raises(Exception, match="INVALID commit"):
        await store.commit(0, owner, wrong)

    assert await store.outbox(0, 0, 10) == []
    assert await store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED


async def test_a_run_with_more_fields_than_lua_can_unpack(store: Store) -> None:
    owner = await owned(store)
    fields = [text for number in range(20_000) for text in (f"value:{number}", str(number))]

    assert await store.commit(0, owner, Commit(sequence=1, runs={"s1": fields})) is Answer.APPLIED

    run = await store.run(0, "s1")
    assert (len(run), run["value:19999"]) == (20_000, b"19999")


async def test_thousands_of_runs_are_loaded_in_their_order(store: Store) -> None:
    owner = await owned(store)
    keys = [f"s{number}" for number in range(2500)]
    await store.commit(0, owner, Commit(sequence=1, runs={key: ["node:a", f'"{key}"'] for key in keys}))

    found = await store.load(0, keys)

    assert [run["node:a"].decode().strip('"') for run in found] == keys
    assert sorted(await store.run_keys(0)) == sorted(keys)


async def test_dead_letters_come_back_whole(store: Store) -> None:
    owner = await owned(store)
    letters = [
        DeadLetter(id="readings/0-1", key="s1", source="readings", node=None, reason="decode", error="no JSON",
                   data=b"\xff\x00", headers=(("trace", b"\x01"),)),
        DeadLetter(id="readings/0-2", key="s2", source="readings", node="classify", reason="error", error="é"),
    ]  # fmt: skip
    await store.commit(0, owner, Commit(sequence=1, dead=letters))

    found = await store.dead_letters(0)

    assert [letter for _, letter in found] == letters
    assert await store.dead_letters(0, after=found[0][0]) == found[1:]


async def test_an_ended_run_fades_and_a_live_one_never(store: Store) -> None:
    owner = await owned(store)
    runs = {"s1": ["status", "ended"], "s2": ["status", "running"]}
    await store.commit(0, owner, Commit(sequence=1, runs=runs, ended={"s1": 60_000}))

    assert 0 < await store.client.pttl(store.keys(0).run("s1")) <= 60_000
    assert await store.client.pttl(store.keys(0).run("s2")) == -1


async def test_large_numbers_stay_exact(store: Store) -> None:
    owner = await owned(store)
    nanoseconds = 1_790_000_000_123_456_789

    await store.commit(0, owner, Commit(sequence=1, counters={"runs": nanoseconds}))

    assert (await store.head(0)).counters == {"runs": nanoseconds}


async def test_a_server_that_forgot_the_scripts_is_told_again(store: Store) -> None:
    owner = await owned(store)
    await store.client.script_flush()

    assert await store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED
    await store.client.script_flush()
    assert await store.load(0, ["s1"]) == [{}]


async def test_who_waits_for_a_reply_is_woken_by_the_first_only(store: Store) -> None:
    owner = await owned(store)
    async with store.client.pubsub() as subscription:
        await subscription.subscribe("replies:w")
        await subscription.get_message(timeout=5)
        for sequence, body in enumerate(['{"n":1}', '{"n":2}'], start=1):
            reply = Reply("r1", "replies:w", body)
            await store.commit(0, owner, Commit(sequence=sequence, replies=[reply]))
        await store.commit(0, owner, Commit(sequence=3, replies=[Reply("r2", "replies:w", "0")]))

        woken = [(await subscription.get_message(timeout=5) or {}).get("data") for _ in range(2)]

    assert woken == [b'r1 {"n":1}', b"r2 0"]


async def test_commits_and_trims_work_when_memory_is_used_up(own_valkey: Valkey) -> None:
    async with Store(url_of(own_valkey), "w", channels={"lines": 2}) as store:
        owner = await owned(store)
        await store.commit(0, owner, Commit(sequence=1, outputs=[Output(0, "a", "s1", 0, b"1")]))
        await store.client.config_set("maxmemory", "1")

        with pytest.raises(StoreFull):
            await store.put_status("w", "worker/0", {})
        end = Commit(sequence=2, runs={"s1": ["status", "ended"]}, trims={"channel:lines": ("0-1", 0)})
        assert await store.commit(0, owner, end) is Answer.APPLIED
        assert await store.trim_outbox(0, owner, 1) is Answer.APPLIED
        assert (await store.acquire(0, term=1, placement=2, worker="worker/1")).sequence == 2


async def test_a_server_that_may_drop_state_is_refused(own_valkey: Valkey) -> None:
    async with Registry(url_of(own_valkey)) as registry:
        assert registry.server.startswith("valkey ")
        await registry.client.config_set("maxmemory-policy", "allkeys-lru")

        with pytest.raises(StoreUnsuitable, match="noeviction"):
            await registry.open()


async def test_a_server_that_hangs_is_noticed_and_found_again(own_valkey: Valkey) -> None:
    async with Store(url_of(own_valkey), "w") as store:
        owner = await owned(store)
        commit = Commit(sequence=1, positions={"readings/0": "1"})
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            asked = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.commit(0, owner, commit)
            assert time.monotonic() - asked < 2 * ANSWER_WITHIN
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)

        # It lay in the server's socket, and may have been applied when it woke.
        assert await store.commit(0, owner, commit) in (Answer.APPLIED, Answer.ALREADY)
        assert (await store.head(0)).sequence == 1


async def test_an_acquisition_that_a_hung_server_carries_out_late_does_not_fence_its_successor(
    own_valkey: Valkey,
) -> None:
    """Mechanism: the number of the attempt. By (term, placement) alone the late one would be as good."""
    async with Store(url_of(own_valkey), "w") as store:
        os.kill(own_valkey.pid, signal.SIGSTOP)
        late = [asyncio.create_task(owned(store)) for _ in range(2)]
        assert [type(end) for end in await asyncio.gather(*late, return_exceptions=True)] == [StoreUnavailable] * 2
        os.kill(own_valkey.pid, signal.SIGCONT)

        owner = await owned(store)
        store._attempts = itertools.count(1)
        with pytest.raises(StalePlacement):
            await owned(store)

        assert await store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED


async def test_a_server_that_restarts_is_found_again_with_all_that_was_committed(own_valkey: Valkey) -> None:
    async with Store(url_of(own_valkey), "w") as store:
        owner = await owned(store)
        await store.commit(0, owner, Commit(sequence=1, positions={"readings/0": "1"}))
        own_valkey.kill()
        with pytest.raises(StoreUnavailable) as away:
            await store.commit(0, owner, Commit(sequence=2))
        assert away.value.address.startswith("127.0.0.1:")

        own_valkey.restart()

        assert await store.commit(0, owner, Commit(sequence=2)) is Answer.APPLIED
        assert (await store.head(0)).positions == {"readings/0": "1"}


async def test_no_message_shows_the_password(own_valkey: Valkey) -> None:
    own_valkey.stop()
    registry = Registry(f"redis://user:secret@127.0.0.1:{own_valkey.port}/0")

    with pytest.raises(StoreUnavailable) as away:
        await registry.open()

    assert "secret" not in str(away.value)
    await registry.close()


async def test_descriptors_terms_and_status_documents(store: Store) -> None:
    descriptor = WorkflowDescriptor(
        name="w", partitions=4, sources=(SourceDescriptor(kind="channel", name="lines", capacity=2),)
    )
    await store.publish_workflow(descriptor)
    assert (await store.workflow("w"), await store.workflow("x"), await store.workflows()) == (descriptor, None, ["w"])

    assert [await store.next_term("w") for _ in range(2)] == [1, 2]

    await store.put_status("w", "worker/0", {"events": 1})
    await store.put_status("w*", "worker/0", {"events": 2})
    assert await store.status("w", "worker/0") == {"events": 1}
    assert await store.status("w*", "worker/0") == {"events": 2}
    assert await store.status("w", "worker/1") is None


async def test_a_removed_workflow_leaves_nothing(store: Store) -> None:
    owner = await owned(store)
    await store.publish_workflow(WorkflowDescriptor(name="w", partitions=1))
    await store.publish_workflow(WorkflowDescriptor(name="other", partitions=1))
    await store.commit(0, owner, Commit(sequence=1, runs={"s1": ["status", "running"]}))

    await store.remove_workflow("w")

    assert await store.workflows() == ["other"]
    assert [key async for key in store.client.scan_iter("hr:*w*") if b"{w" in key] == []


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("localhost:6379", "refused"),
        StoreUnsuitable("localhost:6379", "it drops state", "Set it."),
        StoreFull("channel 'a'", "2 places"),
        StalePlacement(3, (1, 1), (1, 2)),
        PartitionTorn(3, "7", "WRONGTYPE"),
    ],
)
def test_errors_cross_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), vars(copy)) == (str(error), vars(error))


async def test_concurrent_commits_of_two_owners_leave_one_history(store: Store) -> None:
    """Mechanism: the owner token. Without its check the sequences of both would mix."""
    first = await owned(store)
    second = (await store.acquire(0, term=1, placement=2, worker="worker/1")).owner

    answers = await asyncio.gather(
        *(
            store.commit(0, owner, Commit(sequence=sequence, positions={"readings/0": owner}))
            for sequence in range(1, 6)
            for owner in (first, second)
        )
    )

    assert set(answers[0::2]) == {Answer.FENCED}
    assert (await store.head(0)).positions in ({"readings/0": second}, {})


async def test_an_outbox_names_its_sinks_so_another_version_finds_them(redis_url: str) -> None:
    async with Store(redis_url, "w", sinks=["alerts", "gone", "audit"]) as before:
        owner = await owned(before)
        outputs = [Output(sink, name, "s1", 0, b"1") for sink, name in enumerate(("a", "b", "c"))]
        await before.commit(0, owner, Commit(sequence=1, outputs=outputs))

    async with Store(redis_url, "w", sinks=["audit", "alerts"]) as after:
        found = await after.outbox(0, 0, 10)

    assert [(output.id, output.sink) for _, row in found for output in row] == [("a", 1), ("b", STRAY), ("c", 0)]


async def test_a_reading_of_the_outbox_is_bounded_by_bytes(store: Store) -> None:
    """Mechanism: the limit in the script. What a predecessor left may be any number of megabytes."""
    owner = await owned(store)
    for sequence in range(1, 7):
        await store.commit(0, owner, Commit(sequence=sequence, outputs=[Output(0, "a", "s1", 0, bytes(1 << 20))]))

    first = await store.outbox(0, 0, 1000)
    assert [sequence for sequence, _ in first] == [1, 2, 3, 4]
    assert [sequence for sequence, _ in await store.outbox(0, 4, 1000)] == [5, 6]


async def test_a_dead_letter_is_found_by_the_first_part_of_its_entry_and_says_the_whole(store: Store) -> None:
    owner = await owned(store)
    letter = DeadLetter(id="readings/0/7", key="s1", source="readings", node=None, reason="decode", error="")
    await store.commit(0, owner, Commit(sequence=1, dead=[letter]))
    ((entry, _),) = await store.dead_letters(0)

    found = await get_letter(store, "w", 0, entry.partition("-")[0])

    assert found is not None
    assert found.entry == entry


async def test_E06_readers_are_told_of_runs_that_have_changed_and_find_their_values(
    store: Store,
) -> None:
    reader = ValueReader(store)
    assert await reader.value("w", 0, "s1", "k") == (None, 0, {})
    owner = await owned(store)
    async with store.client.pubsub() as subscription:
        await subscription.subscribe(store.keys(0).changes)
        await subscription.get_message(timeout=5)
        fields = ["status", "running", "number", "7", "value:k", '1 {"n":1}', "value:none", "3 null", "node:n", "{}"]

        await store.commit(0, owner, Commit(sequence=1, runs={"s1": fields}, changed=["s1", "é"]))
        await store.commit(0, owner, Commit(sequence=2, runs={"s1": ["value:k", "2 5"]}))

        told = await subscription.get_message(timeout=5)
        assert told is not None
        assert msgspec.json.decode(told["data"]) == ["s1", "é"]
        assert await subscription.get_message(timeout=0.2) is None
    one = await reader.value("w", 0, "s1", "k")
    assert (one.status, one.number, one.values["k"], one.values["k"].data) == ("running", 7, (2, b"5"), 5)
    assert await reader.value("w", 0, "s1", "other") == ("running", 7, {})
    assert (await reader.values("w", 0, "s1")).values == {"k": (2, b"5"), "none": (3, b"null")}
    assert (await reader.values("w", 0, "nobody")).status is None
