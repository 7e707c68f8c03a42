"""F7, G10: an event ends the process of its node, or never lets it go: it alone is a dead letter, others count once.

Mechanism: the process notes at which event it is in a file that outlives it; its successor takes that event alone, and
no more once it has ended three processes, or was there for longer than `timeout=`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from cluster_rig import ClusterRig
from flows import deadly
from flows.deadly import Deadly
from rigs import Fuse

pytestmark = pytest.mark.cluster
MakeRig = Callable[[Fuse], ClusterRig]
KEYS = [f"key-{number}" for number in range(12)]
ROUNDS = 8
AMID = 3
"""The round in which the first key has the deadly word."""


def check(rig: ClusterRig, make: Callable[[str], Deadly], word: str, reason: str) -> str:
    """One deadly word amid others: it alone is a dead letter, and the rest is as computed here.

    Returns:
        The dead letter's sentence.
    """
    flow = rig.prepare(make)
    had: dict[str, list[str]] = defaultdict(list)
    expected: list[str] = []
    for turn in range(ROUNDS):
        for key in KEYS:
            if turn == AMID and key == KEYS[0]:
                rig.send(flow.words, word, key=key)
                continue
            said = f"word-{turn}"
            rig.send(flow.words, said, key=key)
            had[key].append(said)
            expected.append(f"{key} {said} {len(had[key])}")
    rig.start()

    (letter,) = rig.dead_letters()

    assert (letter.key, letter.node, letter.reason) == (KEYS[0], "fragile", reason)
    assert sorted(rig.sent(flow.passed)) == sorted(expected)
    assert {key: rig.run_of(key).state(flow.node) for key in KEYS} == had
    return letter.error


@pytest.mark.parametrize("fuse", [None, "all"])
def test_G10_an_event_that_kills_its_process_is_a_dead_letter_and_no_other_is(
    patient_rig_of: MakeRig, fuse: Fuse
) -> None:
    error = check(patient_rig_of(fuse), deadly.singly, "kill", "poison")

    assert error.startswith("ended its process 3 times")


def test_G10_a_segmentation_fault_is_named_in_the_dead_letter(patient_rig_of: MakeRig) -> None:
    error = check(patient_rig_of(None), deadly.singly, "segv", "poison")

    assert "Segmentation fault" in error
    assert "deadly.py" in error


@pytest.mark.parametrize("fuse", [None, "all"])
def test_F07_a_node_that_is_not_async_and_never_returns_is_replaced(patient_rig_of: MakeRig, fuse: Fuse) -> None:
    error = check(patient_rig_of(fuse), deadly.timed, "sleep", "timeout")

    assert error == "not done after 0.5 s (timeout=), and its process was replaced"


def test_F07_a_node_that_keeps_the_interpreter_for_itself_is_replaced(
    patient_rig_of: MakeRig,
) -> None:
    check(patient_rig_of(None), deadly.timed, "hold", "timeout")


@pytest.mark.parametrize(("word", "reason"), [("kill", "poison"), ("sleep", "timeout")])
def test_G10_a_batch_that_ends_its_process_goes_singly(patient_rig_of: MakeRig, word: str, reason: str) -> None:
    check(patient_rig_of(None), deadly.batched, word, reason)
