"""G9, G10, G1: calls of `async` nodes that take long go on by themselves; whoever ends, each counts once.

Mechanism: such a call is left to its process, its event stands still and asks. A run that ends takes its calls with it.
What a process goes on with is noted where its successor finds it, should it end meanwhile.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping

import pytest

from cluster_rig import ClusterRig
from flows import asking
from flows.asking import Asking
from headrace.workflows.control import ControlEvent
from rigs import Fuse

pytestmark = pytest.mark.cluster
MakeRig = Callable[[Fuse], ClusterRig]
Send = Callable[[ClusterRig, Asking], None]
Begin = Callable[..., tuple[ClusterRig, Asking]]


@pytest.fixture
def begin(patient_rig_of: MakeRig) -> Iterator[Begin]:
    """Starts a flow; what its nodes have noted goes with the test."""
    flows: list[Asking] = []

    def start(fuse: Fuse, make: Callable[[str], Asking], send: Send | None = None) -> tuple[ClusterRig, Asking]:
        rig = patient_rig_of(fuse)
        flows.append(rig.prepare(make))
        if send is not None:
            send(rig, flows[-1])  # all of it is there at the start, so that it goes together
        rig.start()
        return rig, flows[-1]

    yield start
    for flow in flows:
        flow.go.unlink(missing_ok=True)
        flow.log.unlink(missing_ok=True)


def until_left(rig: ClusterRig, count: int) -> None:
    async def look() -> bool:
        heads = [await rig._store.head(number) for number in range(rig.partitions)]
        return sum(head.outbox for head in heads) == count

    rig.wait(look, f"{count} have left")


def until_standing(rig: ClusterRig, count: int) -> None:
    async def look() -> bool:
        return sum([len(await rig._store.parked_fields(number)) for number in range(rig.partitions)]) == count

    rig.wait(look, f"{count} stand still")


def kill(rig: ClusterRig, name: str) -> None:
    assert rig._cluster is not None
    status = rig._cluster.status()
    assert status is not None
    [pid] = [row.pid for row in status.roles if row.name == name and row.pid is not None]
    os.kill(pid, signal.SIGKILL)


def terminate(rig: ClusterRig, key: str) -> Mapping[str, bytes]:
    """As `headrace runs terminate` does, though other things are under way. Returns the run as the store has it."""
    rig._run(rig._ask_of(ControlEvent("terminate", key, 0, '"enough"')))
    fields = rig._run(rig._store.run(rig._home(key), key))
    assert fields["status"] == b"terminated"
    return fields


@pytest.mark.parametrize("fuse", [None, "all"])
def test_G01_a_slow_call_counts_once_and_others_go_on_though_the_worker_is_killed(begin: Begin, fuse: Fuse) -> None:
    rig, flow = begin(fuse, asking.asked)
    for key, word in (("ada", "slow 1"), ("ada", "2"), ("bob", "3")):
        rig.send(flow.words, word, key=key)
    until_left(rig, 1)  # what is slow has not held up the others
    rig.send(flow.words, "4", key="bob")
    until_left(rig, 2)
    until_standing(rig, 2)

    kill(rig, "worker/0")
    rig.send(flow.words, "5", key="bob")
    until_left(rig, 3)
    flow.go.touch()

    sent = rig.sent(flow.said)
    assert sorted(sent) == ["2", "3", "4", "5", "slow 1"]
    assert [word for word in sent if word in ("slow 1", "2")] == ["slow 1", "2"]
    assert rig.run_of("ada").state(flow.model) == ["slow 1", "2"]
    assert rig.run_of("bob").state(flow.model) == ["3", "4", "5"]
    assert flow.notes.count("called slow 1") == 2, "the next owner has it called again"
    assert rig.dead_letters() == []


@pytest.mark.parametrize("fuse", [None, "all"])
def test_G10_a_call_that_kills_its_process_after_it_was_left_to_itself_is_a_dead_letter(
    begin: Begin, fuse: Fuse
) -> None:
    rig, flow = begin(fuse, asking.asked)
    for key, word in (("ada", "deadly"), ("ada", "2"), ("bob", "long 3"), ("bob", "4"), ("cyd", "5")):
        rig.send(flow.words, word, key=key)
    until_left(rig, 1)

    async def is_dead() -> bool:
        return sum([len(await rig._store.dead_letters(number)) for number in range(rig.partitions)]) > 0

    rig.wait(is_dead, "it is a dead letter")

    (letter,) = rig.dead_letters()
    assert (letter.key, letter.node, letter.reason) == ("ada", "model", "poison")
    assert letter.error.startswith("ended its process 3 times")
    assert flow.notes.count("called deadly") == 3
    assert sorted(rig.sent(flow.said)) == ["2", "4", "5", "long 3"]
    states = {key: rig.run_of(key).state(flow.model) for key in ("ada", "bob", "cyd")}
    assert states == {"ada": ["2"], "bob": ["long 3", "4"], "cyd": ["5"]}


@pytest.mark.parametrize("fuse", [None, "all"])
def test_G09_a_terminate_cancels_the_call_that_is_under_way_and_others_count_once(begin: Begin, fuse: Fuse) -> None:
    def send(rig: ClusterRig, flow: Asking) -> None:
        ada, bob, cyd = of_one_partition(rig, 3)
        for key, word in ((ada, "0"), (ada, "slow 1"), (bob, "slow 2"), (cyd, "3")):
            rig.send(flow.words, word, key=key)

    rig, flow = begin(fuse, asking.awaited, send)
    keys = of_one_partition(rig, 3)
    rig.wait(lambda: noted(flow, "called slow 1", "called slow 2"), "they are under way")

    run = terminate(rig, keys[0])

    assert run["result"] == b'"enough"'
    assert run["node:model"] == b'["0"]'
    assert [note for note in flow.notes if note.startswith("cancelled")] == ["cancelled slow 1"]
    flow.go.touch()
    assert sorted(rig.sent(flow.said)) == ["0", "3", "slow 2"]
    assert flow.notes.count("called slow 2") == 1
    assert rig.run_of(keys[1]).state(flow.model) == ["slow 2"]
    assert rig.dead_letters() == []


def test_G09_a_terminate_does_not_wait_for_a_call_that_can_not_be_cancelled(begin: Begin) -> None:
    rig, flow = begin(None, asking.stubborn)
    keys = of_one_partition(rig, 2)
    rig.send(flow.words, "0", key=keys[0])
    until_left(rig, 1)
    rig.send(flow.words, "slow 1", key=keys[0])
    rig.wait(lambda: noted(flow, "called slow 1"), "it is under way")
    rig.send(flow.words, "2", key=keys[1])

    run = terminate(rig, keys[0])

    assert (run["result"], run["node:model"]) == (b'"enough"', b'["0"]')
    flow.go.touch()  # it returns now, and nobody hears of it
    assert sorted(rig.sent(flow.said)) == ["0", "2"]
    assert rig.run_of(keys[0]).state(flow.model) == ["0"]
    assert rig.run_of(keys[1]).state(flow.model) == ["2"]


@pytest.mark.parametrize("fuse", [None, "all"])
def test_G09_a_terminate_does_not_wait_for_a_batch_and_its_other_events_count_once(begin: Begin, fuse: Fuse) -> None:
    def send(rig: ClusterRig, flow: Asking) -> None:
        ada, bob = of_one_partition(rig, 2)
        rig.send(flow.words, "slow 1", key=ada)
        rig.send(flow.words, "slow 2", key=bob)

    rig, flow = begin(fuse, asking.batched, send)
    ada, bob = of_one_partition(rig, 2)
    rig.wait(lambda: noted(flow, "called slow 1"), "the batch is under way")

    run = terminate(rig, ada)

    assert (run["result"], run.get("node:model")) == (b'"enough"', None)
    flow.go.touch()
    assert rig.sent(flow.said) == ["slow 2"]
    assert rig.run_of(bob).state(flow.model) == ["slow 2"]
    assert not [note for note in flow.notes if note.startswith("cancelled")]
    rig.send(flow.words, "3", key=bob)
    assert rig.sent(flow.said) == ["slow 2", "3"]
    assert rig.run_of(bob).state(flow.model) == ["slow 2", "3"]


async def noted(flow: Asking, *notes: str) -> bool:
    return set(notes) <= set(flow.notes)


def of_one_partition(rig: ClusterRig, count: int) -> list[str]:
    """Keys that are of the same partition: their events go together."""
    keys = [f"key-{number}" for number in range(50)]
    return [key for key in keys if rig._home(key) == rig._home(keys[0])][:count]
