"""Dead letters are kept for a while, and so many: what goes is counted and named."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace import Context, Event, KafkaSource, Retention, Workflow, WorkflowError
from headrace.actors.letter_keeping import EVERY, LetterKeeping
from headrace.testing import Harness
from headrace.workflows.commit import Commit, DeadLetter
from headrace.workflows.handles import SourceHandle
from headrace.workflows.memory_store import MemoryStore

DAY = timedelta(days=1)


def fail(event: Event[int], ctx: Context) -> None:
    raise RuntimeError(f"no {event.data}")


def failing(retention: Retention) -> tuple[Workflow, SourceHandle[int]]:
    workflow = Workflow("numbers", partitions=1, dead_letters=retention)
    numbers = workflow.source(KafkaSource("numbers", int))
    numbers.to(workflow.node(fail))
    return workflow, numbers


def test_letters_are_gone_once_they_are_too_old() -> None:
    workflow, numbers = failing(Retention(age=3 * DAY))
    with Harness(workflow) as harness:
        harness.send(numbers, 1, key="a")
        harness.advance(2 * DAY)
        harness.send(numbers, 2, key="a")
        harness.advance(2 * DAY)

        assert [letter.error for letter in harness.dead_letters] == ["RuntimeError: no 2"]


def test_the_newest_letters_stay() -> None:
    workflow, numbers = failing(Retention(count=2))
    with Harness(workflow) as harness:
        for number in range(5):
            harness.send(numbers, number, key="a")

        assert [letter.error for letter in harness.dead_letters] == ["RuntimeError: no 3", "RuntimeError: no 4"]


def test_another_version_may_keep_others() -> None:
    workflow, numbers = failing(Retention())
    narrow, later_numbers = failing(Retention(count=1))
    with Harness(workflow) as harness:
        for number in range(3):
            harness.send(numbers, number, key="a")
        with Harness(narrow, on=harness) as later:
            later.send(later_numbers, 3, key="a")

            assert [letter.error for letter in later.dead_letters] == ["RuntimeError: no 3"]
        assert len(harness.dead_letters) == 3


@pytest.mark.parametrize(
    ("retention", "said"),
    [
        (Retention(age=timedelta(0)), "age=datetime.timedelta(0) is no time to keep letters"),
        (Retention(count=0), "count=0 is no cap: write a whole number from 1, or None"),
        (Retention(count=10**9), "count=1,000,000,000 is more than the 10,000,000"),
        (Retention(bytes=1000), "bytes=1000 is no cap: write a whole number from 4,194,304, or None"),
        (7, "7 is no Retention"),
    ],
)
def test_limits_that_are_none_are_refused(retention: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match="dead_letters=") as refused:
        failing(retention)[0].compile()

    assert said in str(refused.value)


class Awaitable:
    """The store in memory, as a worker asks it; counts how often."""

    def __init__(self) -> None:
        self.memory = MemoryStore(retention=Retention(age=DAY, count=2))
        self.asked = 0

    async def trim_letters(self, partition: int, owner: str) -> Any:
        self.asked += 1
        return self.memory.trim_letters(partition, owner)

    def bury(self, owner: str, sequence: int, count: int) -> None:
        letter = DeadLetter(id="1", key="", source="s", node=None, reason="decode", error="")
        self.memory.commit(0, owner, Commit(sequence, dead=[letter] * count))


async def test_what_was_dropped_is_counted_from_the_time_that_the_partition_is_ours() -> None:
    store, told, now = Awaitable(), list[tuple[str, int]](), [0.0]
    owner = store.memory.acquire(0, term=1, placement=1, worker="w").owner
    store.bury(owner, 1, 5)
    keeping = LetterKeeping(0, store, lambda cap, count: told.append((cap, count)), lambda: now[0])

    await keeping.begin(owner)
    store.bury(owner, 2, 1)
    with capture_logs() as logs:
        await keeping.look(owner)

    assert told == [("count", 1)]
    assert keeping.dropped == 1
    assert [(log["event"], log["over"], log["count"], log["log_level"]) for log in logs] == [
        ("dead_letters_dropped", "count", 1, "warning")
    ]


async def test_age_is_looked_at_now_and_then() -> None:
    store, told, now = Awaitable(), list[tuple[str, int]](), [0.0]
    owner = store.memory.acquire(0, term=1, placement=1, worker="w").owner
    keeping = LetterKeeping(0, store, lambda cap, count: told.append((cap, count)), lambda: now[0])
    await keeping.begin(owner)
    store.bury(owner, 1, 2)
    await keeping.look(owner)
    asked = store.asked
    store.memory.now += 2 * DAY // timedelta(milliseconds=1)

    await keeping.look(owner)
    assert store.asked == asked

    now[0] += EVERY
    await keeping.look(owner)
    assert (told, keeping.kept.count) == ([("age", 2)], 0)


async def test_another_owner_drops_them() -> None:
    store, told = Awaitable(), list[tuple[str, int]]()
    owner = store.memory.acquire(0, term=1, placement=1, worker="w").owner
    keeping = LetterKeeping(0, store, lambda cap, count: told.append((cap, count)))
    await keeping.begin(owner)
    newer = store.memory.acquire(0, term=1, placement=2, worker="v").owner
    store.bury(newer, 1, 5)

    await keeping.look(owner)

    assert told == []
