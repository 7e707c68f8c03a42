"""F1, F3, G1, G3: processes are killed or suspended under load; nothing is lost, nothing is applied twice.

Each test prints how long it took until every partition committed again. Mechanism: results are final at the
worker, calls are sent again, positions are committed with the states.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Broker, Topics
from headrace.actors.dead_letters import replay_letters
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.workflows.commit import DeadLetter
from ledger import PARTITIONS
from rig import Rig, run, send_signal
from waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def rig(ray_cluster: LocalRay, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two workers, three nodes, one spare; all tests hit the same deployment, one after the other."""
    folder = tmp_path_factory.mktemp("killed")
    topics = Topics(kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    with (
        Valkey(folder=folder / "valkey") as valkey,
        Rig(folder, kafka.bootstrap, valkey.url, readings, alerts, workers=2) as rig,
    ):
        yield rig
    topics.remove()


@pytest.mark.parametrize(
    "names",
    [
        ("classify/0",),
        ("worker/0",),
        ("supervisor",),
        ("alarm/0",),
        ("worker/1", "classify/0"),
        ("worker/0", "worker/1"),
        ("worker/0", "supervisor"),
        ("classify/0", "damp/0", "alarm/0"),
    ],
    ids=" and ".join,
)
def test_F01_whoever_is_killed_under_load_nothing_is_lost_or_applied_twice(rig: Rig, names: tuple[str, ...]) -> None:
    rig.ready()
    with rig.load:
        rig.hit(*names)

    rig.check()


@pytest.mark.parametrize("name", ["classify/0", "worker/1", "supervisor"])
def test_F03_whoever_is_suspended_under_load_is_replaced(rig: Rig, name: str) -> None:
    pid = rig.pid(name)
    with rig.load:
        rig.hit(name, by=signal.SIGSTOP)

    rig.check()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the suspended process is gone")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_F01_processes_are_hit_again_and_again_before_all_are_back(rig: Rig, seed: int) -> None:
    draw = random.Random(seed)
    roles = ["worker/0", "worker/1", "classify/0", "damp/0", "alarm/0", "supervisor"]
    rig.ready()
    rig.load.send(20_000)
    suspended: list[int] = []
    with rig.load:
        for _ in range(10):
            before = run(rig.sequences())
            for name in draw.sample(roles, k=2):
                how = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
                pid = rig.hit_if_there(name, how)
                if pid is not None and how == signal.SIGSTOP:
                    suspended.append(pid)
            rig.wait_for_commits([sequence if draw.random() < 0.5 else -1 for sequence in before])
            while suspended and draw.random() < 0.6:
                send_signal(suspended.pop(0), signal.SIGCONT)  # as a zombie, if it was replaced
    for pid in suspended:
        send_signal(pid, signal.SIGCONT)

    rig.check()


def test_G04_dead_letters_go_back_once_each_whoever_is_killed_meanwhile(rig: Rig) -> None:
    """All of them stop again, so there must be as many as without it; half of each batch is asked for twice."""
    rig.ready()
    replayed = 0
    with rig.load:
        for name in ("worker/0", "classify/0", "worker/1"):
            replayed += run(send_back(rig))
            rig.hit(name)

    rig.check()
    ids = Counter(letter.id for letters in run(dead_letters(rig)) for _, letter in letters)
    assert max(ids.values()) == 1
    assert replayed > len(ids), "some have gone back more than once"


async def send_back(rig: Rig) -> int:
    """All dead letters there are; how many went."""
    places = [(number, entry) for number, letters in enumerate(await dead_letters(rig)) for entry, _ in letters]
    async with Store(rig.redis_url, rig.deployment.workflow, connections=4) as store:
        asked = [replay_letters(store, part, who="test", why="all") for part in (places, places[::2])]
        counts = await asyncio.gather(*asked)
    assert sum(done.replayed for done in counts) == len(places)
    return len(places)


async def dead_letters(rig: Rig) -> list[list[tuple[str, DeadLetter]]]:
    """By partition."""
    async with Store(rig.redis_url, rig.deployment.workflow, connections=2) as store:
        return [await store.dead_letters(number, limit=100_000) for number in range(PARTITIONS)]
