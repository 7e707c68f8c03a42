"""Stores by TLS, with users of few rights, behind Sentinels, in clusters: all works, and goes on after fail-overs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from exercise import exercise
from headrace.actors.leases import LeaseKeeper
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.actors.store_requests import Admission, Request, RequestStore
from headrace.embedded import Valkey
from headrace.sources.requests import RequestSource
from headrace.sources.store_address import address_of
from headrace.sources.stream_group import UNREACHABLE
from headrace.sources.streams import StreamReader
from headrace.workflows.commit import Answer, Commit
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.plan import SourcePlan
from headrace.workflows.store import StoreDenied, StoreUnavailable, StoreUnsuitable
from stores import Certificates, StoreCluster, TlsFront, Watched, acl_user, make_certificates, rights
from waiting import until, until_async

FSYNC = Durability("fsync")
PASSWORD = "s3cret-and-long"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def front(certificates: Certificates, own_valkey: Valkey) -> Iterator[TlsFront]:
    with TlsFront(certificates, own_valkey.port) as front:
        yield front


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    with StoreCluster(tmp_path_factory.mktemp("cluster"), replica=True) as cluster:
        yield cluster


# TLS


async def test_by_tls_with_certificates_of_both_sides(front: TlsFront) -> None:
    await exercise(front.url, FSYNC)


async def test_a_server_that_nobody_we_trust_has_signed_is_not_spoken_to(front: TlsFront, tmp_path: Path) -> None:
    others = make_certificates(tmp_path)
    url = re.sub(r"ca=[^&]+", f"ca={others.ca}", front.url)

    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        await Registry(url).open()


async def test_a_server_that_asks_for_our_certificate_gets_one_or_nothing(front: TlsFront) -> None:
    with pytest.raises(StoreUnavailable):
        await Registry(front.url.partition("&cert")[0]).open()


# Users


async def test_a_user_with_the_rights_of_the_how_to_can_do_all(own_valkey: Valkey) -> None:
    with acl_user(own_valkey.url, "headrace", PASSWORD, rights("one server, or behind Sentinels")) as url:
        await exercise(url, FSYNC)


async def test_in_a_cluster_too(cluster: StoreCluster) -> None:
    users = [f"redis://127.0.0.1:{node.port}/0" for node in cluster.nodes]
    with contextlib.ExitStack() as stack:
        for url in users:
            stack.enter_context(acl_user(url, "headrace", PASSWORD, rights("a cluster, at each node")))
        await exercise(cluster.url.replace("://", f"://headrace:{PASSWORD}@"), FSYNC)


async def test_a_wrong_password_is_refused_at_the_start_and_waited_for_later(
    own_valkey: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets are renewed while all runs: the file is read at each connection."""
    secret = tmp_path / "password"
    secret.write_text("wrong-" + PASSWORD)
    with acl_user(own_valkey.url, "headrace", PASSWORD, "~* &* +@all") as url:
        by_file = url.replace(f":{PASSWORD}@", "@") + f"?password=file:{secret}"
        with pytest.raises(StoreUnsuitable) as refused:
            await Registry(by_file).open()
        store = Store(by_file, "w")
        with pytest.raises(StoreDenied) as denied:
            await store.acquire(0, term=1, placement=1, worker="worker/0")
        keeper = LeaseKeeper(by_file, "w/worker/0", "one").start()
        secret.write_text(PASSWORD + "\n")

        assert (await store.acquire(0, term=1, placement=1, worker="worker/0")).sequence == 0
        await store.close()
        await asyncio.to_thread(keeper.stop)
    said = f"{refused.value} {denied.value} {capsys.readouterr()}"
    assert PASSWORD not in said


async def test_passwords_are_in_no_message(own_valkey: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"127.0.0.1:{own_valkey.port}"
    own_valkey.stop()
    urls = [
        f"redis://headrace:{PASSWORD}@{place}/0",
        f"redis://{place}/0?password={PASSWORD}",
        f"redis+cluster://:{PASSWORD}@{place}",
        f"redis+sentinel://headrace:{PASSWORD}@{place}/orders?sentinel_password={PASSWORD}",
        f"rediss://headrace:{PASSWORD}@{place}/0?cert=/nowhere.pem&key=/nowhere.key",
    ]
    said = []
    for url in urls:
        registry = Registry(url)
        with pytest.raises(StoreUnavailable) as away:
            await registry.open()
        keeper = LeaseKeeper(url, "w/worker/0", "one").start()
        await asyncio.to_thread(keeper.stop)
        said += [str(away.value), repr(away.value), address_of(url), repr(registry.client)]
        await registry.close()

    assert PASSWORD not in f"{said} {capsys.readouterr()}"


# Sentinel


async def test_behind_a_sentinel_all_works_and_goes_on_after_a_fail_over(tmp_path: Path) -> None:
    with Watched(tmp_path) as watched:
        await exercise(watched.url, Durability("replicas"))
        async with Store(watched.url, "w") as store:
            owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
            keeper = LeaseKeeper(watched.url, "w/worker/0", "one").start()
            with contextlib.closing(redis.Redis(port=watched.primary.port)) as client:
                client.execute_command("WAIT", 1, 2000)
            watched.primary.kill()

            await _commit_again(store, 0, owner, 1)

            assert (await store.head(0)).sequence == 1
            await until_async(lambda: keeper.held, "the lease is held again")
            await asyncio.to_thread(keeper.stop)


async def _commit_again(store: Store, partition: int, owner: str, sequence: int) -> None:
    """As a worker does: ask until there is an answer."""

    async def commit() -> Answer | None:
        try:
            return await store.commit(partition, owner, Commit(sequence=sequence))
        except StoreUnavailable:
            return None

    assert await until_async(commit, "the commit is answered") in (Answer.APPLIED, Answer.ALREADY)


# Cluster


async def test_in_a_cluster_all_works(cluster: StoreCluster) -> None:
    await exercise(cluster.url, FSYNC)


def _slot_of(cluster: StoreCluster, partition: int) -> tuple[int, Any]:
    """A partition's slot, and a client of the node that has it."""
    clients = [redis.Redis(port=node.port) for node in cluster.nodes[:3]]
    slot = int(clients[0].execute_command("CLUSTER", "KEYSLOT", PartitionKeys("moving", partition).head))
    owner = next(index for index, bound in enumerate((5461, 10923, 16384)) if slot < bound)
    return slot, clients[owner]


async def test_a_slot_on_its_way_to_another_node_is_waited_for_and_followed(cluster: StoreCluster) -> None:
    """Mechanism: the look before the first write. Without it the commit would stop half-way."""
    slot, source = _slot_of(cluster, 0)
    async with Store(cluster.url, "moving", channels={"lines": 2}) as store:
        owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
        await store.commit(0, owner, Commit(sequence=1, runs={"s1": ["status", "running"]}))
        own_port = source.connection_pool.connection_kwargs["port"]
        target = next(redis.Redis(port=node.port) for node in cluster.nodes[:3] if node.port != own_port)
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (source, target)]
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        fresh = Commit(sequence=2, runs={"s2": ["status", "running"]})

        with pytest.raises(StoreUnavailable, match="moved"):
            await store.commit(0, owner, fresh)
        keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        moved = [key for key in keys if key.endswith(b":head")]
        source.execute_command("MIGRATE", "127.0.0.1", _port(target), "", 0, 5000, "KEYS", *moved)
        with pytest.raises(StoreUnavailable):
            await store.commit(0, owner, fresh)
        rest = [key for key in keys if key not in moved]
        source.execute_command("MIGRATE", "127.0.0.1", _port(target), "", 0, 5000, "KEYS", *rest)
        for client in (target, source):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

        assert await store.commit(0, owner, fresh) is Answer.APPLIED
        assert await store.load(0, ["s1", "s2"]) == [{"status": b"running"}] * 2


def _port(client: Any) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


async def test_requests_are_read_on_after_a_node_has_died(tmp_path: Path) -> None:
    """Mechanism: after a lost connection the reader looks who has the slot now; and it asks no node but its own."""
    with StoreCluster(tmp_path, replica=True) as cluster:
        homes = {number: _port(_slot_of(cluster, number)[1]) for number in range(12)}
        hit = next(number for number, port in homes.items() if port == cluster.nodes[0].port)
        spared = next(number for number, port in homes.items() if port != cluster.nodes[0].port)
        ready: asyncio.Queue[int] = asyncio.Queue()
        problems: dict[str, str] = {}
        plan = SourcePlan(index=0, name="requests", source=RequestSource(dict), type=0, key=None, targets=(0,))
        reader = StreamReader(
            cluster.url, "moving", [plan], on_ready=ready.put_nowait,
            on_problem=lambda word, sentence: problems.update({word: sentence}),
        )  # fmt: skip
        await reader.open()
        known = Registry(cluster.url)
        assert await _leases(known) == {None}
        for number in (hit, spared):
            await reader.assign(number, {})
        async with RequestStore(cluster.url) as requests:
            cluster.nodes[0].kill()
            await until_async(lambda: problems.get(UNREACHABLE), "it is named")

            await _append_again(requests, spared)
            assert await asyncio.wait_for(ready.get(), 20) == spared
            await _append_again(requests, hit)
            assert await asyncio.wait_for(ready.get(), 20) == hit
        await until_async(lambda: not problems[UNREACHABLE], "nothing is wrong any more")
        assert await until_async(lambda: _leases(known), "leases at all nodes are read again") == {None}
        await known.close()
        await reader.close()


async def _leases(registry: Registry) -> set[str | None] | None:
    try:
        return set((await registry.leases([f"w/worker/{number}" for number in range(12)])).values())
    except StoreUnavailable:
        return None


async def _append_again(requests: RequestStore, partition: int) -> None:
    request = Request(id=f"r{partition}", key="s1", source="requests", body=b"1")

    async def append() -> Admission | None:
        try:
            return await requests.append_request("moving", partition, request)
        except StoreUnavailable:
            return None

    await until_async(append, "the request is in the inbox")


async def test_a_node_that_dies_is_replaced_by_its_replica_and_others_go_on(cluster: StoreCluster) -> None:
    homes = {number: _slot_of(cluster, number) for number in range(12)}
    first = cluster.nodes[0].port
    hit = next(number for number, (_, client) in homes.items() if _port(client) == first)
    spared = next(number for number, (_, client) in homes.items() if _port(client) != first)
    async with Store(cluster.url, "moving", durability=FAST) as store:
        owners = {
            number: (await store.acquire(number, term=1, placement=2, worker="worker/0")).owner
            for number in (hit, spared)
        }
        with contextlib.closing(redis.Redis(port=first)) as client:
            client.execute_command("WAIT", 1, 2000)
        before = {number: (await store.head(number)).sequence for number in owners}
        cluster.nodes[0].kill()

        await _commit_again(store, spared, owners[spared], before[spared] + 1)
        await _commit_again(store, hit, owners[hit], before[hit] + 1)

        assert (await store.head(hit)).sequence == before[hit] + 1
    with contextlib.closing(redis.Redis(port=cluster.nodes[3].port)) as client:
        assert client.info("replication")["role"] == "master"
    cluster.nodes[0].start()
    until(lambda: cluster.nodes[0].running, "it is back")
