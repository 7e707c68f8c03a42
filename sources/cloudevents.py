"""CloudEvents 1.0 in Kafka records: structured mode (all in the value) and binary mode (attributes in headers).

Rules: CloudEvents "Kafka Protocol Binding" and "JSON Event Format", version 1.0.2.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headrace.workflows.cloudevents import CONTENT_TYPE, PREFIX
from headrace.workflows.records import Headers

STRUCTURED: Final = "application/cloudevents+json"
_ENVELOPE: Final = "application/cloudevents"
_JSON: Final = "application/json"
_MSGPACK: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
_envelope: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_scalar: Final = msgspec.json.Decoder(str | int | bool | None)


@dataclass(frozen=True)
class CloudEvents:
    """How a `KafkaSink(format=CloudEvents(...))` writes: all but `mode` are attributes of each event.

    The others follow from the event: `id` is its id in Headrace (the same in every repeat), `subject` the
    run's key, `time` its time.
    """

    type: str | None = None
    """`com.example.alert`; None: the class of the data."""
    source: str | None = None
    """A URI reference; None: `/headrace/<workflow>`."""
    mode: Literal["binary", "structured"] = "binary"


class Parsed(NamedTuple):
    """A record read as a CloudEvent."""

    headers: Headers
    """As in binary mode, whichever it came in."""
    content_type: str
    """Media type of the data, without parameters; "" if it is not said."""
    value: bytes
    is_text: bool
    """`value` is JSON text, whatever the media type: the `data` of a structured event."""


def parse(value: bytes, headers: Headers) -> Parsed:
    """A record, taken apart.

    Raises:
        ValueError: It is no CloudEvent.
        MsgspecError: Its envelope is no JSON.
    """
    given = next((text.decode("utf-8", "replace") for name, text in headers if name.lower() == CONTENT_TYPE), "")
    media = _media_type(given)
    if media == STRUCTURED:
        return _parse_structured(value, headers)
    if media.startswith(_ENVELOPE):
        raise ValueError(f"a CloudEvent in {media}: only {STRUCTURED} and binary mode are read")
    if not any(name.lower() == f"{PREFIX}specversion" for name, _ in headers):
        raise ValueError(f"no CloudEvent: neither content type {STRUCTURED} nor a header ce_specversion")
    return Parsed(headers, media, value, is_text=False)


def _parse_structured(value: bytes, headers: Headers) -> Parsed:
    fields = _envelope.decode(value)
    data, encoded = fields.pop("data", None), fields.pop("data_base64", None)
    if data is not None and encoded is not None:
        raise ValueError("a CloudEvent with both `data` and `data_base64`")
    attributes = {name: _text(name, raw) for name, raw in fields.items()}
    given = attributes.pop("datacontenttype", None)
    # Binary mode's headers may stand beside the envelope, which has the say (binding, section 3.3.3).
    merged = [(name, text) for name, text in headers if not _describes(name.lower())]
    merged += [(f"{PREFIX}{name}", text.encode()) for name, text in attributes.items() if text is not None]
    if given is not None:
        merged.append((CONTENT_TYPE, given.encode()))
    media = _media_type(given or _JSON)
    if encoded is not None:
        return Parsed(tuple(merged), media, msgspec.json.decode(encoded, type=bytes), is_text=False)
    return Parsed(tuple(merged), media, b"null" if data is None else bytes(data), is_text=True)


def _describes(header: str) -> bool:
    return header == CONTENT_TYPE or header.startswith(PREFIX)


def _text(name: str, raw: msgspec.Raw) -> str | None:
    try:
        value = _scalar.decode(raw)
    except msgspec.ValidationError as error:
        raise ValueError(f"the attribute {name!r} of a CloudEvent is no text: {error}") from error
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def data_of(parsed: Parsed, data_type: Any) -> Any:
    """The data of a parsed event that are not JSON text of its type already: see `is_json`.

    Raises:
        ValueError: They are of a media type that `data_type` can't be read from.
        MsgspecError: They are no msgpack of it.
    """
    if data_type is bytes:
        if parsed.is_text and not is_json_type(parsed.content_type):
            return msgspec.json.decode(parsed.value, type=str).encode()
        return parsed.value
    if data_type is str:
        return parsed.value.decode()
    if parsed.content_type in _MSGPACK:
        return msgspec.msgpack.decode(parsed.value, type=data_type)
    raise ValueError(f"its data are {parsed.content_type}, which is neither JSON nor msgpack")


def is_json(parsed: Parsed, data_type: Any) -> bool:
    """Whether the data are JSON text of the type, as they are."""
    if data_type is bytes:
        return False
    return parsed.is_text or not parsed.content_type or is_json_type(parsed.content_type)


def is_json_type(media: str) -> bool:
    """Whether a media type is JSON: `application/json`, `text/json`, `application/vnd.x+json`."""
    return media.endswith(("/json", "+json"))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def binary(attributes: dict[str, str], content_type: str) -> list[tuple[str, bytes]]:
    """Headers of an event in binary mode."""
    headers = [(f"{PREFIX}{name}", text.encode()) for name, text in attributes.items()]
    return [*headers, (CONTENT_TYPE, content_type.encode())]


def structured(attributes: dict[str, str], content_type: str, data: bytes, *, is_text: bool) -> bytes:
    """Value of an event in structured mode; `is_text`: the data are JSON text."""
    envelope: dict[str, Any] = {**attributes, "datacontenttype": content_type}
    if is_text:
        envelope["data"] = msgspec.Raw(data)
    else:
        envelope["data_base64"] = base64.b64encode(data).decode()
    return msgspec.json.encode(envelope)


def written_time(time_ms: int) -> str:
    """Milliseconds since 1970 UTC as RFC 3339 has it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
