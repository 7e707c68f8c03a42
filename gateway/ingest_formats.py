"""Many events in one body: JSON, lines of it, and CloudEvents as HTTP carries them (protocol binding 1.0.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from fastapi import Request

from headrace.gateway.bodies import decode_json
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings
from headrace.sources.cloudevents import STRUCTURED, Parsed, is_json, parse
from headrace.workflows.cloudevents import CONTENT_TYPE, PREFIX, CloudEvent, attributes_of
from headrace.workflows.records import Headers

BATCHED: Final = "application/cloudevents-batch+json"
_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_PLAIN: Final = ("", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded")
"""The last ones are what clients say who say nothing."""
_HTTP_PREFIX: Final = "ce-"
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class Came:
    """One event as it came, or what is wrong with it."""

    index: int
    body: bytes = b""
    data: Any = None
    headers: Headers = ()
    cloudevent: CloudEvent | None = None
    problem: ProblemError | None = None


def events_of(request: Request, body: bytes, settings: GatewaySettings) -> tuple[list[Came], bool]:
    """The events of a body, and whether it is one that could have many.

    Raises:
        ProblemError: It can't be told which events it has.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers = tuple((name, value) for name, value in request.headers.items())
    if media == BATCHED:
        return [_structured(index, part, settings) for index, part in enumerate(_parts(body, settings))], True
    if media == STRUCTURED:
        return [_structured(0, body, settings)], False
    if media.startswith("application/cloudevents"):
        raise ProblemError("unsupported_media_type", f"CloudEvents come as {STRUCTURED}, {BATCHED}, or in binary mode")
    if any(name == f"{_HTTP_PREFIX}specversion" for name, _ in headers):
        return [_binary(body, headers, settings)], False
    if media in _LINES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        _check_count(lines, settings)
        return [_plain(index, line, settings) for index, line in enumerate(lines)], True
    if media not in _PLAIN and not media.endswith("+json"):
        raise ProblemError("unsupported_media_type", f"its Content-Type is {media[:100]!r}")
    if body.lstrip()[:1] == b"[":
        return [_plain(index, part, settings) for index, part in enumerate(_parts(body, settings))], True
    return [_plain(0, body, settings)], False


def _parts(body: bytes, settings: GatewaySettings) -> list[bytes]:
    decode_json(body, settings)
    try:
        parts = _raws.decode(body)
    except msgspec.ValidationError as error:
        raise ProblemError("invalid_json", f"the body is no array: {error}") from error
    _check_count(parts, settings)
    return [bytes(part) for part in parts]


def _check_count(parts: Sequence[object], settings: GatewaySettings) -> None:
    if len(parts) > settings.ingest_events:
        raise ProblemError("too_many_events", f"the body has {len(parts)} events, {settings.ingest_events} may be")


def _plain(index: int, body: bytes, settings: GatewaySettings) -> Came:
    try:
        return Came(index, body, decode_json(body, settings))
    except ProblemError as problem:
        return Came(index, problem=problem)


def _structured(index: int, body: bytes, settings: GatewaySettings) -> Came:
    try:
        decode_json(body, settings)
    except ProblemError as problem:
        return Came(index, problem=problem)
    return _cloudevent(index, body, ((CONTENT_TYPE, STRUCTURED.encode()),), settings)


def _binary(body: bytes, headers: Sequence[tuple[str, str]], settings: GatewaySettings) -> Came:
    """Attributes are headers, percent-encoded (binding, section 3.1.3.2)."""
    came = tuple(
        (f"{PREFIX}{name.removeprefix(_HTTP_PREFIX)}", unquote(value.strip('"')).encode())
        for name, value in headers
        if name.startswith(_HTTP_PREFIX)
    )
    media = tuple((CONTENT_TYPE, value.encode()) for name, value in headers if name == CONTENT_TYPE)
    return _cloudevent(0, body, (*came, *media), settings)


def _cloudevent(index: int, body: bytes, headers: Headers, settings: GatewaySettings) -> Came:
    try:
        parsed = parse(body, headers)
        attributes = attributes_of(parsed.headers)
        if attributes is None:
            raise ValueError("a CloudEvent without the attribute 'specversion'")
        return Came(index, parsed.value, _data(parsed, settings), parsed.headers, attributes)
    except (ValueError, msgspec.MsgspecError) as error:
        return Came(index, problem=ProblemError("invalid_cloudevent", str(error)))
    except ProblemError as problem:
        return Came(index, problem=problem)


def _data(parsed: Parsed, settings: GatewaySettings) -> Any:
    if not is_json(parsed, object):
        raise ProblemError("unsupported_media_type", f"its data are {parsed.content_type}, not JSON")
    return decode_json(parsed.value, settings)
