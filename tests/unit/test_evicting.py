"""`parked_full="dead-letter"`: sources go on while too many events stand still; those that stand longest make room."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from driving import NOW, World
from headrace import Context, Event, KafkaSource, Linear, Node, Retry, Workflow, WorkflowError
from headrace.workflows.commit import Answer, Commit
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.parking import Parked, Parking, Ticket, encode, kept_before
from headrace.workflows.parking import decode as decode_parked
from headrace.workflows.reentry import roots_and_paths
from headrace.workflows.timers import TOTAL, Due
from model import Graph

WORLDS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 25
PARKED, OF_KEY = 12, 5


class Job(msgspec.Struct, frozen=True):
    key: str
    number: int
    fails: int
    """So many times; then it passes."""


class Done(msgspec.Struct):
    numbers: list[int] = []


class Work(Node[Job, Done, None]):
    """Passes jobs, some of them later."""

    def process(self, event: Event[Job], ctx: Context[Done]) -> None:
        if ctx.attempt <= event.data.fails:
            raise OSError(f"job {event.data.number}")
        ctx.state.numbers.append(event.data.number)


def graph_of(when_full: Literal["pause", "dead-letter"], *, serial: bool = False) -> Graph:
    workflow = Workflow("jobs", partitions=1, parked_full=when_full, state=Done if serial else None)
    jobs = workflow.source(KafkaSource("tokens0", Job, key="key"))
    others = workflow.source(KafkaSource("tokens1", Job, key="key"))
    retry = Retry(4, on=(OSError,), backoff=Linear(timedelta(seconds=10), timedelta(seconds=10)), jitter=0)
    work = workflow.node(Work(), retry=retry)
    jobs.to(work)
    others.to(work)
    return Graph(workflow.compile(), [])


def log_of(draw: random.Random, count: int, first: int = 0) -> list[tuple[int, bytes | None]]:
    fails = [0, 0, 1, 9]
    return [
        (0, msgspec.json.encode(Job(draw.choice("abcd"), first + number, draw.choice(fails))))
        for number in range(count)
    ]


class Found:
    """What became of all jobs."""

    def __init__(self, store: MemoryStore) -> None:
        self.done: dict[str, list[int]] = defaultdict(list)
        for key in store.run_keys(0):
            self.done[key] = msgspec.json.decode(store.run(0, key).get("node:work", b'{"numbers":[]}'))["numbers"]
        self.dead: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for letter in store.dead_letters(0):
            self.dead[letter.key].append((letter.reason, msgspec.json.decode(letter.data or b"", type=Job).number))
        self.standing: dict[str, list[int]] = defaultdict(list)
        for blob in store.parked(0, list(store.parked_fields(0))):
            assert blob is not None
            parked = decode_parked(blob)
            self.standing[parked.key].append(msgspec.json.decode(parked.data or b"", type=Job).number)

    def all_of(self, key: str) -> list[int]:
        return [*self.done[key], *(number for _, number in self.dead[key]), *self.standing[key]]


def look_after_each_commit(world: World, seed: int) -> None:
    """Whoever comes next finds the store as it is then: nothing may have passed what still stands there."""
    commit = world.store.commit

    def commit_and_look(partition: int, owner: str, what: Commit) -> Answer:
        answer = commit(partition, owner, what)
        found = Found(world.store)
        for key, numbers in found.standing.items():
            assert max(found.done[key], default=-1) < min(numbers), f"seed {seed}: {key} was overtaken"
        return answer

    world.store.commit = commit_and_look  # type: ignore[method-assign]


def check(seed: int, *, serial: bool) -> int:
    """Jobs come, time goes on, more come. Returns how many had to make room."""
    draw = random.Random(seed)
    graph = graph_of("dead-letter", serial=serial)
    parked, of_key = draw.choice([1, 2, PARKED]), draw.choice([OF_KEY, 100])
    world = World(graph, [], draw, faults=seed % 3 != 0, parked=parked, parked_of_key=of_key)
    world.orderly = False
    look_after_each_commit(world, seed)
    sent: list[tuple[int, bytes | None]] = []
    for _ in range(draw.randint(1, 3)):
        log = log_of(draw, draw.randint(5, 60), len(sent))
        sent += log
        world.go_on(log)
        world.run()  # raises if the sources stand still
        found = Found(world.store)
        assert sum(map(len, found.standing.values())) < parked, f"seed {seed}"
        assert all(len(numbers) < of_key for numbers in found.standing.values()), f"seed {seed}"
        for _ in range(draw.randint(0, 3)):
            if not world.tick():
                break
            world.run()
    found = Found(world.store)
    jobs = [msgspec.json.decode(value or b"", type=Job) for _, value in sent]
    for key in "abcd":
        numbers = [job.number for job in jobs if job.key == key]
        assert sorted(found.all_of(key)) == numbers, f"seed {seed}: each job of {key} is in one place"
        assert found.done[key] == sorted(found.done[key]), f"seed {seed}: in order"
        dead = [number for _, number in found.dead[key]]
        assert dead == sorted(dead), f"seed {seed}: the oldest go first"
        gone = [number for reason, number in found.dead[key] if reason == "parked-full"]
        if gone and found.standing[key]:
            assert max(gone) < min(found.standing[key]), f"seed {seed}: what stands behind stays"
    return sum(reason == "parked-full" for rows in found.dead.values() for reason, _ in rows)


@pytest.mark.parametrize("serial", [False, True])
def test_sources_go_on_and_each_job_ends_up_in_one_place_in_order(serial: bool) -> None:
    gone = sum(check(seed, serial=serial) for seed in range(WORLDS))

    assert gone > WORLDS


def test_by_default_nothing_new_is_taken_and_nothing_is_lost() -> None:
    draw = random.Random(1)
    world = World(graph_of("pause"), log_of(draw, 500), draw, faults=False, parked=PARKED, parked_of_key=OF_KEY)
    world.orderly = False

    with pytest.raises(AssertionError, match="stands still"):
        world.run(5_000)

    assert world.core.parking_full
    assert not any(letter.reason == "parked-full" for letter in world.store.dead_letters(0))


def test_a_letter_says_what_it_had_failed_by_and_can_go_back() -> None:
    draw = random.Random(2)
    log: Any = [(0, msgspec.json.encode(Job("a", number, 9))) for number in range(OF_KEY)]
    world = World(graph_of("dead-letter"), log, draw, faults=False, parked=PARKED, parked_of_key=OF_KEY)
    world.orderly = False

    world.run()

    (letter,) = world.store.dead_letters(0)
    assert (letter.reason, letter.node, letter.attempts, letter.id) == ("parked-full", "work", 1, "tokens0/0/0")
    assert letter.error == (
        "too many events stood still, and it was the one that did so longest, after 1 attempts, the last one failed by:"
        " OSError: job 0"
    )
    assert letter.reentry is not None
    assert (letter.reentry.node, letter.reentry.visits) == ("work", 1)
    assert world.core.events_done == OF_KEY


class Order(msgspec.Struct, frozen=True):
    key: str
    jobs: int


def split(event: Event[Order], ctx: Context) -> list[Job]:
    return [Job(event.data.key, number, 9) for number in range(event.data.jobs)]


def test_a_letter_of_what_a_node_has_made_says_which_event_of_the_source_it_is_of() -> None:
    workflow = Workflow("jobs", partitions=1, parked_full="dead-letter")
    orders = workflow.source(KafkaSource("tokens0", Order, key="key"))
    splitting = workflow.node(split)
    orders.to(splitting)
    splitting.to(workflow.node(Work(), retry=Retry(4, on=(OSError,), backoff=Linear(timedelta(seconds=10)), jitter=0)))
    graph = Graph(workflow.compile(), [])
    log: Any = [(0, msgspec.json.encode(Order("a", OF_KEY)))]
    world = World(graph, log, random.Random(5), faults=False, parked=PARKED, parked_of_key=OF_KEY)
    world.orderly = False

    world.run()

    (letter,) = world.store.dead_letters(0)
    assert (letter.reason, letter.id) == ("parked-full", "tokens0/0/0.0")
    assert letter.reentry is not None
    assert letter.reentry.depth == 1
    assert roots_and_paths([letter.id], letter.reentry.depth) == (["tokens0/0/0"], [(0,)])


def test_the_next_one_of_the_queue_goes_on_at_once() -> None:
    draw = random.Random(3)
    log: Any = [(0, msgspec.json.encode(Job("a", number, 9 if number == 0 else 0))) for number in range(OF_KEY)]
    world = World(graph_of("dead-letter"), log, draw, faults=False, parked=PARKED, parked_of_key=OF_KEY)
    world.orderly = False

    world.run()

    assert world.now == NOW
    assert Found(world.store).done["a"] == [1, 2, 3, 4]


def test_a_message_that_is_kept_for_a_wait_is_not_chosen() -> None:
    kept = Ticket(1, 1, kept_before("approvals"), "a")
    stands = Ticket(2, 2, "n", "a")
    parking = Parking(serial=False, last=2, fields=[kept.field, stands.field])

    assert parking.surplus(0, 0) == [stands]


def test_what_falls_due_is_no_event_that_could_make_room() -> None:
    draw = random.Random(4)
    log: Any = [(0, msgspec.json.encode(Job("a", number, 9))) for number in range(OF_KEY)]
    world = World(graph_of("dead-letter"), log, draw, faults=False, parked=PARKED, parked_of_key=OF_KEY)
    due = Due(TOTAL, "a", 1)
    firing = Parked(id=due.id(NOW), key="a", source="timers", time=NOW, data=b"null", timer=due.member)
    world.store._of(0).parked[Ticket(0, 0, "", "a").field] = encode(firing)
    world.store._of(0).parked[Ticket(0, 1, "", "b").field] = encode(firing)
    world.limits = {"parked": 1, "parked_of_key": OF_KEY}
    world.orderly = False
    world.acquire()

    world.run()

    letters = world.store.dead_letters(0)
    assert [letter.reason for letter in letters] == ["parked-full"] * OF_KEY
    assert firing.id not in {letter.id for letter in letters}


def test_a_way_that_is_none_is_refused() -> None:
    workflow: Any = Workflow("jobs", parked_full="wait")  # type: ignore[arg-type]

    with pytest.raises(
        WorkflowError, match=r"parked_full='wait' is no way to go on\. Write one of 'pause', 'dead-letter'"
    ):
        workflow.compile()


def test_a_workflow_with_a_join_does_not_make_room() -> None:
    workflow = Workflow("jobs", parked_full="dead-letter")
    jobs = workflow.source(KafkaSource("jobs", Job, key="key"))
    one, other = workflow.node(pass_on, name="one"), workflow.node(pass_on, name="other")
    jobs.to(one, other)
    workflow.join(one, other).to(None)

    with pytest.raises(WorkflowError, match="which would wait for branches that have made room"):
        workflow.compile()


def pass_on(event: Event[Job], ctx: Context) -> Job:
    return event.data


def queues(*lengths: int) -> Parking:
    """Queues of keys `k0`, `k1` ...; their events came in turn."""
    tickets: list[Ticket] = []
    for place in range(max(lengths)):
        for key, length in enumerate(lengths):
            if place < length:
                tickets.append(Ticket(len(tickets) + 1, len(tickets) + 1, "n", f"k{key}"))
    return Parking(serial=False, last=len(tickets), fields=[ticket.field for ticket in tickets])


@pytest.mark.parametrize(
    ("lengths", "most", "of_queue", "gone"),
    [
        ((3, 2), 10, 10, []),
        ((4, 1), 10, 2, [1, 3]),
        ((3, 3), 4, 10, [1, 2]),
        ((5, 1, 1), 3, 3, [1, 2, 3, 4]),
    ],
)
def test_the_oldest_are_chosen(lengths: tuple[int, ...], most: int, of_queue: int, gone: list[int]) -> None:
    assert [ticket.major for ticket in queues(*lengths).surplus(most, of_queue)] == gone


def test_what_is_under_way_is_not_chosen_nor_what_stands_behind_it() -> None:
    parking = queues(3, 2)
    parking.take(NOW, 1, 1)

    assert [ticket.key for ticket in parking.surplus(0, 0)] == ["k1", "k1"]
