"""Fetched bytes to columns: what readers of committed records see, whatever the batches look like."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.util import NO_EXTENSIONS
from hypothesis import given
from hypothesis import strategies as st

from headrace.sources.kafka_batches import CodecMissing, Columns, CorruptBatch, FetchedBatches

GZIP = DefaultRecordBatch.CODEC_GZIP
CODECS = {
    "none": DefaultRecordBatch.CODEC_NONE,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}
TRANSACTIONAL, CONTROL = 0x10, 0x20
ABORT, COMMIT = 0, 1


@dataclass
class Batch:
    """One batch as a broker would store it: `deltas` are the offsets, from `base`, that compaction has left."""

    base: int
    deltas: Sequence[int]
    length: int
    producer: int = -1
    transactional: bool = False
    codec: int = 0
    control: int | None = None

    def encode(self) -> bytes:
        builder = DefaultRecordBatchBuilder(2, self.codec, int(self.transactional), self.producer, 0, 0, 1 << 20)
        for delta in self.deltas:
            offset = self.base + delta
            key = b"k%d" % offset if self.control is None else struct.pack(">HH", 0, self.control)
            assert builder.append(delta, 1000 + offset, key, b"v%d" % offset, []) is not None
        data = builder.build()
        data[0:8] = struct.pack(">q", self.base)
        data[23:27] = struct.pack(">i", self.length - 1)
        if self.control is not None:
            data[21:23] = struct.pack(">h", CONTROL | TRANSACTIONAL)
        return with_check_sum(data)


def with_check_sum(data: bytearray) -> bytes:
    data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    return bytes(data)


def plain(base: int, count: int, **more: int) -> Batch:
    return Batch(base, range(count), count, **more)


def fetched(*batches: Batch, start: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> FetchedBatches:
    return FetchedBatches(b"".join(batch.encode() for batch in batches), start, aborted)


def take_all(piece: FetchedBatches, step: int = 1000) -> Columns:
    columns = Columns()
    while not piece.done:
        piece.take(columns, step)
    return columns


def test_records_become_columns() -> None:
    columns = take_all(fetched(plain(5, 3), start=5))

    assert columns.offsets == [5, 6, 7]
    assert columns.times == [1005, 1006, 1007]
    assert columns.keys == [b"k5", b"k6", b"k7"]
    assert columns.values == [b"v5", b"v6", b"v7"]
    assert columns.headers() is None


def test_extensions_in_c_are_in_use() -> None:
    assert not NO_EXTENSIONS, "without them reading costs ten times as much"


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_batch_reads_as_a_plain_one(codec: str) -> None:
    pytest.importorskip("cramjam") if codec not in ("none", "gzip") else None

    assert take_all(fetched(plain(0, 50, codec=CODECS[codec]))) == take_all(fetched(plain(0, 50)))


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_codec_that_is_not_installed_is_named_with_its_cure(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = fetched(plain(0, 3, codec=CODECS[codec]))
    monkeypatch.setattr(f"aiokafka.codec.has_{codec}", lambda: False)

    with pytest.raises(CodecMissing, match=rf'{codec}.*pip install "headrace\[compression\]"') as missing:
        take_all(piece)

    assert (missing.value.word, missing.value.offset, piece.position) == ("codec_missing", 0, 0)


def test_headers_stand_beside_their_records_and_null_becomes_empty() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    builder.append(0, 1, None, None, [])
    builder.append(1, 1, b"k", b"v", [("a", b"1"), ("b", None)])
    columns = take_all(FetchedBatches(with_check_sum(builder.build()), 0))

    assert columns.headers() == [(), (("a", b"1"), ("b", b""))]
    assert columns.keys == [None, b"k"]
    assert columns.values == [None, b"v"], "None is a tombstone"


def test_a_batch_that_begins_before_the_position_gives_only_what_is_behind_it() -> None:
    piece = fetched(plain(0, 10, codec=GZIP), start=7)

    assert take_all(piece).offsets == [7, 8, 9]
    assert piece.position == 10


def test_compaction_leaves_holes_and_the_position_goes_behind_the_last_one() -> None:
    piece = fetched(Batch(0, [1, 4], 10), Batch(10, [], 5), Batch(15, [3], 4))

    assert piece.end == 19
    assert take_all(piece).offsets == [1, 4, 18]
    assert piece.position == 19


def test_an_aborted_transaction_is_passed_over_and_a_committed_one_is_not() -> None:
    piece = fetched(
        plain(0, 2),
        Batch(2, range(3), 3, producer=7, transactional=True),
        Batch(5, range(2), 2, producer=8, transactional=True),
        Batch(7, [0], 1, producer=7, control=ABORT),
        Batch(8, [0], 1, producer=8, control=COMMIT),
        Batch(9, range(1), 1, producer=7, transactional=True),
        Batch(10, [0], 1, producer=7, control=COMMIT),
        aborted=[(7, 2)],
    )

    assert take_all(piece).offsets == [0, 1, 5, 6, 9]
    assert piece.position == 11, "control records count as read"


def test_a_damaged_batch_is_refused_and_what_came_before_is_kept() -> None:
    damaged = bytearray(plain(3, 3).encode())
    damaged[-1] ^= 0xFF
    piece = FetchedBatches(plain(0, 3).encode() + bytes(damaged), 0)
    columns = Columns()

    with pytest.raises(CorruptBatch) as refused:
        piece.take(columns, 100)

    assert refused.value.offset == 3
    assert columns.offsets == [0, 1, 2]
    assert piece.position == 3


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    data = plain(0, 3).encode() + plain(3, 3).encode()
    piece = FetchedBatches(data[:-10], 0)

    assert take_all(piece).offsets == [0, 1, 2]
    assert piece.end == 3


@given(
    lengths=st.lists(st.integers(min_value=1, max_value=7), min_size=1, max_size=6),
    start=st.integers(min_value=0, max_value=5),
    step=st.integers(min_value=1, max_value=9),
)
def test_any_step_gives_the_same_records_and_a_position_that_goes_on(lengths: list[int], start: int, step: int) -> None:
    bases = [sum(lengths[:index]) for index in range(len(lengths))]
    batches = [plain(base, length) for base, length in zip(bases, lengths, strict=True)]
    whole = take_all(fetched(*batches, start=start))
    piece, seen = fetched(*batches, start=start), []

    while not piece.done:
        columns = Columns()
        piece.take(columns, step)
        assert len(columns.offsets) <= step
        assert piece.position == (columns.offsets[-1] + 1 if columns.offsets else piece.position)
        seen += columns.offsets

    assert seen == whole.offsets == list(range(start, sum(lengths)))
    assert piece.position == piece.end
    assert piece.remaining == 0
