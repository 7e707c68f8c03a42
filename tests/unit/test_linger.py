"""Batch nodes with `batch_delay`: records wait for company, but not longer than asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from headrace import BatchNode, Context, Event, KafkaSource, Workflow
from headrace.actors.linger import Linger, joined
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records, Reentry


class Item(msgspec.Struct, frozen=True):
    key: str


class Score(BatchNode[Item, None, None]):
    def process(self, events: Sequence[Event[Item]], ctxs: Sequence[Context]) -> list[None]:
        return [None for _ in events]


def plan(batch_size: int, batch_delay: timedelta) -> Plan:
    workflow = Workflow("linger")
    source = workflow.source(KafkaSource("items", Item, key="key"))
    source.to(workflow.node(Score(), batch_size=batch_size, batch_delay=batch_delay))
    return workflow.compile()


def records(first: int, count: int, *, ids: list[str] | None = None) -> Records:
    offsets = list(range(first, first + count))
    return Records(
        source=0, origin="items/0", offsets=offsets, times=offsets, keys=[None] * count, values=[b"{}"] * count,
        after=str(first + count), ids=ids,
    )  # fmt: skip


def test_without_a_delay_nothing_is_held() -> None:
    assert Linger(plan(10, timedelta(0))).delay == 0.0


def test_a_lone_record_waits_for_the_delay() -> None:
    linger = Linger(plan(10, timedelta(hours=1)))
    linger.add([records(0, 1)])
    assert 3599 < linger.remaining() <= 3600


def test_a_full_batch_goes_at_once_in_one_piece() -> None:
    linger = Linger(plan(10, timedelta(hours=1)))
    linger.add([records(0, 4)])
    linger.add([records(4, 6)])
    assert linger.remaining() == 0.0
    (taken,) = linger.take()
    assert taken.offsets == list(range(10))
    assert taken.after == "10"
    assert linger.take() == []


def test_columns_that_only_one_part_has_are_filled() -> None:
    both = joined(records(0, 1), records(1, 1, ids=["mine"]))
    assert both.ids == ["", "mine"]
    assert both.headers is None


def test_what_is_known_of_single_records_moves_with_them() -> None:
    first, second = records(0, 2), records(2, 2)
    first.faults, first.gaps = {1: "lost"}, frozenset({1})
    second.faults = {0: "broken"}

    both = joined(first, second)

    assert (both.faults, both.gaps) == ({1: "lost", 2: "broken"}, {1})
    assert joined(records(0, 1), records(1, 1)).faults is None


def sent(source: int, *ids: str, hops: int = 0, entry: Reentry | None = None) -> Records:
    """Of a stream that holds events of all sources."""
    return Records(
        source=source, origin="internal", offsets=list(ids), times=[0] * len(ids), keys=[None] * len(ids),
        values=[b"{}"] * len(ids), after=ids[-1], ids=[f"id {id_}" for id_ in ids], hops=[hops] * len(ids), entry=entry,
    )  # fmt: skip


def test_what_one_stream_has_of_several_sources_stays_apart_and_in_order() -> None:
    linger = Linger(plan(10, timedelta(hours=1)))
    entry = Reentry(node="mean")
    linger.add([sent(0, "1-0"), records(0, 1), sent(1, "2-0", hops=1)])
    linger.add([sent(1, "3-0", hops=2), records(1, 1), sent(0, "4-0"), sent(0, "5-0", entry=entry)])

    taken = linger.take()

    internal = [batch for batch in taken if batch.origin == "internal"]
    assert [(batch.source, batch.offsets) for batch in internal] == [
        (0, ["1-0"]), (1, ["2-0", "3-0"]), (0, ["4-0"]), (0, ["5-0"]),
    ]  # fmt: skip
    assert [batch.after for batch in internal] == ["1-0", "3-0", "4-0", "5-0"]
    assert internal[1].hops == [1, 2]
    assert [batch.entry for batch in internal] == [None, None, None, entry]
    assert [batch.offsets for batch in taken if batch.origin == "items/0"] == [[0, 1]]
