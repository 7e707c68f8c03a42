"""Joins and the way of failures on a cluster: node processes that die, events that stand still, each joined once.

Mechanism: a join is a node with state, told of each branch of each event in the commit that made, or lost, it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import cluster_rig
from brokers import Broker, Topics
from cluster_rig import ClusterRig
from flows.meetings import meetings
from headrace.actors.local_ray import LocalRay
from rigs import Fuse, HarnessRig, Rig

KEYS = [f"key-{number}" for number in range(8)]
ROUNDS = 10
PATIENCE = 240.0
"""Seconds for four processes to start one after the other, without a spare, on a machine that others use, too."""


def check(rig: Rig, deadly: str) -> None:
    """Words, some of which fail, and one that is deadly; what comes of them is as computed here."""
    flow = rig.prepare(meetings)
    expected: list[str] = []
    for turn in range(ROUNDS):
        for key in KEYS:
            if deadly and turn == 3 and key == KEYS[0]:
                rig.send(flow.words, deadly, key=key)
                expected.append(f"{key} {deadly} failed: poison")
                expected.append(f"{key} {len(deadly)} None ['fragile']")
                continue
            word = f"{'bad' if turn == 5 else 'flaky' if turn == 7 else 'word'}-{turn}"
            rig.send(flow.words, word, key=key)
            if turn == 5:
                expected.append(f"{key} {word} failed: error")
                expected.append(f"{key} {len(word)} None ['fragile']")
            else:
                expected.append(f"{key} {len(word)} {word.upper()} []")
    rig.start()

    assert sorted(rig.sent(flow.told)) == sorted(expected)
    assert rig.dead_letters() == []


@pytest.mark.parametrize("fuse", [None, "all"])
def test_branches_meet_once_in_the_test_kit(fuse: Fuse) -> None:
    rig = HarnessRig(fuse)
    check(rig, "")
    rig.stop()


@pytest.fixture
def rig_of(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Fuse], ClusterRig]]:
    monkeypatch.setattr(cluster_rig, "WITHIN", PATIENCE)
    rigs: list[ClusterRig] = []

    def make(fuse: Fuse) -> ClusterRig:
        rigs.append(ClusterRig(kafka.bootstrap, redis_url, topic, fuse))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.stop()


@pytest.mark.cluster
def test_branches_meet_once_though_an_event_kills_the_process_of_one(rig_of: Callable[[Fuse], ClusterRig]) -> None:
    check(rig_of(None), "kill")
