"""What a worker may rely on, of the store in a server and of the one in memory alike."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.workflows.commit import Answer, Commit, DeadLetter, Output, Reply
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.retention import KEPT, Retention
from headrace.workflows.store import (
    DestinationEnded,
    Sender,
    SenderLost,
    StalePlacement,
    StoreContract,
    StoreFull,
    TransfersMissing,
)
from stores import StoreCluster, TlsFront, make_certificates

CHANNELS = {"lines": 2}


class Driver:
    """Calls a store's methods and waits where there is something to wait for."""

    def __init__(self, store: Store | MemoryStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self.name: str = store.workflow if isinstance(store, MemoryStore) else store.workflow_name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            answer = method(*arguments, **named)
            return self._loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer

        return call


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def server(redis_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[Driver]:
    yield from _opened(redis_url, loop)


def _opened(url: str, loop: asyncio.AbstractEventLoop, retention: Retention = KEPT) -> Iterator[Driver]:
    name = f"contract-{secrets.token_hex(4)}"
    store = Driver(Store(url, name, channels=CHANNELS, retention=retention), loop)
    store.open()
    yield store
    store.close()


@pytest.fixture
def memory(loop: asyncio.AbstractEventLoop) -> Driver:
    return Driver(MemoryStore(channels=CHANNELS), loop)


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with StoreCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture
def cluster(cluster_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[Driver]:
    yield from _opened(cluster_url, loop)


@pytest.fixture(scope="module")
def tls_url(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with TlsFront(make_certificates(tmp_path_factory.mktemp("certificates")), valkey.port) as front:
        yield front.url


@pytest.fixture
def tls(tls_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[Driver]:
    yield from _opened(tls_url, loop)


@pytest.fixture(params=["memory", "server", "tls", "cluster"])
def store(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.getfixturevalue(request.param)
    return driver


def test_the_store_keeps_the_contract_that_workers_are_written_for(redis_url: str) -> None:
    contract: StoreContract = Store(redis_url, "contract")

    assert contract is not None


def acquired(store: Driver, partition: int = 0, *, term: int = 1, placement: int = 1) -> str:
    owner: str = store.acquire(partition, term=term, placement=placement, worker="worker/0").owner
    return owner


def output(name: str) -> Output:
    return Output(sink=0, id=name, key="s1", time=1_700_000_000_000, data=b'{"a":"\xc3\xa9"}')


def test_a_partition_never_used_is_empty(store: Driver) -> None:
    head = store.acquire(3, term=1, placement=1, worker="worker/0")

    assert (head.sequence, head.outbox, head.positions, head.counters) == (0, 0, {}, {})
    assert store.load(3, ["s1"]) == [{}]


def test_a_commit_is_found_by_the_next_owner(store: Driver) -> None:
    owner = acquired(store)
    commit = Commit(
        sequence=1,
        positions={"readings/0": "17"},
        runs={"s1": ["status", "running", "node:classify", '{"count":1}'], "§2": ["status", "running"]},
        counters={"runs": 2},
    )

    assert store.commit(0, owner, commit) is Answer.APPLIED

    head = store.acquire(0, term=1, placement=2, worker="worker/1")
    assert (head.sequence, head.positions, head.counters) == (1, {"readings/0": "17"}, {"runs": 2})
    assert store.load(0, ["§2", "unknown", "s1"]) == [
        {"status": b"running"},
        {},
        {"status": b"running", "node:classify": b'{"count":1}'},
    ]


def test_a_commit_asked_again_is_not_applied_again(store: Driver) -> None:
    owner = acquired(store)
    commit = Commit(sequence=1, outputs=[output("a")])
    store.commit(0, owner, commit)

    assert store.commit(0, owner, commit) is Answer.ALREADY
    assert store.outbox(0, 0, 100) == [(1, [output("a")])]


def test_who_lost_the_partition_is_fenced(store: Driver) -> None:
    before = acquired(store)
    acquired(store, placement=2)

    assert store.commit(0, before, Commit(sequence=1, positions={"readings/0": "1"})) is Answer.FENCED
    assert store.trim_outbox(0, before, 1) is Answer.FENCED
    assert store.head(0).positions == {}


def test_a_store_that_lost_its_tail_says_so(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1))

    assert store.commit(0, owner, Commit(sequence=3)) is Answer.ROLLED_BACK
    assert store.head(0).sequence == 1


@pytest.mark.parametrize("older", [{"term": 2, "placement": 4}, {"term": 1, "placement": 9}])
def test_an_older_placement_does_not_get_the_partition(store: Driver, older: dict[str, int]) -> None:
    owner = acquired(store, term=2, placement=5)

    with pytest.raises(StalePlacement) as refused:
        store.acquire(0, **older, worker="worker/1")

    assert (refused.value.asked, refused.value.stored) == ((older["term"], older["placement"]), (2, 5))
    assert store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED


def test_the_same_placement_may_acquire_again(store: Driver) -> None:
    first = acquired(store)
    second = acquired(store)

    assert first != second
    assert store.commit(0, first, Commit(sequence=1)) is Answer.FENCED
    assert store.commit(0, second, Commit(sequence=1)) is Answer.APPLIED


def test_a_new_run_of_a_used_key_starts_from_nothing(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1, runs={"s1": ["status", "ended", "node:a", "1"]}, ended={"s1": 60_000}))

    store.commit(0, owner, Commit(sequence=2, fresh=["s1"], runs={"s1": ["status", "running"]}))

    assert store.load(0, ["s1"]) == [{"status": b"running"}]


def test_outputs_are_numbered_over_commits(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1, outputs=[output("a"), output("b")]))
    store.commit(0, owner, Commit(sequence=2))
    store.commit(0, owner, Commit(sequence=3, outputs=[output("c")]))

    assert store.outbox(0, 0, 100) == [(1, [output("a"), output("b")]), (3, [output("c")])]
    assert store.outbox(0, 0, 1) == [(1, [output("a"), output("b")])]
    assert store.outbox(0, 1, 100) == [(2, [output("b")]), (3, [output("c")])]
    assert store.outbox(0, 3, 100) == []
    assert store.acquire(0, term=1, placement=1, worker="w").outbox == 3


def test_delivered_outputs_go_once_their_commit_is_delivered(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1, outputs=[output("a"), output("b")]))
    store.commit(0, owner, Commit(sequence=2, outputs=[output("c")]))

    assert store.trim_outbox(0, owner, 1) is Answer.APPLIED
    assert store.outbox(0, 0, 100)[0] == (1, [output("a"), output("b")])
    assert store.trim_outbox(0, owner, 2) is Answer.APPLIED
    assert store.trim_outbox(0, owner, 2) is Answer.APPLIED
    assert store.outbox(0, 0, 100) == [(3, [output("c")])]
    store.trim_outbox(0, owner, 3)
    store.commit(0, owner, Commit(sequence=3, outputs=[output("d")]))
    assert store.outbox(0, 0, 100) == [(4, [output("d")])]


def test_the_first_answer_to_a_request_stays(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1, replies=[Reply("r1", "replies:gateway", '{"n":1}')]))
    store.commit(0, owner, Commit(sequence=2, replies=[Reply("r1", "replies:gateway", '{"n":2}')]))

    assert store.reply(0, "r1") in ('{"n":1}', b'{"n":1}')
    assert store.reply(0, "r2") is None


WAY = "5f3a/orders/7"
ON_ONE_SERVER = pytest.mark.parametrize("store", ["memory", "server"], indirect=True)
"""In a cluster the sender's head is on another server: only durability helps there."""


@pytest.fixture
def sender(store: Driver) -> Sender:
    """Partition 7, in the hands of an owner that has committed two outputs."""
    owner = acquired(store, 7)
    store.commit(7, owner, Commit(sequence=1, outputs=[output("a"), output("b")]))
    return Sender(WAY, store.name, 7, owner, 2)


def handed(
    store: Driver,
    sender: Sender,
    first: int,
    *blobs: bytes,
    partition: int = 0,
    known: bool = True,
    most: int = 100,
) -> None:
    store.append_internal(partition, sender, first, list(blobs), known=known, most=most)


def lying(store: Driver, partition: int = 0) -> list[bytes]:
    return [blob for _, blob in store.internal(partition)]


def test_what_comes_from_another_partition_lies_in_order(store: Driver, sender: Sender) -> None:
    handed(store, sender, 1, b"one", b"\xff\x00")
    handed(store, sender, 3, b"three")

    assert lying(store) == [b"one", b"\xff\x00", b"three"]
    assert lying(store, 1) == []


def test_what_comes_again_is_skipped_and_what_is_new_is_taken(store: Driver, sender: Sender) -> None:
    handed(store, sender, 1, b"one", b"two")

    handed(store, sender, 1, b"one", b"two")
    handed(store, sender, 2, b"two", b"three")
    handed(store, sender, 1, b"one")

    assert lying(store) == [b"one", b"two", b"three"]


def test_what_comes_again_is_skipped_also_once_it_is_processed_and_in_a_full_stream(
    store: Driver, sender: Sender
) -> None:
    owner = acquired(store)
    handed(store, sender, 1, b"one", b"two")
    (_, (last, _)) = store.internal(0)
    store.commit(0, owner, Commit(sequence=1, positions={"internal": last}, trims={"internal": (last, 2)}))

    handed(store, sender, 1, b"one", b"two", most=0)

    assert lying(store) == []
    assert store.head(0).positions == {"internal": last}


def test_what_the_store_has_lost_cannot_be_done(store: Driver, sender: Sender) -> None:
    owner = acquired(store)
    handed(store, sender, 1, b"one")
    ((last, _),) = store.internal(0)
    lost = f"{int(last.partition('-')[0]) + 1}-0"
    done = Commit(sequence=1, positions={"internal": lost}, trims={"internal": (lost, 2)})

    assert store.commit(0, owner, done) is Answer.ROLLED_BACK

    assert lying(store) == [b"one"]
    assert store.head(0).positions == {}


def test_a_number_that_is_too_high_is_refused(store: Driver, sender: Sender) -> None:
    handed(store, sender, 1, b"one")

    with pytest.raises(TransfersMissing) as missing:
        handed(store, sender, 3, b"three")
    with pytest.raises(TransfersMissing):
        handed(store, sender, 2, b"two", partition=1)

    assert (missing.value.origin, missing.value.last, missing.value.first) == (WAY, 1, 3)
    assert lying(store) == [b"one"]


def test_a_sender_of_another_workflow_may_begin_anywhere_but_once(store: Driver, sender: Sender) -> None:
    handed(store, sender, 41, b"a", known=False)

    handed(store, sender, 41, b"a", b"b", known=False)
    with pytest.raises(TransfersMissing):
        handed(store, sender, 44, b"d", known=False)

    assert lying(store) == [b"a", b"b"]


def test_a_partition_with_too_much_takes_no_more(store: Driver, sender: Sender) -> None:
    handed(store, sender, 1, b"one", b"two", most=2)

    with pytest.raises(StoreFull, match="2 events of other partitions"):
        handed(store, sender, 3, b"three", most=2)
    handed(store, sender, 3, b"three", most=3)

    assert lying(store) == [b"one", b"two", b"three"]


@ON_ONE_SERVER
def test_who_lost_its_partition_hands_nothing_over(store: Driver, sender: Sender) -> None:
    acquired(store, 7, placement=2)

    with pytest.raises(SenderLost):
        handed(store, sender, 1, b"one")

    assert lying(store) == []


@ON_ONE_SERVER
def test_what_the_store_has_lost_at_the_sender_does_not_arrive(store: Driver, sender: Sender) -> None:
    later = replace(sender, outbox=3)

    with pytest.raises(SenderLost):
        handed(store, later, 3, b"three", known=False)

    assert lying(store) == []


def test_an_ended_workflow_takes_no_more(store: Driver, sender: Sender) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(sequence=1, counters={"ended": 1}))

    with pytest.raises(DestinationEnded):
        handed(store, sender, 1, b"one")


def test_partitions_do_not_touch_each_other(store: Driver) -> None:
    owner = acquired(store, 0)
    acquired(store, 1)
    store.commit(0, owner, Commit(sequence=1, runs={"s1": ["status", "running"]}, positions={"readings/0": "1"}))

    assert store.head(1).sequence == 0
    assert store.load(1, ["s1"]) == [{}]


PARTITIONS = itertools.count(10)
TEXT = st.text(min_size=1, max_size=8)
FIELDS = st.lists(st.tuples(st.sampled_from(["status", "number", "node:a"]), TEXT), min_size=1, max_size=3)
COMMITS = st.tuples(
    st.dictionaries(st.sampled_from(["s1", "s2", "é"]), FIELDS, max_size=3),
    st.dictionaries(st.sampled_from(["readings/0", "inbox"]), TEXT, max_size=2),
    st.lists(st.sampled_from("abc"), max_size=3),
    st.lists(st.sampled_from(["s1", "s2"]), max_size=2, unique=True),
    st.sampled_from([1, 1, 1, 0, 2]),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=st.lists(COMMITS, max_size=8))
def test_any_series_of_commits_leaves_the_same_in_both(memory: Driver, server: Driver, commits: list[Any]) -> None:
    partition = next(PARTITIONS)
    owners = [acquired(store, partition) for store in (memory, server)]
    sequence = 0
    for runs, positions, outputs, fresh, step in commits:
        commit = Commit(
            sequence=sequence + step,
            runs={key: [part for pair in fields for part in pair] for key, fields in runs.items()},
            positions=positions,
            outputs=[output(name) for name in outputs],
            fresh=fresh,
        )
        answers = [
            store.commit(partition, owner, commit) for store, owner in zip((memory, server), owners, strict=True)
        ]
        assert answers[0] is answers[1]
        sequence += step if answers[0] is Answer.APPLIED else 0

    keys = ["s1", "s2", "é"]
    assert memory.load(partition, keys) == server.load(partition, keys)
    assert memory.outbox(partition, 0, 1000) == server.outbox(partition, 0, 1000)
    ours, theirs = memory.head(partition), server.head(partition)
    assert (ours.sequence, ours.positions, ours.outbox) == (theirs.sequence, theirs.positions, theirs.outbox)


def buried(store: Driver, *ids: str, partition: int = 0) -> list[str]:
    """Commit dead letters; returns the entries of all."""
    letters = [DeadLetter(id=id_, key="s1", source="readings", node="mean", reason="error", error="") for id_ in ids]
    store.commit(partition, acquired(store, partition), Commit(sequence=1, dead=letters))
    return [entry for entry, _ in dead(store, partition)]


def dead(store: Driver, partition: int = 0) -> list[tuple[str, DeadLetter]]:
    memory = isinstance(store._store, MemoryStore)
    found: list[tuple[str, DeadLetter]] = (store.dead_entries if memory else store.dead_letters)(partition)
    return found


def test_dead_letters_that_go_back_lie_where_others_come_in_in_the_order_asked_for(store: Driver) -> None:
    first, second, third = buried(store, "a", "b", "c")

    assert store.replay(0, [(first, b"one"), (third, b"\xff\x00")], most=100) == 2

    assert lying(store) == [b"one", b"\xff\x00"]
    assert [(entry, letter.id) for entry, letter in dead(store)] == [(second, "b")]


def test_a_dead_letter_goes_back_once_however_often_it_is_asked_for(store: Driver) -> None:
    first, second = buried(store, "a", "b")

    assert store.replay(0, [(first, b"one")], most=100) == 1
    assert store.replay(0, [(first, b"one"), (second, b"two"), (second, b"two"), ("77-0", b"?")], most=100) == 1

    assert lying(store) == [b"one", b"two"]
    assert dead(store) == []


def test_dead_letters_wait_while_there_is_no_room(store: Driver, sender: Sender) -> None:
    handed(store, sender, 1, b"one")
    (entry,) = buried(store, "a")

    with pytest.raises(StoreFull):
        store.replay(0, [(entry, b"two")], most=1)

    assert len(dead(store)) == 1
    assert lying(store) == [b"one"]


def test_nothing_goes_back_into_a_workflow_that_has_ended(store: Driver) -> None:
    (entry,) = buried(store, "a")
    store.commit(0, acquired(store, placement=2), Commit(sequence=2, counters={"ended": 1}))

    with pytest.raises(DestinationEnded):
        store.replay(0, [(entry, b"one")], most=100)

    assert len(dead(store)) == 1


def falls(store: Driver, *, placement: int, worker: int = 0) -> tuple[str, int]:
    head = store.acquire(0, term=1, placement=placement, worker=f"worker-{worker or placement}")
    return head.owner, int(head.extra["falls"])


def test_owners_that_were_ended_one_after_the_other_are_counted(store: Driver) -> None:
    assert [falls(store, placement=placement)[1] for placement in (1, 2, 3)] == [0, 1, 2]


def test_who_rolls_back_did_not_fall(store: Driver) -> None:
    falls(store, placement=1)
    falls(store, placement=2)

    assert [falls(store, placement=placement, worker=2)[1] for placement in (2, 2, 3)] == [1, 1, 1]


def test_who_gives_a_partition_up_in_order_did_not_fall(store: Driver) -> None:
    falls(store, placement=1)
    owner, count = falls(store, placement=2)
    assert count == 1

    assert store.calm(0, owner, released=True) is Answer.APPLIED

    assert [falls(store, placement=placement)[1] for placement in (3, 4)] == [0, 1]


def test_who_had_a_partition_for_a_while_was_not_ended_by_what_ended_those_before(store: Driver) -> None:
    falls(store, placement=1)
    falls(store, placement=2)
    owner, count = falls(store, placement=3)
    assert count == 2

    assert store.calm(0, owner, released=False) is Answer.APPLIED

    assert falls(store, placement=4)[1] == 1
    assert store.calm(0, owner, released=True) is Answer.FENCED
    assert falls(store, placement=5)[1] == 2


KEEP = Retention(age=None, count=4, bytes=4 << 20)


@pytest.fixture
def small_server(redis_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[Driver]:
    yield from _opened(redis_url, loop, KEEP)


@pytest.fixture
def small_memory(loop: asyncio.AbstractEventLoop) -> Driver:
    return Driver(MemoryStore(retention=KEEP), loop)


@pytest.fixture(params=["small_memory", "small_server"])
def small(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.getfixturevalue(request.param)
    return driver


def sized(name: str, size: int) -> DeadLetter:
    return DeadLetter(id=name, key="", source="readings", node=None, reason="decode", error="", data=bytes(size))


def test_the_oldest_dead_letters_go_when_there_are_too_many(small: Driver) -> None:
    buried(small, "a", "b", "c", "d", "e", "f")

    kept = small.trim_letters(0, acquired(small))

    assert [letter.id for _, letter in dead(small)] == ["c", "d", "e", "f"]
    assert (kept.count, kept.dropped, kept.is_done) == (4, {"age": 0, "count": 2, "bytes": 0}, True)


def test_the_oldest_dead_letters_go_when_they_are_too_large(small: Driver) -> None:
    letters = [sized("a", 3 << 20), sized("b", 1 << 20), sized("c", 1 << 19)]
    owner = acquired(small)
    small.commit(0, owner, Commit(sequence=1, dead=letters))

    kept = small.trim_letters(0, owner)

    assert [letter.id for _, letter in dead(small)] == ["b", "c"]
    assert kept.dropped == {"age": 0, "count": 0, "bytes": 1}
    assert kept.bytes == sum(len(msgspec.msgpack.encode(letter)) for letter in letters[1:])


def test_what_went_back_makes_room_for_others(small: Driver) -> None:
    owner = acquired(small)
    small.commit(0, owner, Commit(sequence=1, dead=[sized("a", 3 << 20), sized("b", 1 << 19)]))
    ((first, _), _) = dead(small)

    small.replay(0, [(first, b"one")], most=100)
    small.commit(0, owner, Commit(sequence=2, dead=[sized("c", 3 << 20)]))

    assert [letter.id for _, letter in dead(small)] == ["b", "c"]


def test_who_lost_the_partition_drops_no_dead_letters(small: Driver) -> None:
    before = acquired(small)
    acquired(small, placement=2)

    assert small.trim_letters(0, before) is None


def test_the_limits_are_those_of_the_owner(redis_url: str, loop: asyncio.AbstractEventLoop) -> None:
    name = f"contract-{secrets.token_hex(4)}"
    wide, narrow = (Driver(Store(redis_url, name, retention=limits), loop) for limits in (Retention(count=None), KEEP))
    buried(wide, *"abcdefgh")
    assert len(dead(wide)) == 8

    kept = narrow.trim_letters(0, acquired(narrow, placement=2))

    assert (kept.count, kept.dropped["count"]) == (4, 4)
    for store in (wide, narrow):
        store.close()


def test_dead_letters_that_are_too_old_go_without_a_commit(redis_url: str, loop: asyncio.AbstractEventLoop) -> None:
    store = Store(redis_url, f"contract-{secrets.token_hex(4)}", retention=Retention(age=timedelta(days=30)))
    driver = Driver(store, loop)
    buried(driver, "new")
    blob = msgspec.msgpack.encode(sized("old", 5))
    key, month = store.keys(0).dead, timedelta(days=30) // timedelta(milliseconds=1)
    now = driver.time()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
        for came, name in ((now - month - 60_000, "old"), (now - month + 60_000, "young")):
            client.xadd(key, {"id": name, "blob": msgspec.msgpack.encode(sized(name, len(blob)))}, id=f"{came}-0")

    kept = driver.trim_letters(0, acquired(driver, placement=2))

    assert [letter.id for _, letter in dead(driver)] == ["young"]
    assert kept.dropped == {"age": 1, "count": 0, "bytes": 0}
    driver.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.lists(st.integers(1, 2 << 20), max_size=7), st.integers(0, 6)), max_size=8))
def test_any_series_of_dead_letters_leaves_the_same_in_both(
    small_memory: Driver, small_server: Driver, steps: list[Any]
) -> None:
    """A list: sizes of letters that are committed; a number: that one goes back."""
    partition = next(PARTITIONS)
    left = []
    for store in (small_memory, small_server):
        owner, sequence = acquired(store, partition), 0
        for step in steps:
            if isinstance(step, int):
                entries = [entry for entry, _ in dead(store, partition)]
                store.replay(partition, [(entry, b"") for entry in entries[step : step + 1]], most=1000)
            else:
                sequence += 1
                names = [sized(f"{sequence}.{number}", size) for number, size in enumerate(step)]
                store.commit(partition, owner, Commit(sequence=sequence, dead=names))
        left.append(([letter.id for _, letter in dead(store, partition)], store.trim_letters(partition, owner)))

    assert left[0] == left[1]


FIELDS = ['[1,1,"count","s1"]', '[2,2,"count","s1"]', '[3,3,"","s2"]']


def test_events_that_stand_still_are_found_by_the_next_owner(store: Driver) -> None:
    owner = acquired(store)
    commit = Commit(
        1, parked={FIELDS[0]: b"\x81a", FIELDS[1]: b"b", FIELDS[2]: b""}, due={FIELDS[0]: 1_700_000_000_001}
    )
    assert store.commit(0, owner, commit) is Answer.APPLIED

    head = store.acquire(0, term=1, placement=1, worker="worker/1")

    assert sorted(head.parked) == FIELDS
    assert head.due == {FIELDS[0]: 1_700_000_000_001}
    assert store.parked(0, [FIELDS[1], "[9,9]", FIELDS[0], FIELDS[2]]) == [b"b", None, b"\x81a", b""]
    assert store.parked_fields(0) == {FIELDS[0]: 1_700_000_000_001, FIELDS[1]: None, FIELDS[2]: None}


def test_what_goes_on_stands_still_no_more_and_the_next_is_due(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(1, parked={FIELDS[0]: b"a", FIELDS[1]: b"b"}, due={FIELDS[0]: 5}))
    store.commit(0, owner, Commit(2, unparked=[FIELDS[0]], parked={FIELDS[2]: b"c"}, due={FIELDS[1]: 6}))
    assert store.parked_fields(0) == {FIELDS[1]: 6, FIELDS[2]: None}

    store.commit(0, owner, Commit(3, parked={FIELDS[1]: b"b2"}, not_due=[FIELDS[1]], due={FIELDS[2]: 7}))

    assert store.parked_fields(0) == {FIELDS[1]: None, FIELDS[2]: 7}
    assert store.parked(0, [FIELDS[1]]) == [b"b2"]


def test_what_falls_due_is_asked_for_by_time(store: Driver) -> None:
    owner = acquired(store)
    assert store.timers(0, 1 << 50, 10) == ([], None)
    store.commit(0, owner, Commit(1, timers={"[1]": 1_700_000_000_003, "[2]": 1_700_000_000_001, "[3]": 5 * 10**12}))

    assert store.timers(0, 1_700_000_000_000, 10) == ([], 1_700_000_000_001)
    assert store.timers(0, 1_700_000_000_002, 10) == ([("[2]", 1_700_000_000_001)], 1_700_000_000_003)
    assert store.timers(0, 1_700_000_000_003, 1) == ([("[2]", 1_700_000_000_001)], 1_700_000_000_003)
    assert store.timers(0, 6 * 10**12, 3)[1] is None
    assert store.timers(1, 6 * 10**12, 3) == ([], None)
    assert store.acquire(0, term=1, placement=1, worker="w").first_timer == 1_700_000_000_001


def test_what_has_fallen_due_is_taken_out_before_it_is_set_again(store: Driver) -> None:
    owner = acquired(store)
    store.commit(0, owner, Commit(1, timers={"[1]": 3, "[2]": 4, "[3]": 5}))
    store.commit(0, owner, Commit(2, timers={"[1]": 7}, no_timers=["[1]", "[2]", "[9]"]))

    assert store.timers(0, 100, 10) == ([("[3]", 5), ("[1]", 7)], None)
    assert store.acquire(1, term=1, placement=1, worker="w").first_timer is None
