"""A backup as a file: a line that names it, compressed records, and a checksum of all before it.

    headrace-backup 1 (and a line feed)
    gzip of records, each with its length before it (4 bytes): `Header`, `Piece` ..., `End`; all msgpack
    SHA-256 of the above (32 bytes)

Values lie in it as the store's commands give them, so that any server of any version takes them back: what `DUMP`
gives is refused by older servers.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

import msgspec

from headrace.workflows.errors import HeadraceError

VERSION: Final = 1
"""Of the file; that of the keys in it is `Header.key_format`."""
_NAME: Final = b"headrace-backup "
_CHECKSUM: Final = 32
_LENGTH: Final = struct.Struct(">I")
_AT_ONCE: Final = 1 << 20
_LEVEL: Final = 5

Kind: TypeAlias = Literal["string", "hash", "list", "set", "zset", "stream"]


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """What the file holds."""

    workflow: str
    partitions: int
    key_format: int
    headrace: str
    """Version that wrote it."""
    incarnation: str
    """Of the life that it was taken from; a restored workflow gets another one."""
    time: float
    """Seconds since 1970 UTC."""


class Piece(msgspec.Struct, frozen=True, tag="piece", array_like=True):
    """A key, or a part of a large one: its parts follow each other."""

    key: bytes
    kind: Kind
    values: list[bytes]
    """`string`: the text; `hash`: field, value ...; `zset`: score, member ...; `stream`: id and an entry's fields as
    one msgpack list, for each entry."""
    ttl: int = 0
    """Milliseconds that it had left; 0: it stays. In the last part."""
    last: list[bytes] = []
    """`stream`, in the last part: last id ever given, number of entries ever, largest deleted id."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """All was written."""

    keys: int
    pieces: int


Record: TypeAlias = Header | Piece | End
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Header | End).decode
_decode_piece: Final = msgspec.msgpack.Decoder(Piece).decode


class BackupUnreadable(HeadraceError):
    """A file is no backup, or not all of one, or was changed; nothing of it was used.

    Attributes:
        path: The file.
        cause: What is wrong.
    """

    def __init__(self, path: str, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"{path} can't be restored: {cause}. Nothing was written. Take another copy of the backup.")

    def __reduce__(self) -> tuple[type[BackupUnreadable], tuple[str, str]]:
        return type(self), (self.path, self.cause)


class _Hashed:
    """Passes on what is written, and sums it up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class Writer:
    """Writes records one after another; see `writing`."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.keys = self.pieces = 0
        self._key = b""

    def header(self, header: Header) -> None:
        """The first record."""
        self._write(header)

    def piece(self, piece: Piece) -> None:
        """A key, or its next part."""
        if piece.key != self._key:
            self._key = piece.key
            self.keys += 1
        self.pieces += 1
        self._write(piece)

    def end(self) -> None:
        """The last one."""
        self._write(End(self.keys, self.pieces))

    def _write(self, record: Record) -> None:
        blob = _encode(record)
        self._file.write(_LENGTH.pack(len(blob)))
        self._file.write(blob)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Write a backup; the file is there under its name when all of it is on the disk, or not at all.

    Args:
        path: Where; a file there is replaced.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)  # it has all that the workflow knows
            hashed = _Hashed(file)
            hashed.write(_NAME + b"%d\n" % VERSION)
            with gzip.GzipFile(fileobj=hashed, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
                yield Writer(packed)
            file.write(hashed.sum.digest())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        part.unlink(missing_ok=True)


def checked(path: Path) -> tuple[Header, End]:
    """Read all of a backup, and make sure that it is whole.

    Raises:
        BackupUnreadable: It isn't, or it is of a later version.
        OSError: It can't be read.
    """
    _check_sum(path)
    records = _records(path)
    header = next(records, None)
    if not isinstance(header, Header):
        raise BackupUnreadable(str(path), "it has no header")
    keys = pieces = 0
    last = b""
    end: End | None = None
    for record in records:
        if isinstance(record, Piece):
            pieces += 1
            keys += record.key != last
            last = record.key
        elif isinstance(record, End):
            end = record
    if end is None or (end.keys, end.pieces) != (keys, pieces):
        raise BackupUnreadable(str(path), "records are missing")
    return header, end


def pieces_of(path: Path) -> Iterator[Piece]:
    """All keys of a backup that was `checked`."""
    return (record for record in _records(path) if isinstance(record, Piece))


def _check_sum(path: Path) -> None:
    left = path.stat().st_size - _CHECKSUM
    total = hashlib.sha256()
    with path.open("rb") as file:
        line = file.readline(64)
        version = line.removeprefix(_NAME).strip()
        if not line.startswith(_NAME) or not version.isdigit():
            raise BackupUnreadable(str(path), "it is no backup of Headrace")
        if int(version) != VERSION:
            cause = f"its version is {int(version)}, this Headrace knows {VERSION} (use the Headrace that wrote it)"
            raise BackupUnreadable(str(path), cause)
        file.seek(0)
        while left > 0 and (block := file.read(min(_AT_ONCE, left))):
            total.update(block)
            left -= len(block)
        if left or file.read() != total.digest():
            raise BackupUnreadable(str(path), "it is not as it was written (cut off, or changed): its checksum differs")


class _Body:
    """The part of a file between its first line and its checksum."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        file.readline()
        self._file = file
        self._end = size - _CHECKSUM

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        body = _Body(file, path.stat().st_size)
        with gzip.GzipFile(fileobj=body, mode="rb") as packed:  # type: ignore[call-overload]  # it reads, and no more
            try:
                while head := packed.read(_LENGTH.size):
                    blob = packed.read(*_LENGTH.unpack(head))
                    yield _decode_piece(blob) if blob[:1] not in _MAPS else _decode(blob)
            except (OSError, EOFError, struct.error, msgspec.MsgspecError) as error:
                raise BackupUnreadable(str(path), f"it can't be decoded: {error}") from error


_MAPS: Final = frozenset(bytes([first]) for first in range(0x80, 0x90))
"""How msgpack of a header or an end begins; a piece is a list."""
