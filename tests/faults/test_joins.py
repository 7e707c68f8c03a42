"""Joins and the way of failures on a cluster: node processes that die, events that stand still, each joined once.

Mechanism: a join is a node with state, told of each branch of each event in the commit that made, or lost, it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from cluster_rig import ClusterRig
from flows.meetings import meetings, meetings_inside
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


def check_inside(rig: Rig, deadly: str) -> None:
    """The same in an inner run, three deep: several words of one event each meet by themselves."""
    flow = rig.prepare(meetings_inside)
    expected: list[str] = []
    letters: list[str] = []
    for turn in range(ROUNDS):
        for key in KEYS:
            words = [f"{kind}-{turn}" for kind in ("word", "bad", "other")]
            if turn == 7:
                words = [f"flaky-{turn}"]
            elif deadly and turn == 3 and key == KEYS[0]:
                words = ["word-3", deadly, "other-3"]
            rig.send(flow.words, " ".join(words), key=key)
            for word in words:
                failed = word == deadly or word.startswith("bad")
                expected.append(f"{key} {len(word)} {None if failed else word.upper()} {['fragile'] if failed else []}")
                letters += [word] * failed
    rig.start()

    assert sorted(rig.sent(flow.told)) == sorted(expected)
    found = rig.dead_letters()
    assert {letter.node for letter in found} == {"look/in/in/fragile"}
    assert sorted(msgspec.json.decode(letter.data or b"") for letter in found) == sorted(letters)
    assert rig.replay() == len(letters)
    assert len(rig.sent(flow.told)) == len(expected), "what comes back is too late for what has met"


@pytest.mark.parametrize("fuse", [None, "all"])
def test_branches_meet_once_inside_of_workflows_in_the_test_kit(fuse: Fuse) -> None:
    rig = HarnessRig(fuse)
    check_inside(rig, "")
    rig.stop()


@pytest.mark.cluster
def test_branches_meet_once_inside_of_workflows_though_an_event_kills_their_process(patient_rig_of: MakeRig) -> None:
    check_inside(patient_rig_of(None), "kill")


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
