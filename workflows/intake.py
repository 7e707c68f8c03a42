"""From records to events: keys taken out, what can't be an event set aside as dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from .commit import DeadLetter
from .errors import HeadraceError
from .keyspace import partition_of
from .plan import Plan, SourcePlan
from .records import Records

EVENT_CAP = 1 << 20
"""Bytes that the data of one event may have."""
_BAD = (msgspec.MsgspecError, HeadraceError, ValueError, TypeError, AttributeError)


class SourceIntake:
    """Turns the records of one source into keys (and, where the nodes are at hand, decoded data)."""

    def __init__(self, plan: Plan, source: SourcePlan, *, event_cap: int = EVENT_CAP) -> None:
        units = [plan.units[plan.unit_of[target]] for target in source.targets if 0 <= target < len(plan.nodes)]
        self.decodes = bool(units) and all(unit.in_worker for unit in units)
        """The data itself is needed here: every node it enters runs in the worker."""
        self.source = source
        self.event_cap = event_cap
        self._keyed = plan.keyed
        self._type = plan.types[source.type]
        self._decode: Callable[[bytes], Any] = self._type.codec.decode
        self._key_of = self._key_function()

    def _key_function(self) -> Callable[[Any], Any] | None:
        """Key from decoded data (or from a part of it, see `_key_part`)."""
        key = self.source.key
        if not self._keyed or key is None:
            return None
        if isinstance(key, str):
            if not self.decodes:
                self._decode = self._key_part(key)
            return attrgetter(key)
        return key

    def _key_part(self, field: str) -> Callable[[bytes], Any]:
        """A decoder of nothing but the key's field: the rest is decoded where it is used."""
        data_type = self._type.type
        try:
            names = {row.name: row for row in msgspec.structs.fields(data_type)}
        except TypeError:
            return self._decode
        row = names[field]
        part = msgspec.defstruct("Key", [(field, row.type)], rename={field: row.encode_name}, gc=False)
        return msgspec.json.Decoder(part).decode

    def take(self, records: Records) -> Taken:
        """Keys (and data) of all records; a bad one has the key None and a reason."""
        taken = Taken(records, self.decodes)
        values: list[Any] = records.values
        cap = self.event_cap
        if records.faults is None and None not in values and max(map(len, values), default=0) <= cap:
            try:
                self._take_all(taken, values)
            except Exception:  # noqa: BLE001  one of them is bad (or the user's key function is): one by one
                pass
            else:
                return taken
        taken.keys, taken.data = [], []
        for index in range(len(records)):
            self._take_one(taken, index)
        return taken

    def _take_all(self, taken: Taken, values: Sequence[Any]) -> None:
        data: list[Any] | None = None
        if self.decodes or self._key_of is not None:
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
        taken.keys, taken.data = keys, data or []

    def _take_one(self, taken: Taken, index: int) -> None:
        value = taken.records.values[index]
        key: str | None = None
        data: Any = None
        problem: tuple[str, str] | None = None
        fault = (taken.records.faults or {}).get(index)
        if fault is not None:
            problem = ("decode", fault)
        elif value is None:
            problem = ("tombstone", "the record has no value (a tombstone)")
        elif len(value) > self.event_cap:
            problem = ("size", f"{len(value)} bytes, over the cap of {self.event_cap} for one event")
        else:
            try:
                if self.decodes or self._key_of is not None:
                    data = self._decode(value)
            except _BAD as error:
                problem = ("decode", str(error))
            else:
                key, problem = self._key(taken.records.keys[index], data)
        taken.keys.append(None if problem else key)
        taken.data.append(data)
        if problem:
            taken.bad.append((index, problem[0], problem[1]))

    def _key(self, record_key: bytes | None, data: Any) -> tuple[str | None, tuple[str, str] | None]:
        if not self._keyed:
            return "", None
        try:
            key = (record_key or b"").decode() if self._key_of is None else _text(self._key_of(data))
        except Exception as error:  # noqa: BLE001  the user's key function may raise anything
            return None, ("key", f"its key can't be had: {type(error).__name__}: {error}")
        return (key, None) if key else (None, ("key", "it has no key"))


class Taken:
    """Records with their keys; `bad` lists (index, reason, sentence) of those that are no events."""

    __slots__ = ("bad", "data", "decoded", "keys", "records")

    def __init__(self, records: Records, decoded: bool) -> None:
        self.records = records
        self.decoded = decoded
        self.keys: list[str | None] = []
        self.data: list[Any] = []
        self.bad: list[tuple[int, str, str]] = []

    def letter(self, source: str, index: int, reason: str, error: str, now: int) -> DeadLetter:
        """The dead letter of one bad record."""
        records = self.records
        chosen = records.ids[index] if records.ids else None
        raw_key = records.keys[index]
        return DeadLetter(
            id=chosen or f"{records.origin}/{records.offsets[index]}",
            key=raw_key.decode("utf-8", "replace") if raw_key else "",
            source=source, node=None, reason=reason, error=error, time=now, data=records.values[index],
            headers=records.headers[index] if records.headers else (),
        )  # fmt: skip


def misplaced(key: str, partition: int, partitions: int) -> str | None:
    """A sentence if `key` does not belong to the partition it arrived at, else None."""
    home = partition_of(key, partitions)
    if home == partition:
        return None
    return (
        f"key {key!r} arrived at partition {partition}, but belongs to {home} of {partitions}: the producer must"
        " choose the topic partition by murmur2 of the run's key (Kafka's default for a record with that key)"
    )


def _text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise TypeError(f"a key is a str or an int, not {type(key).__name__}")
