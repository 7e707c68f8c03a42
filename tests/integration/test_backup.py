"""A workflow's store written to a file and back, on real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.actors.backup import KeepsChanging, StillRunning, back_up
from headrace.actors.backup_file import BackupUnreadable
from headrace.actors.deployments import claim_incarnation, get_deployment, is_stopped, put_deployment
from headrace.actors.restore import AlreadyThere, restore
from headrace.actors.spec import CodeRef, Deployment, supervisor_name
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from headrace.sources.connection import Script
from headrace.workflows.commit import Answer, Commit, DeadLetter, Output, Reply
from headrace.workflows.effects import Effect
from headrace.workflows.key_format import RestoreUnfinished
from headrace.workflows.keyspace import PartitionKeys, format_key, lease_key
from headrace.workflows.store import Sender, TransfersMissing, WorkflowDescriptor
from stores import StoreCluster, acl_user, rights

SCRIPTS = Path(__file__).resolve().parents[2] / "sources" / "scripts"
REQUEST = Script(SCRIPTS / "request_append.lua")
CHANNEL = Script(SCRIPTS / "channel_append.lua")
ROOM = Script(SCRIPTS / "channel_room.lua")
CODE = CodeRef(folder="", module="flow", version="1", bundle=True)
KEYS = PartitionKeys("orders", 0)


async def append_request(store: Store, id_: str, body: bytes) -> None:
    fields = (id_, "k", "s", body, "", "", "any", "")
    await REQUEST.write(store.client, Effect.REQUEST_APPEND, KEYS.head, "", 10, 600_000, *fields)


@pytest.fixture(scope="module")
def second() -> Iterator[str]:
    """Another server."""
    with Valkey() as server:
        yield server.url


@pytest.fixture
async def other(second: str) -> str:
    """It, empty."""
    async with Registry(second) as registry:
        await registry.client.flushdb()
    return second


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def output(id_: str) -> Output:
    return Output(0, id_, "k", 1, b"\x00\xff" + id_.encode())


async def filled(store: Store) -> str:
    """A stopped workflow with keys of all kinds; returns the owner of partition 0."""
    await claim_incarnation(store, "orders", "life1")
    await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=2))
    await put_deployment(
        store,
        Deployment(
            workflow="orders", code=CODE, redis_url="redis://:secret@old/0", partitions=2, incarnation="life1",
            cluster="default",
        ),
    )  # fmt: skip
    await store.client.set("hr:{orders}:bundle:1", b"PK\x03\x04\xff")
    owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
    letter = DeadLetter(
        id="d", source="s", key="k", reason="error", error="", node="n", attempts=1, time=1, data=b"\xff"
    )
    asked = Commit(
        sequence=1,
        positions={"readings/0": "17@abc"},
        runs={"a": ["status", "running", "node:n", '{"x":1}'], "b": ["status", "completed"]},
        ended={"b": 60_000},
        outputs=[output("one"), output("two")],
        dead=[letter],
        replies=[Reply("r1", "", '{"n":1}')],
    )  # fmt: skip
    assert await store.commit(0, owner, asked) is Answer.APPLIED
    me = Sender("life1/orders/0", "orders", 0, owner, 2)
    await store.append_internal(1, me, 1, [b"in\x00one", b"two"], known=True, most=10)
    await append_request(store, "q1", b"\xfe")
    await ROOM.write(store.client, Effect.CHANNEL_CREDIT, KEYS.head, "lines", 5)
    for number in (1, 2):
        asked_of = ("lines", "me", number, "1", "k", 7, b"data")
        await CHANNEL.write(store.client, Effect.CHANNEL_APPEND, KEYS.head, *asked_of)
    await store.client.xadd("hr:{orders}:audit", {"what": "dropped"})
    await store.client.zadd(f"{KEYS.prefix}due", {"later": 1764168000000.5, "x": 2})
    await store.client.sadd(f"{KEYS.prefix}words", "a", "b")
    return owner


async def contents(registry: Registry) -> dict[str, Any]:
    """All that a store has of it, as its commands show it."""
    found: dict[str, Any] = {}
    client: Any = registry.client
    async for key in client.scan_iter(match="hr:{orders*"):
        match await client.type(key):
            case b"string":
                value: Any = await client.get(key)
            case b"hash":
                value = await client.hgetall(key)
            case b"list":
                value = await client.lrange(key, 0, -1)
            case b"set":
                value = await client.smembers(key)
            case b"zset":
                value = await client.zrange(key, 0, -1, withscores=True)
            case _:
                about = await client.xinfo_stream(key)
                value = (await client.xrange(key), about["last-generated-id"], about["entries-added"])
        found[key.decode()] = (value, await client.pttl(key) > 0)
    return found


MADE_ANEW = ("incarnation", "format", "deployment", "stopped", "audit", "change")


def states(found: dict[str, Any]) -> dict[str, Any]:
    """What a restore leaves as it was."""
    return {key: value for key, value in found.items() if key.rpartition(":")[2] not in (*MADE_ANEW, "from")}


async def test_all_kinds_of_keys_come_back_as_they_were(redis_url: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)

        header, keys = await back_up(store, "orders", path)
        done = await restore(target, path, who="ada")

        before, after = states(await contents(store)), states(await contents(target))
        assert after == before
        assert {"run:b", "reply:r1", "request:q1", "sender:me"} <= {
            key.partition("}:")[2] for key, (_, fades) in after.items() if fades
        }
        assert header.incarnation == "life1"
        assert done.keys == keys
        assert done.incarnation != "life1"
        assert await claim_incarnation(target, "orders", "another") == done.incarnation
        assert await target.workflow("orders") == await store.workflow("orders")
        assert await target.workflows() == ["orders"]


async def test_a_restored_workflow_is_stopped_and_its_deployment_speaks_of_its_new_store(
    redis_url: str, other: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        await back_up(store, "orders", path)
        done = await restore(target, path, who="ada")

        deployment = await get_deployment(target, "orders")
        assert deployment is not None
        assert (deployment.redis_url, deployment.incarnation) == (other, done.incarnation)
        assert await is_stopped(target, "orders")
    assert path.stat().st_mode & 0o077 == 0


async def test_events_between_its_partitions_go_on_in_the_new_life(redis_url: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        await back_up(store, "orders", path)
        done = await restore(target, path, who="ada")

        owner = (await target.acquire(0, term=9, placement=1, worker="w")).owner
        me = Sender(f"{done.incarnation}/orders/0", "orders", 0, owner, 2)
        await target.append_internal(1, me, 2, [b"two", b"three"], known=True, most=10)
        assert [blob for _, blob in await target.internal(1)] == [b"in\x00one", b"two", b"three"]
        with pytest.raises(TransfersMissing):
            await target.append_internal(1, me, 7, [b"seven"], known=True, most=10)


async def test_ids_of_an_empty_stream_go_on_behind_the_last_one(redis_url: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        owner = await filled(store)
        await store.trim_outbox(0, owner, 2)
        late = b"9999999999999-5"
        await store.client.execute_command("XSETID", KEYS.inbox, late)
        await store.client.xtrim(KEYS.inbox, 0, approximate=False)
        await back_up(store, "orders", path)
        await restore(target, path, who="ada")

        await append_request(target, "q2", b"1")
        entries: Any = await target.client.xrange(KEYS.inbox)
        assert entries[0][0] == b"9999999999999-6"
        owner = (await target.acquire(0, term=9, placement=1, worker="w")).owner
        await target.commit(0, owner, Commit(sequence=2, outputs=[output("three")]))
        assert await target.outbox(0, 0, 10) == [(3, [output("three")])]


@pytest.mark.parametrize("damage", ["cut", "changed", "appended", "other"])
async def test_a_damaged_file_is_refused_and_nothing_is_written(
    redis_url: str, other: str, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Registry(other) as target:
        await filled(store)
        await back_up(store, "orders", path)
        blob = path.read_bytes()
        half = len(blob) // 2
        path.write_bytes(
            {
                "cut": blob[:half],
                "changed": blob[:half] + bytes([blob[half] ^ 1]) + blob[half + 1 :],
                "appended": blob + b"\n",
                "other": b"PK\x03\x04" + blob,
            }[damage]
        )

        with pytest.raises(BackupUnreadable, match="Nothing was written"):
            await restore(target, path, who="ada")

        assert await target.client.dbsize() == 0


async def test_a_workflow_that_is_there_is_replaced_only_when_asked(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store:
        owner = await filled(store)
        await back_up(store, "orders", path)
        before = states(await contents(store))
        await store.commit(0, owner, Commit(sequence=2, runs={"later": ["status", "running"]}))

        with pytest.raises(AlreadyThere, match="--replace"):
            await restore(store, path, who="ada")
        assert await store.run(0, "later")

        await restore(store, path, who="ada", replace=True)
        assert states(await contents(store)) == before
        assert await store.commit(0, owner, Commit(sequence=2)) is Answer.APPLIED


async def test_a_restore_that_breaks_off_leaves_nothing_that_runs_and_begins_anew(
    redis_url: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orders.backup"

    class Broken(Exception):
        pass

    async def broken(*_: object) -> None:
        raise Broken

    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        await back_up(store, "orders", path)
        with monkeypatch.context() as patch:
            patch.setattr("headrace.actors.restore.rejoin", broken)
            with pytest.raises(Broken):
                await restore(target, path, who="ada")
        with pytest.raises(RestoreUnfinished):
            await target.workflow("orders")
        with pytest.raises(RestoreUnfinished):
            await claim_incarnation(target, "orders", "x")

        await restore(target, path, who="ada")

        assert states(await contents(target)) == states(await contents(store))


async def test_a_running_workflow_is_not_backed_up_nor_replaced(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store:
        await filled(store)
        await back_up(store, "orders", path)
        await store.client.set(lease_key(supervisor_name("orders")), "somebody")

        with pytest.raises(StillRunning):
            await back_up(store, "orders", tmp_path / "second")
        with pytest.raises(StillRunning):
            await restore(store, path, who="ada", replace=True)
    assert files(tmp_path) == ["orders.backup"]


async def test_an_owner_that_commits_meanwhile_is_noticed(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store:
        await filled(store)
        late = (await store.acquire(1, term=1, placement=1, worker="w")).owner
        committing = iter([store.commit(1, late, Commit(sequence=1))])

        async def patched(number: int) -> None:
            if number == 1:
                await next(committing)

        with pytest.raises(StillRunning):
            await _back_up_with(store, path, patched)
    assert not path.exists()


async def test_requests_that_come_meanwhile_are_in_it_or_not_at_all(redis_url: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        asked = iter(["q2"])

        async def one(_: int) -> None:
            for id_ in asked:
                await append_request(store, id_, b"")

        await _back_up_with(store, path, one)
        await restore(target, path, who="ada")

        found = await contents(target)
        assert len(found[KEYS.inbox][0][0]) == 2
        assert f"{KEYS.prefix}request:q2" in found

        async def always(_: int) -> None:
            await store.client.xadd(KEYS.inbox, {"id": "q"})

        with pytest.raises(KeepsChanging):
            await _back_up_with(store, tmp_path / "second", always)


async def _back_up_with(store: Store, path: Path, meanwhile: Any) -> None:
    """Back up, while something happens after the first look, and after each reading of a partition."""
    from headrace.actors import backup  # noqa: PLC0415

    real = backup._read

    async def reading(registry: Registry, keys: Any) -> Any:
        async for piece in real(registry, keys):
            yield piece
        if keys and b"/0}" in keys[0]:
            await meanwhile(1)

    backup._read = reading
    try:
        await back_up(store, "orders", path)
    finally:
        backup._read = real


def link(store: Store, life: str, owner: str, through: int) -> Sender:
    return Sender(f"{life}/orders/0/bills", "orders", 0, owner, through)


async def sending(store: Store, *, bills: int) -> str:
    """`orders` has sent so many events to `billing` by its sink `bills`; returns the owner of partition 0."""
    await claim_incarnation(store, "orders", "life1")
    await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=1))
    await store.publish_workflow(WorkflowDescriptor(name="billing", partitions=1))
    owner = (await store.acquire(0, term=1, placement=1, worker="w")).owner
    outputs = [output(str(number)) for number in range(bills)]
    await store.commit(0, owner, Commit(sequence=1, outputs=outputs, counters={"to:bills:": bills}))
    return owner


async def arrived(billing: Store) -> list[bytes]:
    return [blob for _, blob in await billing.internal(0)]


async def test_a_restored_sender_is_not_heard_twice_and_heard_when_it_has_news(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as orders, Store(redis_url, "billing") as billing:
        owner = await sending(orders, bills=2)
        await back_up(orders, "orders", path)
        await orders.commit(0, owner, Commit(sequence=2, outputs=[output("old")], counters={"to:bills:": 3}))
        await billing.append_internal(0, link(orders, "life1", owner, 3), 1, [b"1", b"2", b"old"], known=False, most=9)

        done = await restore(orders, path, who="ada", replace=True)

        owner = (await orders.acquire(0, term=9, placement=1, worker="w")).owner
        me = link(orders, done.incarnation, owner, 2)
        await billing.append_internal(0, me, 1, [b"1", b"2"], known=False, most=9)
        assert await arrived(billing) == [b"1", b"2", b"old"]
        await orders.commit(0, owner, Commit(sequence=2, outputs=[output("new")], counters={"to:bills:": 3}))
        await billing.append_internal(0, link(orders, done.incarnation, owner, 3), 3, [b"new"], known=False, most=9)
        assert await arrived(billing) == [b"1", b"2", b"old", b"new"]


@pytest.mark.parametrize("first", [2, 5])
async def test_a_restored_receiver_takes_what_its_sender_still_has(redis_url: str, tmp_path: Path, first: int) -> None:
    path = tmp_path / "billing.backup"
    async with Store(redis_url, "orders") as orders, Store(redis_url, "billing") as billing:
        owner = await sending(orders, bills=5)
        me = link(orders, "life1", owner, 5)
        await billing.append_internal(0, me, 1, [b"1", b"2"], known=False, most=9)
        await back_up(orders, "billing", path)
        await billing.append_internal(0, me, 3, [b"3", b"4"], known=False, most=9)

        await restore(billing, path, who="ada", replace=True)

        kept = [b"%d" % number for number in range(first, 6)]
        await billing.append_internal(0, me, first, kept, known=False, most=9)

        assert await arrived(billing) == [b"1", b"2", *kept[max(0, 3 - first) :]]
        with pytest.raises(TransfersMissing):
            await billing.append_internal(0, me, 7, [b"7"], known=False, most=9)


@pytest.mark.parametrize("order", [("orders", "billing"), ("billing", "orders")])
async def test_two_that_were_backed_up_together_agree_when_both_are_restored(
    redis_url: str, other: str, tmp_path: Path, order: tuple[str, str]
) -> None:
    async with Store(redis_url, "orders") as orders, Store(redis_url, "billing") as billing:
        owner = await sending(orders, bills=3)
        me = link(orders, "life1", owner, 3)
        await billing.append_internal(0, me, 1, [b"1", b"2"], known=False, most=9)
        for name in order:
            await back_up(orders, name, tmp_path / name)

    async with Store(other, "orders") as orders, Store(other, "billing") as billing:
        lives = {name: (await restore(orders, tmp_path / name, who="ada")).incarnation for name in order}
        owner = (await orders.acquire(0, term=9, placement=1, worker="w")).owner

        me = link(orders, lives["orders"], owner, 3)
        await billing.append_internal(0, me, 1, [b"1", b"2", b"3"], known=False, most=9)

        assert await arrived(billing) == [b"1", b"2", b"3"]


async def test_a_backup_of_what_is_not_there_is_refused(redis_url: str, tmp_path: Path) -> None:
    async with Registry(redis_url) as registry:
        with pytest.raises(Exception, match="knows no workflow"):
            await back_up(registry, "orders", tmp_path / "b")
        assert await registry.client.get(format_key("orders")) is None
    assert files(tmp_path) == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    with StoreCluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


async def test_from_one_server_to_a_cluster_and_back(
    redis_url: str, other: str, cluster: StoreCluster, tmp_path: Path
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        await back_up(store, "orders", there)
        async with Store(cluster.url, "orders") as spread:
            await restore(spread, there, who="ada")
            await back_up(spread, "orders", back)
        await restore(target, back, who="ada")

        assert states(await contents(target)) == states(await contents(store))


async def test_streams_of_any_length_and_size_come_back(redis_url: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store, Store(other, "orders") as target:
        await filled(store)
        for number in range(5000):
            await store.client.xadd(KEYS.dead, {"id": str(number), "blob": b"\xff"})
        for _ in range(40):
            await store.client.xadd(KEYS.inbox, {"id": "x", "data": os.urandom(300_000)})
        await back_up(store, "orders", path)
        await restore(target, path, who="ada")

        assert states(await contents(target)) == states(await contents(store))


async def test_the_rights_that_a_workflow_needs_are_enough(
    redis_url: str, second: str, other: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.backup"
    async with Store(redis_url, "orders") as store:
        await filled(store)
        with acl_user(redis_url, "reader", "secret", rights("one server, or behind Sentinels")) as reader:
            async with Registry(reader) as few:
                await back_up(few, "orders", path)
        with acl_user(second, "writer", "secret", rights("one server, or behind Sentinels")) as writer:
            async with Registry(writer) as few:
                await restore(few, path, who="ada")
        async with Store(other, "orders") as target:
            assert states(await contents(target)) == states(await contents(store))
