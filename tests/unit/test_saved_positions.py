"""Which positions an epoch commits: of what it processed, and of where a log begins."""

from __future__ import annotations

from headrace import Complete, Context, Event, KafkaSource, Workflow
from headrace.sources.kafka_log import Gap, Log
from headrace.workflows.commit import Commit, Head
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.instructions import Load
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save


def end_at_two(event: Event[int], ctx: Context) -> Complete | None:
    return Complete() if event.data == 2 else None


def positions_after(*values: bytes, after: str) -> dict[str, str]:
    """What is committed of an epoch with these records, from offset 5 on."""
    count = len(values)
    offsets = list(range(5, 5 + count))
    return commit_of(Records(0, "numbers/0", offsets, [0] * count, [None] * count, list(values), after)).positions


def commit_of(records: Records) -> Commit:
    """The commit of an epoch with these records alone."""
    workflow = Workflow("numbers", keyed=False)
    workflow.source(KafkaSource("numbers", int)).to(workflow.node(end_at_two))
    plan = workflow.compile(fuse="all")
    core = PartitionCore(plan, 0, 1, Head("owner", 0, {}, 0, {}))
    core.offer([records], now=7)
    while True:
        for instruction in core.instructions():
            match instruction:
                case Load(keys=keys):
                    core.loaded(keys, [{}] * len(keys), now=0)
                case Dispatch(call=call, data=data):
                    core.finished(UnitRunner(plan, call.unit).run(call, data), now=0)
                case Save(commit=commit):
                    return commit


def test_the_position_after_all_records() -> None:
    assert positions_after(b"0", b"1", after="7@log") == {"numbers/0": "7@log"}


def test_a_position_without_records_is_committed_so_that_the_next_owner_begins_there_too() -> None:
    assert positions_after(after="5@log") == {"numbers/0": "5@log"}


def test_the_position_of_the_first_event_that_was_not_processed_names_the_same_log() -> None:
    assert positions_after(b"1", b"2", b"3", after="8@log") == {"numbers/0": "7@log"}
    assert positions_after(b"1", b"2", b"3", after="8") == {"numbers/0": "7"}


def test_records_that_a_log_lost_leave_a_dead_letter_in_the_commit_that_goes_on_behind_them() -> None:
    gap = Gap("numbers/0", 5, 9, "earliest")
    log = Log(
        source=0, origin="numbers/0", topic="numbers", number=0, owner=0, topic_id="id", leader=1, position=5, gap=gap
    )  # fmt: skip
    assert log.has_news
    records, _ = log.pull(10)
    assert records is not None

    commit = commit_of(records)

    (letter,) = commit.dead
    assert (letter.reason, letter.source, letter.id, letter.data) == ("gap", "numbers", "numbers/0@id/5", None)
    assert "offsets 5 to 8" in letter.error
    assert commit.positions == {"numbers/0": "9@id"}
    assert not log.has_news
