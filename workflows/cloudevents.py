"""CloudEvents 1.0: the attributes of an event, as its headers have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

PREFIX: Final = "ce_"
"""Of the headers that have attributes (Kafka protocol binding, section 3.2.3)."""
CONTENT_TYPE: Final = "content-type"
"""The header that has `datacontenttype`."""
_NAMED: Final = ("specversion", "id", "source", "type", "subject", "time", "dataschema")


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Context attributes of an event that came as a CloudEvent; `(source, id)` is its identity at its producer."""

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, str] = {}
    """All other attributes, as text."""


def attributes_of(headers: Iterable[tuple[str, bytes]]) -> CloudEvent | None:
    """The attributes that headers carry; None if they are no CloudEvent's.

    Raises:
        ValueError: They should be, but one that is required is missing or empty, or the time is none.
    """
    found: dict[str, str] = {}
    content_type: str | None = None
    for name, value in headers:
        small = name.lower()
        if small.startswith(PREFIX):
            found[small.removeprefix(PREFIX)] = value.decode()
        elif small == CONTENT_TYPE:
            content_type = value.decode("utf-8", "replace")
    version = found.get("specversion")
    if version is None:
        return None
    if not version.startswith("1."):
        raise ValueError(f"a CloudEvent of version {version!r}, not 1.0")
    for name in ("id", "source", "type"):
        if not found.get(name):
            raise ValueError(f"a CloudEvent without the attribute {name!r}")
    time = found.get("time")
    return CloudEvent(
        id=found["id"], source=found["source"], type=found["type"], specversion=version,
        subject=found.get("subject"), time=None if time is None else parse_time(time),
        datacontenttype=content_type or found.get("datacontenttype"), dataschema=found.get("dataschema"),
        extensions={name: text for name, text in found.items() if name not in (*_NAMED, "datacontenttype")},
    )  # fmt: skip


def parse_time(text: str) -> datetime:
    """A timestamp as RFC 3339 writes it.

    Raises:
        ValueError: It is none, or has no time zone.
    """
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise ValueError(f"the attribute 'time' is {text!r}: {error}") from error
    if time.tzinfo is None:
        raise ValueError(f"the attribute 'time' is {text!r}, without a time zone")
    return time
