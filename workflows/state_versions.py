"""States with a version: how it lies beside the state, and the way of an old state to the form that the code knows.

A state of version 1 is plain JSON text. From version 2 on the text has its version before it: `v2 {"total":7}`.
Migrations run where a state is decoded; encoding always writes the newest form. So a state changes its form with the
first event that its run has in the new version, in the commit of that event.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from .codec import JsonStateCodec, Quick, encode_json, state_codec
from .errors import CodecError

Migration: TypeAlias = Callable[[Any], Any]
"""Takes a state as JSON has it (dict, list, str, number, bool, None); returns it in the form of the next version."""
Migrations: TypeAlias = Mapping[int, Migration]
"""Version -> what makes a state of the next version of it."""
_MARK: Final = b"v"
"""No JSON text begins so."""


class StateUnread(CodecError):
    """A state in the store is none that this version of the workflow can read; it is left as it is.

    Attributes:
        path: The field that does not fit.
    """

    reason_code: ClassVar[str] = "unread-state"

    @classmethod
    def of(cls, error: Exception) -> StateUnread:
        """The same as another error."""
        if isinstance(error, StateUnread):
            return error
        if isinstance(error, CodecError):
            return cls(error.message, error.path)
        if isinstance(error, msgspec.MsgspecError):
            found = CodecError.of(error)
            return cls(found.message, found.path)
        return cls(f"{type(error).__name__}: {error}")

    def __reduce__(self) -> tuple[type[StateUnread], tuple[str, str]]:
        return StateUnread, (self.message, self.path)


def version_after(migrations: Migrations | None) -> int:
    """The version of states that the migrations lead to: 1 without any."""
    return max(migrations) + 1 if migrations else 1


def split_version(blob: bytes) -> tuple[int, bytes]:
    """Version and JSON text of a state as it is stored.

    Raises:
        StateUnread: It begins like one with a version, and has none.
    """
    if not blob.startswith(_MARK):
        return 1, blob
    number, _, text = blob.partition(b" ")
    if not number[1:].isdigit():
        raise StateUnread(f"it begins with {number[:20].decode('utf-8', 'replace')!r}, which is no version")
    return int(number[1:]), text


def versioned_codec(state_type: Any, migrations: Migrations | None = None) -> JsonStateCodec:
    """The codec of a node's or a run's state, which reads the states of older versions, too.

    Args:
        state_type: Of the newest version.
        migrations: See `Migrations`; the version is one more than the last of them.

    Raises:
        CodecError: See `state_codec`.
    """
    codec = state_codec(state_type)
    version = version_after(migrations)
    decode = _reading(codec.decode, version, migrations or {})
    if version == 1:
        return replace(codec, decode=decode)
    mark = b"v%d " % version
    encode, quick = codec.encode, codec.quick
    return replace(
        codec,
        decode=decode,
        encode=lambda value: mark + encode(value),
        quick=None if quick is None else _marked(quick, mark),
    )


def _marked(quick: Quick, mark: bytes) -> Quick:
    encode = quick.encode
    return Quick(lambda value: mark + encode(value), quick.check)


def _reading(plain: Callable[[bytes], Any], version: int, migrations: Migrations) -> Callable[[bytes], Any]:
    """`plain`, for states of all versions that can be read. Raises `StateUnread`, and nothing else."""
    mark = b"v%d " % version if version > 1 else b""

    def decode(blob: bytes) -> Any:
        try:
            if not blob.startswith(_MARK):
                if version == 1:
                    return plain(blob)
            elif blob.startswith(mark) and mark:
                return plain(blob[len(mark) :])
        except Exception as error:  # a type of the user's may check itself, and raise anything
            raise StateUnread.of(error) from error
        return _migrated(blob, plain, version, migrations)

    return decode


def _migrated(blob: bytes, plain: Callable[[bytes], Any], version: int, migrations: Migrations) -> Any:
    stored, text = split_version(blob)
    if stored > version:
        raise StateUnread(
            f"it is of version {stored}, and this code knows {version}: a newer version of the workflow wrote it"
        )
    if stored not in migrations:
        raise StateUnread(
            f"it is of version {stored}, and there is no migration from that (migrations={{{stored}: ...}})"
        )
    try:
        value = msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise StateUnread.of(error) from error
    for step in range(stored, version):
        value = _step(migrations[step], step, value)
    try:
        return plain(encode_json(value))
    except Exception as error:
        fault = StateUnread.of(error)
        lacking = ": does a migration lack its return?" if value is None else ""
        message = f"migrated from version {stored}: {fault.message}{lacking}"
        raise StateUnread(message, fault.path) from error


def _step(migration: Migration, step: int, value: Any) -> Any:
    try:
        return migration(value)
    except Exception as error:
        name = getattr(migration, "__qualname__", type(migration).__name__)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise StateUnread(
            f"its migration from version {step} to {step + 1}, {name}, raised {type(error).__name__}: {error}"
            f" (line {frame.lineno} of {frame.filename.rpartition('/')[2]})"
        ) from error
