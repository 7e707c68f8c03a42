"""Which positions an epoch commits: of what it processed, and of where a log begins."""

from __future__ import annotations

from headrace import Complete, Context, Event, KafkaSource, Workflow
from headrace.workflows.commit import Head
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.partition import Load, PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save


def end_at_two(event: Event[int], ctx: Context) -> Complete | None:
    return Complete() if event.data == 2 else None


def positions_after(*values: bytes, after: str) -> dict[str, str]:
    """What is committed of an epoch with these records, from offset 5 on."""
    workflow = Workflow("numbers", keyed=False)
    workflow.source(KafkaSource("numbers", int)).to(workflow.node(end_at_two))
    plan = workflow.compile(fuse="all")
    core = PartitionCore(plan, 0, 1, Head("owner", 0, {}, 0, {}))
    count = len(values)
    offsets = list(range(5, 5 + count))
    core.offer([Records(0, "numbers/0", offsets, [0] * count, [None] * count, list(values), after)], now=0)
    while True:
        for instruction in core.instructions():
            match instruction:
                case Load(keys=keys):
                    core.loaded(keys, [{}] * len(keys), now=0)
                case Dispatch(call=call, data=data):
                    core.finished(UnitRunner(plan, call.unit).run(call, data), now=0)
                case Save(commit=commit):
                    return commit.positions


def test_the_position_after_all_records() -> None:
    assert positions_after(b"0", b"1", after="7@log") == {"numbers/0": "7@log"}


def test_a_position_without_records_is_committed_so_that_the_next_owner_begins_there_too() -> None:
    assert positions_after(after="5@log") == {"numbers/0": "5@log"}


def test_the_position_of_the_first_event_that_was_not_processed_names_the_same_log() -> None:
    assert positions_after(b"1", b"2", b"3", after="8@log") == {"numbers/0": "7@log"}
    assert positions_after(b"1", b"2", b"3", after="8") == {"numbers/0": "7"}
