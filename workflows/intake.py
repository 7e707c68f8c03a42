"""From records to events: keys and times taken out, what can't be an event set aside as dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec

from .actions import Tombstone
from .codec import TOMBSTONE, without_tombstone
from .commit import DeadLetter
from .errors import HeadraceError
from .fields import field_getter, part_decoder
from .plan import Plan, SourcePlan
from .records import Records
from .tenants import key_within

EVENT_CAP = 1 << 20
"""Bytes that the data of one event may have."""
_BAD = (msgspec.MsgspecError, HeadraceError, ValueError, TypeError, AttributeError)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
Problem: TypeAlias = tuple[str, str]


class SourceIntake:
    """Turns the records of one source into keys and times (and, where the nodes are at hand, decoded data)."""

    def __init__(self, plan: Plan, source: SourcePlan, *, event_cap: int = EVENT_CAP) -> None:
        units = [plan.units[plan.unit_of[target]] for target in source.targets if 0 <= target < len(plan.nodes)]
        self.decodes = bool(units) and all(unit.in_worker for unit in units)
        """The data itself is needed here: every node it enters runs in the worker."""
        self.source = source
        self.event_cap = event_cap
        self._keyed = plan.keyed
        self._type = plan.types[source.type]
        self._data_type = without_tombstone(self._type.type)
        self._decode: Callable[[bytes], Any] = self._type.codec.decode
        self._key_of = self._getter(source.key) if plan.keyed else None
        self._is_asked = getattr(source.source, "kind", "") == "requests"
        """Its records come from callers, each of whom is of a tenant."""
        self._time_of = self._getter(source.time)
        self._reads = self.decodes or self._key_of is not None or self._time_of is not None
        """Something of the data is needed here."""
        if self._reads and not self.decodes:
            self._decode = self._part([source.key if plan.keyed else None, source.time]) or self._decode

    def _getter(self, field: str | Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
        """Key or time from decoded data (or from a part of it, see `_part`)."""
        return field_getter(field, self._data_type) if isinstance(field, str) else field

    def _part(self, wanted: Sequence[str | Callable[[Any], Any] | None]) -> Callable[[bytes], Any] | None:
        """A decoder of nothing but what is wanted, if only fields are: the rest is decoded where it is used."""
        paths = [path for path in wanted if isinstance(path, str)]
        if any(callable(function) for function in wanted):
            return None
        return part_decoder(self._data_type, paths)

    def take(self, records: Records) -> Taken:
        """Keys and times (and data) of all records; a bad one has the key None and a reason."""
        taken = Taken(records, self.decodes)
        values: list[Any] = records.values
        if records.faults is None and None not in values and max(map(len, _came(records)), default=0) <= self.event_cap:
            try:
                self._take_all(taken, values)
            except Exception:  # noqa: BLE001  one of them is bad (or the user's function is): one by one
                pass
            else:
                return taken
        taken.keys, taken.data, taken.times, taken.values = [], [], list(records.times), list(values)
        faults = records.faults or {}
        for index in range(len(records)):
            fault = faults.get(index)
            reason = "gap" if index in records.gaps else "decode"
            problem = self._take_one(taken, index) if fault is None else (reason, fault)
            if problem:
                taken.keys.append(None)
                taken.data.append(None)
                taken.bad.append((index, problem[0], problem[1]))
        return taken

    def _take_all(self, taken: Taken, values: Sequence[Any]) -> None:
        data: list[Any] | None = taken.records.data
        if data is None and self._reads:
            decode = self._decode
            data = [decode(value) for value in values]
        if not self._keyed:
            keys: list[str | None] = [""] * len(values)
        elif self._key_of is None:
            keys = [key.decode() for key in taken.records.keys]  # type: ignore[union-attr]
        else:
            assert data is not None
            keys = list(map(self._key_of, data))
            if set(map(type, keys)) != {str}:
                keys = [_text(key) for key in keys]
        if self._keyed and "" in keys:
            raise ValueError("empty key")
        if self._key_of is not None and self._is_asked:
            keys = [key_within(came, key or "") for came, key in zip(taken.records.keys, keys, strict=True)]
        if self.source.tombstones == "deliver" and TOMBSTONE in values:
            raise ValueError("an empty value, which is no tombstone")
        if self._time_of is not None and data is not None:
            time_of = self._time_of
            taken.times = [milliseconds(time_of(item)) for item in data]
        taken.keys, taken.data = keys, data or []

    def _take_one(self, taken: Taken, index: int) -> Problem | None:
        """Add one record to `taken`, or say why it is no event."""
        records = taken.records
        value = _came(records)[index]
        if value is None:
            return self._tombstone(taken, index)
        if len(value) > self.event_cap:
            return "size", f"{len(value)} bytes, over the cap of {self.event_cap} for one event"
        try:
            text = records.values[index]
            if not text:
                return "decode", "the value is empty"
            data = None
            if self._reads:
                data = self._decode(text) if records.data is None else records.data[index]
        except _BAD as error:
            return "decode", str(error)
        key, problem = self._key(records.keys[index], data)
        if problem is None and self._time_of is not None:
            try:
                taken.times[index] = milliseconds(self._time_of(data))
            except Exception as error:  # noqa: BLE001  the user's function may raise anything
                problem = ("time", f"its time can't be had: {type(error).__name__}: {error}")
        if problem is None:
            taken.keys.append(key)
            taken.data.append(data)
        return problem

    def _tombstone(self, taken: Taken, index: int) -> Problem | None:
        """A record without a value: deleted is what has the record's own key."""
        match self.source.tombstones:
            case "skip":
                taken.keys.append(None)
                taken.data.append(None)
                return None
            case "deliver":
                key, problem = self._record_key(taken.records.keys[index])
                if problem is None:
                    taken.keys.append(key)
                    taken.data.append(Tombstone())
                    taken.values[index] = TOMBSTONE
                return problem
            case _:
                return "tombstone", "the record has no value (a tombstone)"

    def _key(self, record_key: bytes | None, data: Any) -> tuple[str | None, Problem | None]:
        if self._key_of is None:
            return self._record_key(record_key)
        try:
            key = _text(self._key_of(data))
            if key and self._is_asked:
                key = key_within(record_key, key)
        except Exception as error:  # noqa: BLE001  the user's key function may raise anything
            return None, ("key", f"its key can't be had: {type(error).__name__}: {error}")
        return (key, None) if key else (None, ("key", "it has no key"))

    def _record_key(self, record_key: bytes | None) -> tuple[str | None, Problem | None]:
        if not self._keyed:
            return "", None
        try:
            key = (record_key or b"").decode()
        except UnicodeDecodeError as error:
            return None, ("key", f"its key can't be had: {type(error).__name__}: {error}")
        return (key, None) if key else (None, ("key", "it has no key"))


class Taken:
    """Records as columns of events; `bad` lists those that are none."""

    __slots__ = ("bad", "data", "decoded", "keys", "records", "times", "values")

    def __init__(self, records: Records, decoded: bool) -> None:
        self.records = records
        self.decoded = decoded
        self.keys: list[str | None] = []
        self.data: list[Any] = []
        self.times: list[int] = records.times
        self.values: list[bytes | None] = records.values
        self.bad: list[tuple[int, str, str]] = []
        """Index, reason of the dead letter (a stable word), and a sentence."""

    @classmethod
    def unknown(cls, records: Records) -> Taken:
        """Records of a source that the workflow does not have: none of them is an event."""
        taken = cls(records, False)
        taken.keys = [None] * len(records)
        error = "it was sent to a source that this version of the workflow does not have"
        taken.bad = [(index, "source", error) for index in range(len(records))]
        return taken

    def letter(self, source: str, index: int, reason: str, error: str, now: int) -> DeadLetter:
        """The dead letter of one bad record."""
        records = self.records
        came = records.original or records
        chosen = records.ids[index] if records.ids else None
        raw_key = records.keys[index]
        return DeadLetter(
            id=chosen or f"{records.identity}/{records.offsets[index]}",
            key=raw_key.decode("utf-8", "replace") if raw_key else "",
            source=source, node=(records.entry and records.entry.node) or None, reason=reason, error=error, time=now,
            event_time=records.times[index], type=(records.entry and records.entry.type) or None,
            data=came.values[index], headers=came.headers[index] if came.headers else (), reentry=records.entry,
        )  # fmt: skip


def milliseconds(time: Any) -> int:
    """An event's time, as data have it, in milliseconds since 1970 UTC.

    Args:
        time: A `datetime` with a time zone, or an int that is these milliseconds already.

    Raises:
        TypeError: It is neither.
        ValueError: It has no time zone, or lies before 1970 or after the year 9999.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError(f"{time.isoformat()} has no time zone")
        number = (time - _EPOCH) // _MILLISECOND
    elif isinstance(time, int) and not isinstance(time, bool):
        number = time
    else:
        raise TypeError(f"a time is a datetime, or milliseconds since 1970 as an int, not {type(time).__name__}")
    if not 0 <= number <= _LAST:
        raise ValueError(f"{number} ms since 1970 is no time that an event can have")
    return number


def _came(records: Records) -> list[Any]:
    """The values as they came."""
    return (records.original or records).values


def _text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise TypeError(f"a key is a str or an int, not {type(key).__name__}")
