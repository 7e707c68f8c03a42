"""Recorded files as a source: types, places to go on from, pace, and what can't be a row."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from headrace import Context, Event, ReplaySource, Workflow
from headrace.sources.custom import Record
from headrace.testing import Harness


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float
    at: datetime
    note: str = ""
    humidity: float | None = None


ROWS = [Reading(f"s{number % 3}", number / 2, datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)) for number in range(20)]


def write(file: Path, rows: list[Reading] = ROWS) -> Path:
    match file.suffix:
        case ".csv":
            lines = [f"{row.sensor},{row.celsius},{row.at.isoformat()}" for row in rows]
            file.write_text("\n".join(["sensor,celsius,at", *lines, ""]))
        case ".jsonl":
            file.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
        case _:
            table = pyarrow.Table.from_pylist([msgspec.structs.asdict(row) for row in rows])
            parquet.write_table(table, file, row_group_size=7)
    return file


async def read(source: ReplaySource[Any], position: str | None = None, limit: int = 1000) -> list[Record[Any]]:
    """All that is left of it, from a position on."""
    split: Any = source.open("0", position)
    found: list[Record[Any]] = []
    while rows := await split.read(limit):
        found += rows
    split.close()
    return found


def data_of(records: list[Record[Any]]) -> list[Any]:
    return [
        msgspec.json.decode(record.data.value, type=Reading) if hasattr(record.data, "value") else record.data
        for record in records
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
async def test_rows_become_data_of_the_type_with_a_place_an_id_and_a_time(tmp_path: Path, suffix: str) -> None:
    source = ReplaySource(write(tmp_path / f"day{suffix}"), Reading, time="at", name="days")

    records = await read(source, limit=3)

    assert data_of(records) == ROWS
    assert [record.time for record in records] == [row.at for row in ROWS]
    assert records[4].id == f"days/day{suffix}/5"
    assert len({record.position for record in records}) == len(ROWS)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
async def test_from_any_place_the_rest_is_the_same_again(tmp_path: Path, suffix: str) -> None:
    source = ReplaySource(write(tmp_path / f"day{suffix}"), Reading)
    records = await read(source)

    for index, record in enumerate(records):
        assert await read(source, record.position, limit=2) == records[index + 1 :]


async def test_files_of_a_pattern_are_read_by_name_one_after_the_other(tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:8], ROWS[8:9], ROWS[9:])):
        (tmp_path / f"d{number}").mkdir()
        write(tmp_path / f"d{number}" / "day.csv", rows)
    source = ReplaySource(tmp_path / "d*" / "*.csv", Reading)

    records = await read(source)

    assert data_of(records) == ROWS
    assert records[8].id == "replay/d1/day.csv/1"
    assert await read(source, records[8].position) == records[9:]


def quoted(rows: list[tuple[str, str]], file: Path) -> Path:
    lines = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"' for row in rows]
    file.write_text("left,right\n" + "\n".join(lines), newline="\n")
    return file


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
async def test_any_text_in_cells_survives_and_has_a_place(tmp_path_factory: Any, rows: list[tuple[str, str]]) -> None:
    class Pair(msgspec.Struct, frozen=True):
        left: str
        right: str

    source = ReplaySource(quoted(rows, tmp_path_factory.mktemp("any") / "pairs.csv"), Pair)

    records = await read(source)

    assert [record.data for record in records] == [Pair(*row) for row in rows]
    for index, record in enumerate(records):
        assert await read(source, record.position) == records[index + 1 :]


async def test_an_empty_cell_is_none_or_left_out_but_text_in_a_text_field(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("sensor,celsius,at,note,humidity\ns1,1,2026-01-01T00:00:00Z,,\n,2,2026-01-01T00:00:00Z,wet,0.5\n")

    first, second = data_of(await read(ReplaySource(file, Reading)))

    assert (first.note, first.humidity) == ("", None)
    assert (second.sensor, second.note, second.humidity) == ("", "wet", 0.5)


def keep(event: Event[Reading], ctx: Context[list[float]]) -> None:
    ctx.state.append(event.data.celsius)


def test_a_row_that_does_not_fit_is_a_dead_letter_and_the_next_is_read(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    good = "s1,{},2026-01-01T00:00:00Z\n"
    broken = [
        b"s1,warm,2026-01-01T00:00:00Z\n",
        b"s1,2\n",
        b"s\xff,2,2026-01-01T00:00:00Z\n",
        b"s1,nan,2026-01-01T00:00:00Z\n",
        b"s1,,2026-01-01T00:00:00Z\n",
    ]
    lines = [b"\xef\xbb\xbfsensor,celsius,at\n"]
    for number, line in enumerate(broken):
        lines += [good.format(number).encode(), b"\n", line]
    file.write_bytes(b"".join([*lines, good.format(5).encode()]))
    workflow = Workflow("replayed", keyed=False)
    source = workflow.source(ReplaySource(file, Reading, time="at"))
    keeping = workflow.node(keep)
    source.to(keeping)

    with Harness(workflow) as harness:
        assert harness.read(source) == 11

        assert harness.run.state(keeping) == [0, 1, 2, 3, 4, 5]
        letters = harness.dead_letters
    assert [letter.id for letter in letters] == [f"replay/day.csv/{row}" for row in (2, 4, 6, 8, 10)]
    reasons = [letter.error for letter in letters]
    for reason, word in zip(reasons, ["$.celsius", "2 values", "UTF-8", "nan", "celsius"], strict=True):
        assert word in reason, reasons
    assert letters[1].data == b"s1,2\n"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_A11_a_recording_is_a_source_that_closes_behind_its_last_row(tmp_path: Path, suffix: str) -> None:
    workflow = Workflow("replayed", keyed=False)
    source = workflow.source(ReplaySource(write(tmp_path / f"day{suffix}"), Reading, time="at", speed=1.0))
    keeping = workflow.node(keep)
    source.to(keeping)

    with Harness(workflow) as harness:
        harness.crash_at("after:commit")
        harness.read(source)

        assert harness.outcome == "source closed"
        assert harness.run.state(keeping) == [row.celsius for row in ROWS]


def test_rows_go_to_the_runs_of_their_keys(tmp_path: Path) -> None:
    workflow = Workflow("replayed")
    source = workflow.source(ReplaySource(write(tmp_path / "day.csv"), Reading, key="sensor"))
    keeping = workflow.node(keep)
    source.to(keeping)

    with Harness(workflow) as harness:
        harness.read(source)

        assert harness.runs["s1"].state(keeping) == [row.celsius for row in ROWS if row.sensor == "s1"]


async def test_a_recording_is_replayed_at_its_pace(tmp_path: Path) -> None:
    source = ReplaySource(write(tmp_path / "day.csv", ROWS[:4]), Reading, time="at", speed=20.0)
    split: Any = source.open("0", None)
    began = time.monotonic()

    first = await split.read(100)
    rest = [row for _ in range(3) for row in await split.read(100)]

    assert len(first) == 1
    assert data_of(rest) == ROWS[1:4]
    assert time.monotonic() - began >= 0.15
    split.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600500, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=0.5)),
    ],
)
async def test_times_are_iso_or_milliseconds(tmp_path: Path, value: str | int, expected: datetime) -> None:
    file = tmp_path / "day.jsonl"
    file.write_text(json.dumps({"at": value}))

    [by_name] = await read(ReplaySource(file, dict[str, Any], time="at"))
    [by_function] = await read(ReplaySource(file, dict[str, Any], time=lambda data: expected))

    assert by_name.time == by_function.time == expected


async def test_a_file_that_is_gone_or_shorter_than_before_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "day.csv")
    source = ReplaySource(tmp_path / "*.csv", Reading)
    last = (await read(source))[-1].position

    write(file, ROWS[:3])
    with pytest.raises(Exception, match="of it were read"):
        await read(source, last)
    file.rename(tmp_path / "other.csv")
    with pytest.raises(Exception, match="is gone, and it was read in part"):
        await read(source, last)
    (tmp_path / "other.csv").unlink()
    with pytest.raises(Exception, match="can't be found on this host"):
        await read(source, last)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "nowhere.csv"}, "there is no file"),
        ({"path": "day.txt"}, "don't say one format"),
        ({"path": "day.*"}, "don't say one format"),
        ({"speed": 0.0, "time": "at"}, "speed=0.0 is no speed"),
        ({"speed": 2.0}, "has a speed, but no time"),
        ({"time": "when"}, "time='when' is no field of its data"),
        ({"keyed": True}, "has no key"),
    ],
)
def test_a_replay_that_can_not_be_is_refused_at_build(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    write(tmp_path / "day.csv")
    (tmp_path / "day.txt").write_text("")
    keyed, path = options.pop("keyed", False), tmp_path / options.pop("path", "day.csv")
    workflow = Workflow("replayed", keyed=keyed)
    workflow.source(ReplaySource(path, Reading, **options)).to(workflow.node(keep))

    assert [sentence in problem.message for problem in workflow.check()] == [True]


def test_a_relative_path_begins_at_the_file_that_names_it() -> None:
    source = ReplaySource("some/day.csv", Reading)

    assert source.path == Path(__file__).parent / "some" / "day.csv"
