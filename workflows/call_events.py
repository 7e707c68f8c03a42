"""The events of a call, as users see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from .entries import Entry
from .errors import HeadraceError
from .events import Event
from .outcome import Outcome

_UNDECODED: Final = object()


def events_of(
    out: Outcome, decoders: Sequence[Callable[[bytes], Any]], data: Sequence[Any] | None
) -> list[Event[Any] | None]:
    """The call's events; None where the data could not be decoded (noted as failed).

    Args:
        out: The call's.
        decoders: By type.
        data: Where it is decoded already.
    """
    call = out.call
    count = len(call.runs)
    keys, origins = call.keys, call.origins
    paths = call.paths or ((),) * count
    headers = call.headers or ((),) * count
    if data is None:
        data = _decode(out, decoders)
    return [
        None if value is _UNDECODED else Event(value, keys[run], origins[origin], offset, path, at, header)
        for value, run, origin, offset, path, at, header in zip(
            data, call.runs, call.origin_of, call.offsets, paths, call.times, headers, strict=True
        )
    ]


def _decode(out: Outcome, decoders: Sequence[Callable[[bytes], Any]]) -> list[Any]:
    call = out.call
    values: list[Any] = []
    for index, (type, blob) in enumerate(zip(call.types, call.blobs, strict=True)):
        try:
            values.append(decoders[type](blob))  # type: ignore[arg-type]
        except (msgspec.MsgspecError, HeadraceError, ValueError, TypeError) as error:
            out.unread(index, error)
            values.append(_UNDECODED)
    return values


def readable(out: Outcome, entries: Sequence[Entry], events: list[Event[Any] | None]) -> list[Event[Any] | None]:
    """The events, without those of runs whose state can't be read: each of them is noted as failed."""
    if all(entry.unread is None for entry in entries):
        return events
    left = list(events)
    for index, run in enumerate(out.call.runs):
        fault = entries[run].unread
        if fault is not None and left[index] is not None:
            out.unread(index, fault)
            left[index] = None
    return left
