"""F3, G7, G1: one owner. Mechanisms: owner token, sequence and torn mark, checked by the commit script itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from headrace.actors.store import Store
from headrace.embedded import Valkey
from rig import Rig, run
from solo import solo
from waiting import until


def test_F03_a_suspended_worker_that_goes_on_after_it_was_replaced_is_fenced(quiet_rig: Rig) -> None:
    with solo(quiet_rig) as first, quiet_rig.load:
        quiet_rig.wait_for_commits([3, 3, 3, 3])
        first.suspend()
        with solo(quiet_rig, index=1, placement=2) as second:
            quiet_rig.wait_for_commits(run(quiet_rig.sequences()))

            first.resume()

            until(lambda: first.lost() == dict.fromkeys(range(4), "FENCED"), "it has dropped all partitions")
            assert first.status()["partitions"] == []
            assert second.status()["partitions"] == [0, 1, 2, 3]
            quiet_rig.load.stop()
            quiet_rig.check()


def test_G7_two_workers_that_are_given_the_same_partitions_by_force(quiet_rig: Rig) -> None:
    with solo(quiet_rig) as first, quiet_rig.load:
        quiet_rig.wait_for_commits([1, 1, 1, 1])
        with solo(quiet_rig, index=1, placement=1) as second:
            until(lambda: set(first.lost()) == {0, 1, 2, 3}, "the first has lost them")
            quiet_rig.load.stop()
            quiet_rig.check()
            assert second.lost() == {}


def test_G1_a_worker_notices_that_the_store_lost_its_last_commits(quiet_rig: Rig, own_valkey: Valkey) -> None:
    with solo(quiet_rig) as worker:
        quiet_rig.load.send(1_000)
        quiet_rig.check()
        kept = _copied(own_valkey)
        quiet_rig.load.send(1_000)
        quiet_rig.check()

        own_valkey.kill()
        _restore(own_valkey, kept)
        own_valkey.start()
        assert sum(run(_positions(quiet_rig))) == 1_000

        quiet_rig.check(repeats=True)  # also where no event comes that would have to be committed
        quiet_rig.load.send(500)
        quiet_rig.check(repeats=True)
        assert worker.lost() == {}
        until(lambda: worker.status()["problems"] == [], "nothing is wrong any more")


def test_a_torn_partition_stands_still_is_named_and_goes_on_once_repaired(quiet_rig: Rig) -> None:
    with solo(quiet_rig) as worker:
        quiet_rig.load.send(200)
        quiet_rig.check()
        sequence = run(_set_torn(quiet_rig, 2, "77"))

        quiet_rig.load.send(500)
        until(lambda: any(row["word"] == "torn" for row in worker.status()["problems"]), "it is named")

        (problem,) = worker.status()["problems"]
        assert problem["where"] == "partition/2"
        assert "commit 77 was applied in part only" in problem["sentence"]
        assert run(quiet_rig.sequences())[2] == sequence
        run(_set_torn(quiet_rig, 2, None))
        quiet_rig.check()
        until(lambda: worker.status()["problems"] == [], "nothing is wrong any more")


def _copied(valkey: Valkey) -> Path:
    kept = valkey.folder.with_name("kept")
    shutil.copytree(valkey.folder, kept)
    return kept


def _restore(valkey: Valkey, kept: Path) -> None:
    shutil.rmtree(valkey.folder)
    shutil.copytree(kept, valkey.folder)


async def _positions(rig: Rig) -> list[int]:
    async with Store(rig.redis_url, "ledger") as store:
        heads = [await store.head(partition) for partition in range(4)]
    return [int(position.partition("@")[0]) for head in heads for position in head.positions.values()]


async def _set_torn(rig: Rig, partition: int, value: str | None) -> int:
    """Set or remove the mark, as a script that failed would have; returns the last commit."""
    async with Store(rig.redis_url, "ledger") as store:
        head = store.keys(partition).head
        if value is None:
            await store.client.hdel(head, "torn")
        else:
            await store.client.hset(head, "torn", value)
        return (await store.head(partition)).sequence
