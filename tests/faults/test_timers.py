"""G8: a timer takes effect once, and never before what older events say that lay in a log when it was due.

Mechanism: a worker asks its sources how far they go once something is due, and lets it come behind all of that; a
firing counts only if the run still has that setting of its timer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from brokers import Broker, Topics
from cluster_rig import PARTITIONS, ClusterRig
from flows import messages, times
from solo import Solo, solo
from waiting import until

pytestmark = pytest.mark.cluster
ALL = tuple(range(PARTITIONS))
DUE = 2 * times.SOON.total_seconds() + 0.2
"""Seconds after which all is due that `times.watched` has set."""
LONG_DUE = 2 * times.LATER.total_seconds() + 0.2
"""The same, of `times.watched_long`."""


@pytest.fixture
def rig(kafka: Broker, topic: Topics, redis_url: str) -> Iterator[ClusterRig]:
    rig = ClusterRig(kafka.bootstrap, redis_url, topic, "all")
    yield rig
    rig.stop()


def until_timers(rig: ClusterRig, count: int) -> None:
    """Until so many things are to fall due."""

    async def are_set() -> bool:
        return sum([len((await rig._store.timers(number, 1 << 60, 100))[0]) for number in ALL]) == count

    rig.wait(are_set, f"{count} timers are set")


def test_G8_what_was_taken_back_in_a_log_does_not_come_though_it_was_due_when_nobody_read(rig: ClusterRig) -> None:
    flow = rig.prepare(times.watched_long)
    rig.send(flow.words, "one", key="ada")
    rig.send(flow.words, "one", key="bob")
    with solo(rig, partitions=ALL):  # both at once, well before the first timer
        until_timers(rig, 4)
    rig.send(flow.words, "off", key="ada")
    time.sleep(LONG_DUE)

    with solo(rig, index=1, placement=2, partitions=ALL):
        sent = rig.sent(flow.said)

    assert {key: [row for row in sent if row.startswith(key)] for key in ("ada", "bob")} == {
        "ada": ["ada one", "ada off", "ada idle for 4"],
        "bob": ["bob one", "bob quiet after 1", "bob idle for 4"],
    }


@pytest.mark.parametrize("crash_at", ["before:commit:3", "after:commit:3", "before:commit:4", "after:commit:5"])
def test_G8_a_timer_takes_effect_once_though_its_worker_is_killed(rig: ClusterRig, crash_at: str) -> None:
    flow = rig.prepare(times.watched)
    keys = [f"key-{number}" for number in range(6)]
    first = Solo(rig, partitions=ALL, crash_at=crash_at)
    try:
        for key in keys:
            rig.send(flow.words, "one", key=key)
        deadline = time.monotonic() + 60
        while not first.crashed and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first.crashed, first.story()
    finally:
        first.kill()

    with solo(rig, index=1, placement=2, partitions=ALL):
        sent = rig.sent(flow.said)
        states = [rig.run_of(key).state(flow.watch) for key in keys]

    assert {key: [row for row in sent if row.startswith(key)] for key in keys} == {
        key: [f"{key} one", f"{key} quiet after 1", f"{key} idle for 0.6"] for key in keys
    }
    assert states == [1] * len(keys)


def test_G8_a_suspended_worker_that_goes_on_later_adds_nothing(rig: ClusterRig) -> None:
    flow = rig.prepare(times.watched)
    with solo(rig, partitions=ALL) as first:
        rig.send(flow.words, "one", key="ada")
        until_timers(rig, 2)
        first.suspend()
        with solo(rig, index=1, placement=2, partitions=ALL):
            sent = rig.sent(flow.said)
            first.resume()
            time.sleep(DUE)
            assert rig.sent(flow.said) == sent
        assert sent == ["ada one", "ada quiet after 1", "ada idle for 0.6"]


def test_A20_a_time_out_while_process_runs_loses_nothing_of_the_event(rig: ClusterRig) -> None:
    flow = rig.prepare(times.dozing)
    rig.send(flow.words, "one", "two")
    with solo(rig, partitions=(0,)):
        rig.settle()
        run = rig.run_of()
        done = run.state(flow.watch)
        sent = rig.sent(flow.said)

    assert run.status == "timed out"
    assert done >= 1  # it had begun, and is neither lost nor half of it there
    assert sent == ["one", "two"][:done]
    assert rig.remainder(flow.words) == ["one", "two"][done:]


def test_M04_a_wait_is_over_in_time_though_its_worker_is_killed(rig: ClusterRig) -> None:
    flow = rig.prepare(messages.short)
    first = Solo(rig, partitions=ALL, crash_at="after:commit:1")
    try:
        rig.send(flow.orders, "go", key="ada")
        until(lambda: first.crashed, "it has ended at its first commit", within=60)
    finally:
        first.kill()
    assert rig._run(rig._store.run(rig._home("ada"), "ada"))["status"] == b"running"
    time.sleep(2 * messages.WAIT.total_seconds())

    with solo(rig, index=1, placement=2, partitions=ALL):
        assert rig.sent(flow.said) == ["ada: nothing after 1 s"]
    assert rig.run_of("ada").status == "completed"
