"""What the test kit's store does on purpose: it loses its tail, tears a commit, and keeps bounded channels."""

from __future__ import annotations

import pytest

from headrace.workflows.commit import Answer, Commit, Output, Reply
from headrace.workflows.errors import SourceClosed
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.store import PartitionTorn, StoreFull


def owned(store: MemoryStore) -> str:
    return store.acquire(0, term=1, placement=1, worker="worker/0").owner


def test_a_store_rolled_back_refuses_what_comes_next() -> None:
    store = MemoryStore()
    owner = owned(store)
    for sequence in (1, 2, 3):
        runs = {"s1": ["node:a", str(sequence)]}
        store.commit(0, owner, Commit(sequence=sequence, runs=runs, outputs=[Output(0, "a", "s1", 0, b"1")]))

    store.roll_back(0, 2)

    assert store.commit(0, owner, Commit(sequence=4)) is Answer.ROLLED_BACK
    head = store.acquire(0, term=1, placement=1, worker="worker/0")
    assert (head.sequence, head.outbox, store.load(0, ["s1"])) == (1, 1, [{"node:a": b"1"}])
    assert len(store.outputs(0)) == 1
    assert store.commit(0, head.owner, Commit(sequence=2)) is Answer.APPLIED


def test_more_than_is_remembered_cannot_be_taken_back() -> None:
    store = MemoryStore(history=1)
    owner = owned(store)
    store.commit(0, owner, Commit(sequence=1))
    store.commit(0, owner, Commit(sequence=2))

    with pytest.raises(ValueError, match="1 are remembered"):
        store.roll_back(0, 2)


def test_a_torn_partition_stands_still() -> None:
    store = MemoryStore()
    owner = owned(store)
    store.tear(0)

    assert store.commit(0, owner, Commit(sequence=1)) is Answer.TORN
    assert store.commit(0, owner, Commit(sequence=1)) is Answer.TORN
    with pytest.raises(PartitionTorn):
        owned(store)


def test_a_channel_has_room_again_when_its_events_are_done() -> None:
    store = MemoryStore(channels={"lines": 2})
    owner = owned(store)
    first = store.append(0, "channel:lines", b"1")
    store.append(0, "channel:lines", b"2")
    with pytest.raises(StoreFull):
        store.append(0, "channel:lines", b"3")

    store.commit(0, owner, Commit(sequence=1, trims={"channel:lines": (first, 1)}))

    assert store.room(0, "lines") == 1
    assert [entry.data for entry in store.stream(0, "channel:lines")] == [b"2"]


def test_the_end_of_the_workflow_closes_its_channels_and_the_inbox() -> None:
    store = MemoryStore(channels={"lines": 2})
    owner = owned(store)

    store.commit(0, owner, Commit(sequence=1, counters={"ended": 1}))

    with pytest.raises(SourceClosed):
        store.append(0, "channel:lines", b"1")
    with pytest.raises(SourceClosed):
        store.append(0, "inbox", b"1", key="s1", event="r1", reply="g")


def test_the_first_reply_is_handed_out_once() -> None:
    woken: list[Reply] = []
    store = MemoryStore(on_reply=woken.append)
    owner = owned(store)

    for sequence in (1, 2):
        store.commit(0, owner, Commit(sequence=sequence, replies=[Reply("r1", "g", str(sequence))]))

    assert [reply.body for reply in woken] == ["1"]
