"""G2, G4: what has left, or was promised, is neither lost nor changed when the store loses what it need not have kept.

The loss is that of a power cut (what was not synced is gone) or of a fail-over (the promoted replica lacks the end);
a plain `kill -9` of the store would lose nothing and so prove nothing. Repeats come out differently on purpose.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from brokers import Broker, Topics
from callers import CALLERS, Callers
from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.workflows.durability import Durability
from ledger import PARTITIONS, drained, offline, read_topic
from rig import Rig, run
from solo import solo
from waiting import until


class Loss(ABC):
    """A store whose end can get lost, at one address."""

    durability: Durability
    """The level at which nothing that left may be lost by it."""
    server: Valkey

    @abstractmethod
    def begin(self) -> None:
        """From now on what is written is not safe."""

    @abstractmethod
    def strike(self) -> None:
        """Lose what was not safe. The store is back afterwards, at the same address."""

    @abstractmethod
    def stop(self) -> None:
        """End all servers."""

    @abstractmethod
    def at_stake(self) -> bool:
        """Whether a strike would lose something."""


class PowerCut(Loss):
    """What was not synced is cut off the append-only file."""

    durability = Durability("fsync")

    def __init__(self, folder: Path) -> None:
        self.server = Valkey(folder=folder / "synced", appendfsync="always").start()

    def begin(self) -> None:
        with contextlib.closing(redis.Redis.from_url(self.server.url)) as client:
            client.config_set("appendfsync", "no")
        self._file = max((self.server.folder / "appendonlydir").glob("*.incr.aof"))
        self._synced = self._file.stat().st_size

    def at_stake(self) -> bool:
        return self._file.stat().st_size > self._synced

    def strike(self) -> None:
        self.server.kill()
        with self._file.open("r+b") as file:
            file.truncate(self._synced)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


class FailOver(Loss):
    """A replica is promoted that has not got the end."""

    durability = Durability("replicas")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = Valkey(folder=folder / "primary", options={"repl-diskless-sync-delay": "0"}).start()
        self._replica = self._following(folder / "replica")

    def _following(self, folder: Path) -> Valkey:
        server = Valkey(folder=folder, options={"replicaof": f"127.0.0.1 {self.server.port}"}).start()
        with contextlib.closing(redis.Redis.from_url(server.url)) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        return server

    def begin(self) -> None:
        # A replica that hardly runs on a busy machine may not even know who owns the partitions: then the worker is
        # shut out (FENCED), and here is no supervisor to give them back.
        there = _offset(self.server)
        until(lambda: _offset(self._replica) >= there, "the replica has what is there now")
        with contextlib.closing(redis.Redis.from_url(self._replica.url)) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")  # where nobody is

    def at_stake(self) -> bool:
        return _offset(self.server) > _offset(self._replica)

    def strike(self) -> None:
        self.server.kill()
        self._replica.stop()
        options = {"repl-diskless-sync-delay": "0"}
        self.server = Valkey(folder=self._replica.folder, port=self.server.port, options=options).start()
        self._replica = self._following(self._folder / "next")

    def stop(self) -> None:
        self._replica.stop()
        self.server.stop()


def _offset(server: Valkey) -> int:
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        return int(client.info("replication")["master_repl_offset"])


@pytest.fixture(params=[PowerCut, FailOver])
def loss(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loss]:
    loss: Loss = request.param(tmp_path)
    yield loss
    loss.stop()


def _undergo(loss: Loss, durability: Durability, rig: Rig, *, worker_dies: bool) -> Callers:
    """Load, a loss in the middle of it, and all worked off."""
    with rig.load, Callers(loss.server.url, "promises", durability) as callers:
        with solo(rig) as worker:
            rig.wait_for_commits([3, 3, 3, 3])
            until(lambda: len(callers.answers) > 10, "callers are answered")
            loss.begin()
            answered = len(callers.answers)
            until(loss.at_stake, "something is at stake")
            if durability.waits:
                until(lambda: "not_durable" in {row["word"] for row in worker.status()["problems"]}, "it is named")
                until(lambda: callers.refused, "a caller is told, and asks again")
            else:
                rig.wait_for_commits(run(rig.sequences()))
                enough = answered + CALLERS
                until(lambda: len(callers.answers) > enough, "somebody has asked and was answered, for nothing")
            if worker_dies:
                worker.kill()
            loss.strike()
            if not worker_dies:
                rig.wait_for_commits(run(rig.sequences()))
                _finish(rig, callers)
        if worker_dies:
            with solo(rig, index=1, placement=2):
                rig.wait_for_commits(run(rig.sequences()))
                _finish(rig, callers)
    return callers


def _finish(rig: Rig, callers: Callers) -> None:
    rig.load.stop()
    callers.__exit__()
    expected = run(offline(rig.bootstrap, rig.readings))

    async def done() -> bool:
        async with Store(rig.redis_url, "promises", connections=1) as store:
            inboxes = [await store.client.xlen(store.keys(number).inbox) for number in range(PARTITIONS)]
            return not any(inboxes) and await drained(store, rig.readings, expected.ends)

    until(lambda: run(done()), "all is worked off", within=60)


def _differences(rig: Rig) -> list[str]:
    """Outputs in Kafka that came with two contents, or not at all."""
    by_id: dict[str, set[bytes]] = {}
    for row in run(read_topic(rig.sink, rig.alerts)):
        by_id.setdefault(dict(row.headers)["headrace-id"].decode(), set()).add(row.value)
    wrong = [f"{event} came with {len(values)} contents" for event, values in by_id.items() if len(values) > 1]
    expected = run(offline(rig.bootstrap, rig.readings))
    events = sum(expected.ends.values()) - expected.dead["decode"]
    return wrong if len(by_id) == events else [*wrong, f"{len(by_id)} outputs of {events} events"]


def _counted(rig: Rig) -> int:
    """Events in all states of the node that counts readings."""

    async def count() -> int:
        total = 0
        async with Store(rig.redis_url, "promises", connections=1) as store:
            for partition in range(PARTITIONS):
                for key in await store.run_keys(partition):
                    state = (await store.run(partition, key)).get("node:draw", b"")
                    total += sum(map(int, re.findall(rb'"count":(\d+)', state)))
        return total

    return run(count())


def _rig(tmp_path: Path, kafka: Broker, topic: Topics, loss: Loss, durability: Durability) -> Rig:
    readings, alerts = topic(4, name="readings"), topic(4, name="drawn")
    return Rig(
        tmp_path, kafka.bootstrap, loss.server.url, readings, alerts, flow="promises", fuse=True,
        durability=str(durability),
    )  # fmt: skip


@pytest.mark.parametrize("worker_dies", [False, True], ids=["worker-alive", "worker-dead"])
def test_nothing_that_left_is_lost_or_changed(
    tmp_path: Path, kafka: Broker, topic: Topics, loss: Loss, worker_dies: bool
) -> None:
    """Mechanism: the wait before anything leaves."""
    rig = _rig(tmp_path, kafka, topic, loss, loss.durability)

    callers = _undergo(loss, loss.durability, rig, worker_dies=worker_dies)

    assert _differences(rig) == []
    assert run(callers.broken()) == []


def test_at_level_fast_what_left_may_differ_but_states_count_each_event_once(
    tmp_path: Path, kafka: Broker, topic: Topics, loss: Loss
) -> None:
    """Also shows that the loss bites: the test above would see it."""
    fast = Durability()
    rig = _rig(tmp_path, kafka, topic, loss, fast)

    callers = _undergo(loss, fast, rig, worker_dies=False)

    assert any("2 contents" in wrong for wrong in _differences(rig))
    assert run(callers.broken()) != []
    expected = run(offline(rig.bootstrap, rig.readings))
    assert _counted(rig) == sum(expected.ends.values()) - expected.dead["decode"]
