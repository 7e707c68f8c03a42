"""Events that are tried again within their epoch: who is woken for them, and what a failed attempt leaves behind."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import Context, Event, KafkaSource, Linear, Node, Retry, Workflow
from headrace.workflows.commit import Answer
from headrace.workflows.instructions import Limits, Load, Recall
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save

NOW = 1_700_000_000_000


class Order(msgspec.Struct, frozen=True):
    key: str
    fails: int = 0


class Charge(Node[Order, None, None]):
    """Fails so many times."""

    def process(self, event: Event[Order], ctx: Context) -> None:
        if ctx.attempt <= event.data.fails:
            raise OSError("not now")


class Basket(msgspec.Struct):
    key: str
    fails: int
    items: list[str]


class Fill(Node[Basket, None, None]):
    """Changes what it gets before it fails."""

    def __init__(self) -> None:
        self.had: list[list[str]] = []

    def process(self, event: Event[Basket], ctx: Context) -> None:
        event.data.items.append(f"attempt {ctx.attempt}")
        self.had.append(list(event.data.items))
        if ctx.attempt <= event.data.fails:
            raise OSError("not now")


class Owner:
    """A partition whose time goes on only by its alarms: nothing looks in between."""

    def __init__(
        self, retry: Retry, node: Any = None, type: Any = Order, *, inside: bool = True, **limits: int
    ) -> None:
        workflow = Workflow("orders", partitions=1)
        workflow.source(KafkaSource("orders", type, key="key")).to(workflow.node(node or Charge(), retry=retry))
        plan = workflow.compile(fuse="all" if inside else None)
        self.store, self.runner, self.now, self.read = MemoryStore(history=10), UnitRunner(plan, 0), NOW, 0
        head = self.store.acquire(0, term=1, placement=1, worker="w")
        self.core = PartitionCore(plan, 0, 1, head, Limits(soon_tick=1, **limits))

    def offer(self, *orders: Order | Basket) -> None:
        values: list[bytes | None] = [msgspec.json.encode(order) for order in orders]
        offsets = list(range(self.read, self.read + len(values)))
        self.read += len(values)
        self.core.offer(
            [Records(0, "orders/0", offsets, [NOW] * len(values), [None] * len(values), values, str(self.read))],
            self.now,
        )
        self.go_on()

    def go_on(self) -> None:
        """Whatever the core asks for is done at once."""
        todo: deque[Any] = deque(self.core.instructions())
        while todo:
            asked = todo.popleft()
            if isinstance(asked, Load):
                self.core.loaded(asked.keys, self.store.load(0, asked.keys), self.now)
            elif isinstance(asked, Recall):
                blobs = self.store.parked(0, [ticket.field for ticket in asked.tickets])
                self.core.recalled(asked.tickets, blobs, self.now)
            elif isinstance(asked, Save):
                assert self.store.commit(0, self.core.owner, asked.commit) is Answer.APPLIED
                assert self.core.committed(Answer.APPLIED, self.now)
            else:
                self.core.finished(self.runner.run(asked.call, asked.data), self.now)
            todo += self.core.instructions()

    def alarm(self) -> bool:
        """Let time go on until the core is to be woken; False if nobody wakes it."""
        due = self.core.wakes_at
        if due is None or due <= self.now:
            return False
        self.now = due
        self.core.advance(due)
        self.go_on()
        return True


def test_what_is_due_and_has_to_wait_for_an_epoch_does_not_hide_what_that_epoch_waits_for() -> None:
    # given: two events stand still, due one millisecond after the other; an epoch waits, and others lie behind it
    waits = Retry(2, backoff=Linear(timedelta(milliseconds=200), timedelta(0)), jitter=0)
    owner = Owner(waits, soon=1000, soon_from=2, epochs_in_flight=1)
    owner.offer(Order("first", fails=1))
    owner.now += 1
    owner.offer(Order("second", fails=1))
    owner.now += 100
    owner.offer(Order("third", fails=1), Order("fourth"))
    while owner.core.wants_records:
        owner.offer(Order("others"))

    # when: time goes on by alarms only
    while owner.alarm():
        pass

    # then: all is done
    assert owner.core.idle
    assert (owner.core.parked, owner.core.events_done) == (0, owner.read)


def test_an_attempt_does_not_see_what_the_one_before_did_to_its_data() -> None:
    fill = Fill()
    owner = Owner(Retry(3, backoff=Linear(timedelta(milliseconds=10))), fill, Basket, soon=1000, soon_from=1)
    owner.offer(Basket("ada", 2, ["apple"]))

    while owner.alarm():
        pass

    assert fill.had == [["apple", "attempt 1"], ["apple", "attempt 2"], ["apple", "attempt 3"]]
    assert owner.core.soon.kept == 2, "they waited in memory"


def test_what_waits_for_an_epoch_before_has_not_waited_too_long_for_that_nor_does_it_wait_for_ever() -> None:
    # given: an event of each of six epochs fails at once; and one of a run that does so in each of them, in turn
    waits = Retry(2, backoff=Linear(timedelta(milliseconds=200), timedelta(0)), jitter=0)
    owner = Owner(waits, soon=250, soon_from=2, epochs_in_flight=6)
    for name in ("bob", "cyd", "dan", "eva", "fay", "gus"):
        owner.offer(Order("ada", fails=1), Order(name, fails=1))

    # when: the second one of the run is tried again after 400 ms, the fifth after 1,000, the sixth would be after 1,200
    while owner.alarm():
        pass

    # then
    assert owner.core.soon.kept == 11, "a second after the first failure of its epoch, the last one was parked"
    assert owner.core.idle
    assert (owner.core.parked, owner.core.events_done) == (0, owner.read)


@pytest.mark.parametrize(("inside", "more", "larger"), [(True, 9, 1), (False, 2, 3)])
def test_while_something_waits_calls_to_other_processes_are_larger_rather_than_more(
    inside: bool, more: int, larger: int
) -> None:
    waits = Retry(2, backoff=Linear(timedelta(milliseconds=200)))
    owner = Owner(waits, inside=inside, soon=1000, soon_from=2, epochs_in_flight=1)
    assert owner.core.larger == 1

    owner.offer(Order("ada", fails=1), Order("bob", fails=1))

    assert (owner.core.soon.more_epochs, owner.core.larger) == (more, larger)
    while owner.alarm():
        pass
    assert (owner.core.soon.more_epochs, owner.core.larger) == (0, 1)


def test_no_more_epochs_begin_while_what_waits_does_so_for_an_epoch_before() -> None:
    owner = Owner(Retry(2, backoff=Linear(timedelta(milliseconds=200))), soon=1000, soon_from=2, epochs_in_flight=1)
    owner.offer(Order("ada", fails=1), Order("bob", fails=1))
    assert owner.core.wants_records, "there is nothing to do for the first one"
    owner.offer(Order("cyd"), Order("dan"))
    assert owner.core.wants_records, "nor for the second one, whose commit waits"
    owner.offer(Order("ada"), Order("bob"), Order("ada"))

    assert not owner.core.wants_records
    while owner.alarm():
        pass
    assert owner.core.idle
    assert (owner.core.soon.kept, owner.core.events_done) == (2, owner.read)
