"""Joins and the way of failures on a cluster: node processes that die, events that stand still, each joined once.

Mechanism: a join is a node with state, told of each branch of each event in the commit that made, or lost, it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster_rig import ClusterRig
from flows.meetings import meetings
from rigs import Fuse, HarnessRig, Rig

KEYS = [f"key-{number}" for number in range(8)]
MakeRig = Callable[[Fuse], ClusterRig]
ROUNDS = 10


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


@pytest.mark.cluster
def test_branches_meet_once_though_an_event_kills_the_process_of_one(
    patient_rig_of: MakeRig,
) -> None:
    check(patient_rig_of(None), "kill")
