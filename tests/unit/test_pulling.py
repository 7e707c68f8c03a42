"""What the next epoch of a partition is made of, where requests come beside a backlog."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace import BatchNode, Context, Event, KafkaSource, RequestSource, Workflow
from headrace.actors.pulling import IN_FLIGHT, Pulling
from headrace.actors.sizing import Sizing
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records


class Ask(msgspec.Struct, frozen=True):
    key: str


class Score(BatchNode[Ask, None, None]):
    def process(self, events: Sequence[Event[Ask]], ctxs: Sequence[Context]) -> list[None]:
        return [None for _ in events]


def plan(delay: timedelta = timedelta(0)) -> Plan:
    workflow = Workflow("beside")
    node = workflow.node(Score(), batch_delay=delay)
    workflow.source(RequestSource(Ask)).to(node)
    workflow.source(KafkaSource("backlog", Ask, key="key")).to(node)
    return workflow.compile()


def one(origin: str) -> list[Records]:
    return [Records(0, origin, ["0-1"], [0], [b"k"], [b"{}"], "0-1")]


class Feed:
    """A backlog without an end, and requests as many as there are."""

    def __init__(self) -> None:
        self.requests = 0
        self.limits: list[int] = []
        """How many events each epoch of the backlog might have."""

    def has_requests(self, partition: int) -> bool:
        return self.requests > 0

    def pull_requests(self, partition: int, limit: int) -> list[Records]:
        self.requests -= 1
        return one("inbox")

    def pull(self, partition: int, limit: int) -> list[Records]:
        self.limits.append(limit)
        return [*(self.pull_requests(partition, limit) if self.requests else []), *one("backlog/0")]

    def pull_sent(self, partition: int, limit: int) -> list[Records]:
        return one("internal")


class Core:
    """A partition with room for three epochs, and one more of requests."""

    def __init__(self) -> None:
        self.epochs: list[object] = []
        self.larger = 1

    @property
    def wants_records(self) -> bool:
        return len(self.epochs) < 3

    @property
    def wants_requests(self) -> bool:
        return len(self.epochs) < 4


class Partition:
    """As its driver pulls."""

    def __init__(self, plan: Plan) -> None:
        self.feed, self.core, self.sizing = Feed(), Core(), Sizing()
        shared: Any = SimpleNamespace(feed=self.feed, sizing=self.sizing, plan=plan)
        self.pulling = Pulling(0, shared, lambda: None)

    def next(self, *, only_sent: bool = False) -> list[str]:
        """Origins of the next epoch, which begins."""
        core: Any = self.core
        if not self.pulling.may_begin(core):
            return []
        pulled = self.pulling.pull(core, only_sent=only_sent, draining=False)
        if pulled:
            self.core.epochs.append(pulled)
            self.pulling.begun(pulled)
        return [records.origin for records in pulled]

    def commit(self) -> None:
        epoch: Any = self.core.epochs.pop(0)
        self.pulling.committed({records.origin: records.after for records in epoch})


@pytest.fixture
def partition() -> Partition:
    return Partition(plan())


def test_requests_go_by_themselves_and_the_epoch_behind_them_is_for_all(partition: Partition) -> None:
    partition.feed.requests = 2

    assert partition.next() == ["inbox"]
    partition.commit()
    assert partition.next() == ["inbox", "backlog/0"]


def test_a_request_need_not_wait_until_the_backlogs_epochs_are_committed(partition: Partition) -> None:
    assert [partition.next() for _ in range(4)] == [["backlog/0"]] * 3 + [[]]

    partition.feed.requests = 2

    assert [partition.next() for _ in range(2)] == [["inbox"], []]


def test_epochs_are_as_large_as_the_core_lets_them_be_but_short_while_requests_come(partition: Partition) -> None:
    partition.next()
    partition.core.larger = 3
    partition.next()
    once, thrice = partition.feed.limits
    assert thrice == 3 * once

    partition.commit()
    partition.feed.requests = 1
    assert partition.next() == ["inbox"]
    partition.commit()
    partition.commit()
    assert partition.next() == ["backlog/0"]
    assert partition.feed.limits[-1] < once


def test_while_requests_come_a_backlog_has_fewer_epochs_in_flight(partition: Partition) -> None:
    partition.feed.requests = 1
    assert partition.next() == ["inbox"]
    partition.commit()

    assert [partition.next() for _ in range(3)] == [["backlog/0"]] * IN_FLIGHT + [[]] * (3 - IN_FLIGHT)

    partition.feed.requests = 1
    assert partition.next() == ["inbox"]


def test_a_partition_is_urgent_from_a_request_read_until_it_is_committed(partition: Partition) -> None:
    seen = [partition.pulling.urgent]
    partition.feed.requests = 1
    seen.append(partition.pulling.urgent)
    partition.next()
    seen.append(partition.pulling.urgent)
    partition.commit()
    seen.append(partition.pulling.urgent)

    assert seen == [False, True, True, False]


def test_one_that_is_let_go_of_is_urgent_no_more(partition: Partition) -> None:
    partition.feed.requests = 1
    partition.next()

    partition.pulling.drop()

    assert not partition.pulling.urgent


async def test_where_batch_nodes_wait_for_company_requests_do_too() -> None:
    partition = Partition(plan(timedelta(hours=1)))
    partition.feed.requests = 1

    assert partition.next() == []
    assert partition.pulling.held == 2
    assert partition.pulling.waits


def test_while_outputs_can_not_leave_no_requests_are_taken(partition: Partition) -> None:
    partition.feed.requests = 1

    assert partition.next(only_sent=True) == ["internal"]
    assert partition.feed.requests == 1
