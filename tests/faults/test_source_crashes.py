"""Sources without a log of their own count each record once, also when workers die."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from headrace.workflows.keyspace import partition_of
from small import Small
from solo import solo
from waiting import until

COUNT = 2_000


@pytest.mark.slow
def test_G01_a_custom_source_counts_each_record_once_and_a_custom_sink_gets_all_of_them(
    tmp_path: Path, redis_url: str
) -> None:
    numbers = Small.of("numbers", tmp_path, redis_url)
    (tmp_path / "numbers.txt").write_text("\n".join(map(str, range(COUNT))))

    for index, point in enumerate(("before:commit:3", "after:relay-send:3")):
        with solo(numbers, index=index, placement=index + 1, partitions=(0,), crash_at=point) as one:
            until(lambda one=one: one.crashed, f"it has crashed at {point}")
    with solo(numbers, index=2, placement=3, partitions=(0,)):
        until(lambda: numbers.run().get("status") == b"source closed", "the source is read to its end")
        until(lambda: len(numbers.dead_letters()) == COUNT // 100, "all has left, or is a dead letter")

    found = msgspec.json.decode(numbers.run()["node:add"])
    assert found == {"count": COUNT, "total": sum(range(COUNT))}
    expected = {f"numbers/0/{number + 1}.0 {number}" for number in range(COUNT) if number % 100 != 99}
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert set(lines) == expected
    assert len(lines) > len(expected), "the one that crashed had not ticked off what it had sent"
    refused = {(letter.source, letter.reason, letter.error, letter.data) for letter in numbers.dead_letters()}
    assert refused == {("lines", "sink", "unlucky", str(number).encode()) for number in range(99, COUNT, 100)}


@pytest.mark.slow
def test_A11_a_replay_counts_each_row_once_over_a_crash_and_closes(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "parts").mkdir()
    for part in range(4):
        numbers = range(part * COUNT, (part + 1) * COUNT)
        (tmp_path / "parts" / f"{part}.csv").write_text("\n".join(["number", *map(str, numbers), ""]))
    replayed = Small.of("replayed", tmp_path, redis_url)

    with solo(replayed, index=0, placement=1, partitions=(0,), crash_at="after:commit:3") as one:
        until(lambda: one.crashed, "it has crashed")
    assert replayed.run().get("status") == b"running"
    with solo(replayed, index=1, placement=2, partitions=(0,)):
        until(lambda: replayed.run().get("status") == b"source closed", "the last file is read to its end")

    found = msgspec.json.decode(replayed.run()["node:add"])
    assert found == {"count": 4 * COUNT, "total": sum(range(4 * COUNT))}


@pytest.mark.slow
def test_rows_of_a_replay_reach_the_partitions_of_their_keys_in_order(tmp_path: Path, redis_url: str) -> None:
    rows = [f"s{number % 10},{number}" for number in range(1000)]
    (tmp_path / "rows.csv").write_text("\n".join(["sensor,number", *rows, ""]))
    replayed = Small.of("keyed_replay", tmp_path, redis_url)
    assert len({partition_of(f"s{sensor}", 4) for sensor in range(10)}) > 1

    def kept(sensor: int) -> list[int]:
        fields = replayed.run(f"s{sensor}", partition_of(f"s{sensor}", 4))
        return msgspec.json.decode(fields.get("node:keep", b"[]"), type=list[int])

    with solo(replayed):
        until(lambda: all(len(kept(sensor)) >= 100 for sensor in range(10)), "all rows are processed")

    assert [kept(sensor) for sensor in range(10)] == [list(range(sensor, 1000, 10)) for sensor in range(10)]
    assert [replayed.dead_letters(partition) for partition in range(4)] == [[]] * 4


@pytest.mark.slow
def test_schedule_happens_exactly_once_when_its_worker_is_killed(tmp_path: Path, redis_url: str) -> None:
    ticks = Small.of("ticks", tmp_path, redis_url)

    def times() -> list[int]:
        return msgspec.json.decode(ticks.run().get("node:keep", b"[]"), type=list[int])

    with solo(ticks, index=0, placement=1, partitions=(0,)):
        until(lambda: len(times()) >= 5, "it has happened a few times")
    before = times()
    with solo(ticks, index=1, placement=2, partitions=(0,)):
        until(lambda: len(times()) >= len(before) + 10, "it goes on")

    assert times()[: len(before)] == before
    assert {later - earlier for earlier, later in pairwise(times())} == {100}
