"""Values of runs: what nodes publish by name, for readers. They lie in the run's hash, each with a version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from .errors import HeadraceError

if TYPE_CHECKING:
    from .calls import Path
    from .commit import Commit
    from .epoch import End, Epoch
    from .runs import RunRecord

PREFIX: Final = "value:"
"""Fields of a run's hash that hold values begin with it; the name follows."""
NAME_CAP: Final = 200
VALUE_CAP: Final = 256 << 10
"""Bytes of JSON that one value may have."""
RUN_CAP: Final = 1 << 20
"""The same of all values of a run."""
MOST: Final = 100
"""Names that a run may have values under."""
_by_place: Final = itemgetter(0, 1)
Known: TypeAlias = dict[str, tuple[int, int]]
"""Name -> version, bytes."""
FieldsOf: TypeAlias = "Callable[[RunRecord, Commit], list[str]]"
"""Fields of a run in a commit, to be added to."""


class ValueCap(HeadraceError):
    """A node set a value that can't be: the event fails, and is not tried again."""

    reason_code = "value"
    final = True


class ValueSet(msgspec.Struct, frozen=True, gc=False):
    """Effect: a value of the run. Takes effect when the epoch is committed."""

    name: str
    body: str
    """JSON text."""
    path: tuple[int, ...]
    """Branch numbers of the event that the node had."""


class RunValue(NamedTuple):
    """One value, as it is committed."""

    version: int
    """1 for the first that was set under its name, then 2, 3 ..."""
    json: bytes

    @property
    def data(self) -> Any:
        """The value, decoded."""
        return msgspec.json.decode(self.json)


def check(name: object, body: str, sizes: Mapping[str, int], workflow: str) -> None:
    """Refuse a value that can't be.

    Args:
        name: Under which it is to be set.
        body: JSON text.
        sizes: Bytes of all values that the run has, by name.
        workflow: Whose run.

    Raises:
        ValueCap: Says which limit it is over.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CAP:
        raise ValueCap(f"{name!r} can't be the name of a value: it has 1 to {NAME_CAP} characters")
    size = len(body.encode())
    if size > VALUE_CAP:
        raise ValueCap(f"the value {name!r} has {size} bytes, over the cap of {VALUE_CAP} for one value")
    if name not in sizes and len(sizes) >= MOST:
        raise ValueCap(f"a run of {workflow} has {MOST} values already, so {name!r} can't be one more")
    whole = sum(sizes.values()) - sizes.get(name, 0) + size
    if whole > RUN_CAP:
        raise ValueCap(f"with {name!r} the values of the run have {whole} bytes, over the cap of {RUN_CAP}")


def value_of(blob: bytes) -> RunValue:
    """A value from its field: version, blank, JSON."""
    version, _, text = blob.partition(b" ")
    return RunValue(int(version), text)


def values_in(fields: Mapping[str, bytes]) -> Iterator[tuple[str, RunValue]]:
    """Names and values in a run's hash."""
    for field, blob in fields.items():
        if field.startswith(PREFIX):
            yield field.removeprefix(PREFIX), value_of(blob)


def known_in(fields: Mapping[str, bytes]) -> Known | None:
    """What an owner has to know of the values in a run's hash; None: there are none."""
    return {name: (value.version, len(value.json)) for name, value in values_in(fields)} or None


def sizes_of(runs: Iterable[RunRecord]) -> list[dict[str, int]]:
    """By run: bytes of its values, by name."""
    return [{name: size for name, (_, size) in (run.values or {}).items()} for run in runs]


def write_values(
    epoch: Epoch, last: int, commit: Commit, held: Callable[[str], RunRecord | None], fields_of: FieldsOf
) -> None:
    """Put what an epoch's events have set into its commit, one event after the other.

    Args:
        epoch: It is done.
        last: The last source's event that counts.
        commit: Its commit.
        held: Which run has a key now.
        fields_of: See `FieldsOf`.
    """
    newest: dict[tuple[RunRecord, str], str] = {}
    for root, path, run, name, body in sorted(epoch.pending.values, key=_by_place):
        if root > last or held(run.key) is not run or _is_behind(epoch.pending.ended.get(run), root, path):
            continue
        known = run.values = run.values or {}
        version, _ = known.get(name, (0, 0))
        known[name] = version + 1, len(body.encode())
        newest[run, name] = body
    for (run, name), body in newest.items():
        assert run.values is not None
        fields_of(run, commit).extend((PREFIX + name, f"{run.values[name][0]} {body}"))


def _is_behind(end: End | None, root: int, path: Path) -> bool:
    """It was set by another branch of the event that ended the run, which comes after that one."""
    return end is not None and end.root == root and path > end.path
