"""Levels of durability at a real server: what returns when, what is refused, and what leaves before."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import headrace.sources
from headrace.actors.store import Store
from headrace.actors.store_requests import Admission, Request, RequestStore
from headrace.embedded import Valkey
from headrace.embedded.ports import free_port
from headrace.gateway.app import create_app
from headrace.gateway.bridge import Bridge
from headrace.sources import durable
from headrace.sources.channel import ChannelSender
from headrace.sources.connection import Script
from headrace.sources.suitable import choose_durability
from headrace.workflows.commit import Answer, Commit, Output, Reply
from headrace.workflows.durability import FAST, Durability, DurabilityUnchosen
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import term_key
from headrace.workflows.store import (
    NotDurable,
    SourceDescriptor,
    StoreUnavailable,
    StoreUnsuitable,
    WorkflowDescriptor,
)
from waiting import until, until_async

FSYNC = Durability("fsync")
REPLICA = Durability("replicas")
SHORT = 200
"""Milliseconds that a write waits in these tests before it is named as not durable."""
DEBIAN = Path("/usr/bin/redis-server")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "WAIT_MS", SHORT)


@pytest.fixture
def syncing(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(folder=tmp_path / "syncing", appendfsync="always") as server:
        yield server


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(folder=tmp_path / "primary", options={"repl-diskless-sync-delay": "0"}) as server:
        yield server


@pytest.fixture
def replica(tmp_path: Path, primary: Valkey) -> Iterator[Valkey]:
    with Valkey(folder=tmp_path / "replica", options={"replicaof": f"127.0.0.1 {primary.port}"}) as server:
        until(lambda: _link(server) == "up", "the replica follows")
        yield server


def _client(server: Valkey) -> Any:
    return redis.Redis.from_url(server.url)


def _link(server: Valkey) -> str:
    with contextlib.closing(_client(server)) as client:
        return str(client.info("replication").get("master_link_status"))


def _set(server: Valkey, name: str, value: str) -> None:
    with contextlib.closing(_client(server)) as client:
        client.config_set(name, value)


@pytest.fixture
async def store(syncing: Valkey) -> AsyncIterator[Store]:
    async with Store(syncing.url, "w", channels={"lines": 9}, durability=FSYNC) as store:
        await store.durable.look()
        yield store


async def owned(store: Store) -> str:
    return (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner


# A commit


async def test_a_commit_that_is_not_synced_does_not_return(store: Store, syncing: Valkey) -> None:
    """Mechanism: the wait. Without it the server's answer would do."""
    owner = await owned(store)
    commit = Commit(sequence=1, outputs=[Output(0, "a", "s1", 0, b"1")])
    _set(syncing, "appendfsync", "no")

    with pytest.raises(NotDurable, match=r"not synced within 0\.2 s") as not_yet:
        await store.commit(0, owner, commit)
    assert (not_yet.value.word, not_yet.value.level) == ("not_durable", "fsync")

    _set(syncing, "appendfsync", "always")
    assert await store.commit(0, owner, commit) is Answer.ALREADY
    assert (await store.head(0)).outbox == 1


async def test_a_repeat_is_waited_for_on_whichever_connection_it_comes(syncing: Valkey) -> None:
    """Mechanism: the write that a repeat makes. A connection that has written nothing waits for nothing."""
    commit = Commit(sequence=1)
    async with Store(syncing.url, "w", durability=FSYNC) as first, Store(syncing.url, "w", durability=FSYNC) as second:
        owner = await owned(first)
        await second.durable.look()
        _set(syncing, "appendfsync", "no")
        with pytest.raises(NotDurable, match="not synced"):
            await first.commit(0, owner, commit)

        with pytest.raises(NotDurable, match="not synced"):
            await second.commit(0, owner, commit)


async def test_a_server_that_forgot_the_script_is_told_again_and_waited_for(store: Store, syncing: Valkey) -> None:
    owner = await owned(store)
    await store.client.script_flush()
    assert await store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED

    _set(syncing, "appendfsync", "no")
    await store.client.script_flush()
    with pytest.raises(NotDurable):
        await store.commit(0, owner, Commit(sequence=2))


async def test_an_acquisition_waits_too(store: Store, syncing: Valkey) -> None:
    _set(syncing, "appendfsync", "no")

    with pytest.raises(NotDurable):
        await owned(store)


async def test_a_replica_that_has_not_got_it_is_waited_for(primary: Valkey, replica: Valkey) -> None:
    async with Store(primary.url, "w", durability=REPLICA) as store:
        owner = await owned(store)
        assert await store.commit(0, owner, Commit(sequence=1)) is Answer.APPLIED

        replica.kill()
        with pytest.raises(NotDurable, match="0 of 1 replicas"):
            await store.commit(0, owner, Commit(sequence=2))
        replica.start()
        until(lambda: _link(replica) == "up", "the replica follows again")

        assert await store.commit(0, owner, Commit(sequence=2)) is Answer.ALREADY


async def test_what_others_rely_on_elsewhere_is_waited_for(store: Store, syncing: Valkey) -> None:
    """The number of a supervisor, the id of a life of a workflow: in a cluster they lie at another node."""
    assert await store.next_term("w") == 1
    await store.confirm(term_key("w"), FSYNC)
    assert await store.next_term("w") == 2

    _set(syncing, "appendfsync", "no")
    with pytest.raises(NotDurable):
        await store.confirm(term_key("w"), FSYNC)


async def test_at_level_fast_nothing_is_waited_for(syncing: Valkey) -> None:
    async with Store(syncing.url, "w") as store:
        _set(syncing, "appendfsync", "no")

        assert await store.commit(0, await owned(store), Commit(sequence=1)) is Answer.APPLIED


# What leaves


async def test_callers_are_woken_only_once_their_reply_is_durable(store: Store, syncing: Valkey) -> None:
    """Mechanism: wake-ups after the wait. In the commit's script they would come before it."""
    owner = await owned(store)
    first = Commit(sequence=1, replies=[Reply("r1", "replies:w", '{"n":1}')])
    async with store.client.pubsub() as subscription:
        await subscription.subscribe("replies:w")
        await subscription.get_message(timeout=5)
        _set(syncing, "appendfsync", "no")
        with pytest.raises(NotDurable):
            await store.commit(0, owner, first)
        assert await subscription.get_message(timeout=0.2) is None

        _set(syncing, "appendfsync", "always")
        await store.commit(0, owner, first)
        await store.commit(0, owner, Commit(sequence=2, replies=[Reply("r1", "replies:w", '{"n":2}')]))

        woken = [(await subscription.get_message(timeout=5) or {}).get("data") for _ in range(2)]
    assert woken == [b'r1 {"n":1}'] * 2, "what is told is the reply that stays"


async def test_a_reply_that_is_read_is_durable_before_it_is_given_out(store: Store, syncing: Valkey) -> None:
    """Mechanism: own write and wait after the read. What is applied can be read at once."""
    owner = await owned(store)
    _set(syncing, "appendfsync", "no")
    with pytest.raises(NotDurable):
        await store.commit(0, owner, Commit(sequence=1, replies=[Reply("r1", "c", "1")]))

    async with RequestStore(syncing.url) as requests:
        asked = [("w", 0, "r1"), ("w", 0, "r2")]
        assert await requests.replies(asked) == [b"1", None]
        _set(syncing, "appendfsync", "always")
        assert await requests.replies(asked, FSYNC) == [b"1", None]
        _set(syncing, "appendfsync", "no")
        with pytest.raises(NotDurable):
            await requests.replies(asked, FSYNC)


async def test_a_request_that_is_not_durable_is_no_success(syncing: Valkey) -> None:
    requests = SourceDescriptor(kind="requests", name="requests")
    async with Store(syncing.url, "chat") as store:
        descriptor = WorkflowDescriptor(name="chat", partitions=1, sources=(requests,), durability="fsync")
        await store.publish_workflow(descriptor)
    app = create_app(syncing.url)
    where, asynchronous = "/v1/workflows/chat/runs/s1/events", {"Prefer": "respond-async"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        durable_ = await http.post(where, json=1, headers=asynchronous)
        _set(syncing, "appendfsync", "no")
        not_durable = await http.post(where, json=2, headers=asynchronous)

    assert (durable_.status_code, durable_.headers["headrace-durability"]) == (202, "fsync")
    assert durable_.json()["durability"] == "fsync"
    assert (not_durable.status_code, not_durable.json()["code"]) == (503, "not_durable")


async def test_a_waiting_caller_gets_the_reply_though_nobody_woke_it(store: Store, syncing: Valkey) -> None:
    """Its worker died between commit and wake-up."""
    owner = await owned(store)
    async with RequestStore(syncing.url) as requests:
        bridge = Bridge(syncing.url, requests)
        await bridge.open()
        await until_async(lambda: bridge.listening, "the bridge listens")
        call = asyncio.create_task(bridge.ask("w", 0, "s1", "requests", b"1", request="r1", wait=20, durability=FSYNC))
        await until_async(lambda: store.client.xlen(store.keys(0).inbox), "the request is in the inbox")
        await store.commit(0, owner, Commit(sequence=1, replies=[Reply("r1", "nobody", "1")]))

        assert await asyncio.wait_for(call, 10) == (Admission.APPENDED, b"1")
        await bridge.close()


async def test_a_request_is_waited_for_also_when_repeated(syncing: Valkey) -> None:
    """Mechanism: the write that a repeat makes."""
    one, other = (Request(id=id_, key="s1", source="requests", body=b"1") for id_ in ("r1", "r2"))
    async with RequestStore(syncing.url) as first, RequestStore(syncing.url) as second:
        assert await first.append_request("w", 0, one, durability=FSYNC) is Admission.APPENDED
        assert await second.append_request("w", 0, other, durability=FSYNC) is Admission.APPENDED
        _set(syncing, "appendfsync", "no")
        with pytest.raises(NotDurable, match="not synced"):
            await first.append_request("w", 0, one, durability=FSYNC)
        with pytest.raises(NotDurable, match="not synced"):
            await second.append_request("w", 0, one, durability=FSYNC)


async def test_an_event_is_sent_once_it_is_durable_and_once_only(store: Store, syncing: Valkey) -> None:
    sender = ChannelSender[int](syncing.url, "w", "lines", partitions=1, capacity=9, durability=FSYNC)
    await sender.send(1)
    _set(syncing, "appendfsync", "no")
    sending = asyncio.create_task(sender.send(2))
    stream = store.keys(0).stream("channel:lines")

    async def both() -> bool:
        return bool(await store.client.xlen(stream) == 2)

    await until_async(both, "the event is in the store")
    await asyncio.wait((sending,), timeout=2 * SHORT / 1000)
    assert not sending.done()

    _set(syncing, "appendfsync", "always")
    await asyncio.wait_for(sending, 10)

    assert await store.client.xlen(stream) == 2
    await sender.disconnect()


SCRIPTS = Path(headrace.sources.__file__).parent / "scripts"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("channel_append.lua", ("lines", "sender", "1", "1", "s1", "0", b"1")),
        ("channel_close.lua", ("lines",)),
        ("request_append.lua", ("", "9", "600000", "r1", "s1", "requests", b"1", "", "", "any", "")),
        ("replies.lua", ("r1",)),
    ],
)
async def test_a_script_writes_whenever_it_answers_that_all_is_well(
    store: Store, script: str, arguments: tuple[str | bytes, ...]
) -> None:
    """A wait speaks of the last write of its connection: what a repeat finds done must be written about again."""
    await owned(store)
    once = partial(store.durable.write, Script(SCRIPTS / script), Effect.TOUCH, store.keys(0).head, *arguments)

    async def written() -> int:
        return int((await store.client.info("replication"))["master_repl_offset"])

    await once()
    before = await written()
    await once()

    assert await written() > before


# What is refused


@pytest.mark.parametrize(
    ("options", "durability", "cause"),
    [
        ({"appendfsync": "everysec"}, FSYNC, "appendfsync is everysec"),
        ({"appendonly": "no"}, FSYNC, "append-only file is off"),
        ({"no-appendfsync-on-rewrite": "yes"}, FSYNC, "no-appendfsync-on-rewrite"),
        ({}, REPLICA, "0 of 1 replicas"),
    ],
)
async def test_a_server_that_cannot_do_it_is_refused_at_start(
    syncing: Valkey, options: dict[str, str], durability: Durability, cause: str
) -> None:
    for name, value in options.items():
        _set(syncing, name, value)

    with pytest.raises(StoreUnsuitable, match=cause) as refused:
        await choose_durability(syncing.url, durability)

    assert "durability" in refused.value.cure


async def test_a_server_set_up_anew_while_it_runs_is_noticed(
    store: Store, syncing: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mechanism: the look now and then. Under `everysec` WAITAOF answers before anything is synced."""
    owner = await owned(store)
    _set(syncing, "appendfsync", "everysec")
    monkeypatch.setattr(durable, "LOOK", 0.0)

    with pytest.raises(NotDurable, match="appendfsync is everysec"):
        await store.commit(0, owner, Commit(sequence=1))

    assert (await store.head(0)).sequence == 0


async def test_after_a_lost_connection_the_next_write_looks_first(store: Store, syncing: Valkey) -> None:
    owner = await owned(store)
    syncing.kill()
    with pytest.raises(StoreUnavailable):
        await store.commit(0, owner, Commit(sequence=1))
    syncing._appendfsync = "everysec"
    syncing.start()

    with pytest.raises(NotDurable, match="everysec"):
        await store.commit(0, owner, Commit(sequence=1))


async def test_where_nobody_has_chosen_fsync_is_taken_if_it_can_be_had(syncing: Valkey) -> None:
    assert await choose_durability(syncing.url, None) == FSYNC
    assert await choose_durability(syncing.url, FAST) == FAST

    _set(syncing, "appendfsync", "everysec")
    with pytest.raises(DurabilityUnchosen, match="--durability"):
        await choose_durability(syncing.url, None)
    with pytest.raises(StoreUnsuitable, match="CONFIG SET appendfsync always"):
        await choose_durability(syncing.url, FSYNC)


@pytest.fixture
def old_redis(tmp_path: Path) -> Iterator[str]:
    if not DEBIAN.exists():
        pytest.skip("Debian's redis-server is not installed")
    version = subprocess.run([DEBIAN, "-v"], capture_output=True, text=True, check=True).stdout
    if "v=7.0" not in version:
        pytest.skip(f"Debian's redis-server is no 7.0: {version}")
    port = free_port()
    settings = ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    command = [str(DEBIAN), "--port", str(port), "--dir", str(tmp_path), *settings]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with contextlib.closing(redis.Redis(port=port, retry=Retry(NoBackoff(), 0))) as client:
        until(lambda: _answers(client), "the server answers")
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


async def test_a_server_without_waitaof_is_refused(old_redis: str) -> None:
    with pytest.raises(StoreUnsuitable, match=r"redis 7\.0.* has no WAITAOF"):
        await choose_durability(old_redis, FSYNC)


@pytest.fixture
def syncs(syncing: Valkey, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """How many syncs the server has asked its kernel for."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = tmp_path / "calls"
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(calls), "-p", str(syncing.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            tracer.kill()
            pytest.skip(f"strace may not attach to a process here: {said}")
        yield lambda: calls.read_text().count("sync(")
        tracer.terminate()


async def test_each_commit_is_a_sync(store: Store, syncs: Callable[[], int]) -> None:
    """Counted at the system calls: whatever the server says, this is what the disk was told."""
    owner = await owned(store)
    before = syncs()

    for sequence in range(1, 21):
        await store.commit(0, owner, Commit(sequence=sequence))

    assert syncs() - before >= 20
