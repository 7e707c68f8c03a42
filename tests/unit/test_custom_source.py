"""Sources of a user's own: what the contract promises to them, and what it promises to the worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace import Context, CustomSource, Event, Raw, Record, Split, Workflow
from headrace.sources import split_pump
from headrace.sources.custom_reader import CustomReader
from headrace.testing import Harness
from headrace.workflows.records import Records
from lines import Lines, Told, reader_of, values_of
from waiting import until_async

Rows = Sequence[Record[int]] | None
Begin = Callable[..., Awaitable[CustomReader]]


class Scripted(CustomSource[int]):
    """Reads what a test's function gives; remembers what it was told."""

    delivery = "exactly-once"
    idle = timedelta(milliseconds=1)

    def __init__(self, read: Callable[[int], Rows | Awaitable[Rows]]) -> None:
        super().__init__(int, name="scripted")
        self.script = read
        self.opened: list[str | None] = []
        self.told: list[str] = []
        self.closed = 0

    def open(self, split: str, position: str | None) -> Split[int]:
        self.opened.append(position)
        return ScriptedSplit(self)


class AtLeastOnce(Scripted):
    delivery = "at-least-once"


class ScriptedSplit(Split[int]):
    def __init__(self, source: Scripted) -> None:
        self.source = source

    def read(self, limit: int) -> Rows | Awaitable[Rows]:
        return self.source.script(limit)

    def committed(self, position: str) -> None:
        self.source.told.append(position)

    def close(self) -> None:
        self.source.closed += 1


def numbered(numbers: Sequence[int]) -> list[Record[int]]:
    return [Record(number, position=str(number)) for number in numbers]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def readers() -> AsyncIterator[list[CustomReader]]:
    """Closed afterwards."""
    opened: list[CustomReader] = []
    yield opened
    for reader in opened:
        await reader.close()


@pytest.fixture
def reading(told: Told, readers: list[CustomReader]) -> Begin:
    async def begin(
        source: CustomSource[int], positions: dict[str, str] | None = None, **options: bool | int
    ) -> CustomReader:
        reader = reader_of(source, told, **options)
        readers.append(reader)
        await reader.open()
        await reader.assign(0, positions or {})
        return reader

    return begin


async def pulled(reader: CustomReader, count: int, partition: int = 0) -> list[Records]:
    found: list[Records] = []

    def enough() -> bool:
        found.extend(reader.pull(partition, count - sum(map(len, found))))
        return sum(map(len, found)) >= count

    await until_async(enough, f"{count} records have come")
    return found


async def test_records_come_in_order_with_ids_and_positions(tmp_path: Path, reading: Begin) -> None:
    (tmp_path / "0").write_text("10 11 12")
    reader = await reading(Lines(tmp_path))

    batches = [*(await pulled(reader, 2)), *(await pulled(reader, 1))]

    assert values_of(batches) == [10, 11, 12]
    assert [id_ for records in batches for id_ in records.ids or ()] == ["lines/0/1", "lines/0/2", "lines/0/3"]
    assert [records.after for records in batches] == ["2", "3"]
    assert {records.origin for records in batches} == {"lines/0"}


async def test_it_goes_on_at_the_committed_position(tmp_path: Path, reading: Begin) -> None:
    (tmp_path / "0").write_text("10 11 12")

    reader = await reading(Lines(tmp_path), {"lines/0": "2", "other/0": "9"})

    assert values_of(await pulled(reader, 1)) == [12]


async def test_the_end_is_told_once_all_is_pulled(tmp_path: Path, told: Told, reading: Begin) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2 3")
    reader = await reading(Lines(tmp_path, "a", "b"))

    first = await pulled(reader, 2)
    assert told.closed == []
    last = await pulled(reader, 1)

    assert sorted(values_of([*first, *last])) == [1, 2, 3]
    await until_async(lambda: (0, 0) in told.closed, "the worker knows that it is closed")


async def test_each_split_of_a_keyed_workflow_has_one_partition(tmp_path: Path, told: Told, reading: Begin) -> None:
    names = [f"s{number}" for number in range(8)]
    for name in names:
        (tmp_path / name).write_text(name[1:])
    reader = await reading(Lines(tmp_path, *names), partitions=3, keyed=True)
    for partition in (1, 2):
        await reader.assign(partition, {})

    found: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def all_found() -> bool:
        for partition, values in found.items():
            values.extend(values_of(reader.pull(partition, 10)))
        return sum(map(len, found.values())) == len(names)

    await until_async(all_found, "each split was read by somebody")
    assert sorted(value for values in found.values() for value in values) == list(range(8))
    assert sum(1 for values in found.values() if values) > 1


async def test_what_a_read_raises_is_named_and_it_goes_on_behind_what_it_has_read(told: Told, reading: Begin) -> None:
    answers: list[Rows | Exception] = [numbered([1, 2]), OSError("cable"), numbered([3]), None]

    def script(limit: int) -> Rows:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = Scripted(script)
    reader = await reading(source)

    assert values_of(await pulled(reader, 3)) == [1, 2, 3]
    assert source.opened == [None, "2"]
    assert source.closed == 1
    assert "OSError: cable" in told.named[0]
    await until_async(lambda: not told.problems, "the problem is taken back")


async def test_what_was_not_acknowledged_is_read_again_by_an_at_least_once_source(told: Told, reading: Begin) -> None:
    answers: list[Rows | Exception] = [numbered([1, 2]), OSError("cable"), numbered([1, 2, 3]), []]

    def script(limit: int) -> Rows:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = AtLeastOnce(script)
    reader = await reading(source, {"scripted/0": "an older session-7"})
    await until_async(lambda: len(source.opened) == 2, "it was opened again")

    batches = await pulled(reader, 3)
    reader.committed(0, {"scripted/0": "an older session-7"})
    reader.committed(0, {"scripted/0": (batches[0].positions or [])[1]})

    assert values_of(batches) == [1, 2, 3]
    assert source.opened == [None, None]
    await until_async(lambda: source.told, "it is told what is committed")
    assert source.told == ["2"]


async def test_nothing_is_read_while_enough_waits(monkeypatch: pytest.MonkeyPatch, reading: Begin) -> None:
    monkeypatch.setattr(split_pump, "BUFFER", 100)
    asked: list[int] = []

    def script(limit: int) -> Rows:
        first = sum(asked)
        asked.append(limit)
        return numbered(range(first + 1, first + limit + 1))

    reader = await reading(Scripted(script))
    await until_async(lambda: sum(asked) == 100, "it has read ahead")

    assert values_of(await pulled(reader, 30)) == list(range(1, 31))
    await until_async(lambda: sum(asked) == 130, "it has read on")
    assert values_of(await pulled(reader, 100)) == list(range(31, 131))


@pytest.mark.parametrize("delivery", ["exactly-once", "at-most-once"])
async def test_a_read_that_hangs_holds_up_nobody_else(
    delivery: str, told: Told, reading: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_pump, "_CLOSE_WITHIN", 0.05)
    release, entered = threading.Event(), threading.Event()

    def script(limit: int) -> Rows:
        entered.set()
        release.wait(20)
        return None

    source = Scripted(script)
    source.delivery = delivery  # type: ignore[misc,assignment]
    reader = await reading(source)
    await until_async(entered.is_set, "it is stuck")

    assert reader.pull(0, 10) == []
    await reader.revoke(0)

    release.set()


async def test_an_async_read_may_wait_as_long_as_it_likes_and_is_cancelled(
    reading: Begin,
) -> None:
    cancelled = threading.Event()

    async def script(limit: int) -> Rows:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return None

    source = Scripted(script)
    reader = await reading(source)
    await until_async(lambda: source.opened, "it is open")
    await until_async(lambda: reader.pull(0, 1) == [], "it waits")

    await reader.revoke(0)

    await until_async(cancelled.is_set, "it was let go")
    assert source.closed == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([Record(1)], "position '', which is none"),
        ([Record(1, position="7"), Record(2, position="7")], "'7', as the one before it"),
        (["7"], "gave back '7' among its records"),
        ([Record(1, position="1", time=datetime(2026, 1, 1))], "has no time zone"),  # noqa: DTZ001  the mistake
    ],
)
async def test_a_breach_of_the_contract_is_named(answer: Rows, sentence: str, told: Told, reading: Begin) -> None:
    await reading(Scripted(lambda limit: answer))

    await until_async(lambda: "source_failed" in told.problems, "it is named")

    assert sentence in told.problems["source_failed"]


def keep(event: Event[int], ctx: Context[list[int]]) -> None:
    ctx.state.append(event.data)


def test_what_is_no_data_is_a_dead_letter_and_the_rest_is_processed() -> None:
    rows: list[Record[int]] = [
        Record(1, position="1"),
        Record(Raw(b'"warm"'), position="2"),
        Record(Raw(b"17", fault="a sensor that was taken off"), position="3", id="mine"),
        Record(object(), position="4"),  # type: ignore[arg-type]  # the mistake
        Record(Raw(b"5"), position="5", time=datetime(2026, 3, 1, tzinfo=UTC)),
    ]
    answers: list[Rows] = [rows, None]
    workflow = Workflow("own", keyed=False)
    source = workflow.source(Scripted(lambda limit: answers.pop(0)))
    keeping = workflow.node(keep)
    source.to(keeping)

    with Harness(workflow) as harness:
        count = harness.read(source)

        assert count == 5
        assert harness.run.state(keeping) == [1, 5]
        assert harness.outcome == "source closed"
        letters = {letter.id: letter for letter in harness.dead_letters}
    assert list(letters) == ["scripted/0/2", "mine", "scripted/0/4"]
    assert {letter.reason for letter in letters.values()} == {"decode"}
    assert letters["mine"].error == "a sensor that was taken off"
    assert "object" in letters["scripted/0/4"].error


def test_a_test_sends_what_such_a_source_would_have_read() -> None:
    workflow = Workflow("own", keyed=False)
    source = workflow.source(Scripted(lambda limit: None))
    keeping = workflow.node(keep)
    source.to(keeping)

    with Harness(workflow) as harness:
        harness.send(source, 3)
        harness.send_raw(source, b"{")

        assert harness.run.state(keeping) == [3]
        assert len(harness.dead_letters) == 1


class Undecided(CustomSource[int]):
    def open(self, split: str, position: str | None) -> Split[int]:
        raise NotImplementedError


class Unnamed(Lines):
    def splits(self) -> Sequence[str]:
        return ("a", "a b")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (Undecided(int, name="own"), "Undecided does not say how often its records count"),
        (Unnamed(Path()), "splits() gives ['a', 'a b']"),
    ],
)
def test_a_source_that_says_too_little_is_refused_where_the_graph_is_built(
    source: CustomSource[int], sentence: str
) -> None:
    workflow = Workflow("own", keyed=False)
    workflow.source(source).to(workflow.node(keep))

    assert [sentence in problem.message for problem in workflow.check()] == [True]
