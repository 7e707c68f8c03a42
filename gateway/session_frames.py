"""What goes over a session: JSON texts, each an object, one way with an `id` and the other way with a `type`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from headrace.actors.store_followed import FIRST
from headrace.gateway.answers import STATUS, answer_response
from headrace.gateway.bodies import too_deep
from headrace.gateway.claims import WAIT
from headrace.gateway.following import Told
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings

AROUND: Final = 4096
"""Bytes that a frame may have beside its data."""


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: an event, or a message to a wait."""

    id: str
    """Its Idempotency-Key."""
    data: msgspec.Raw
    """As they came."""
    message: str | None = None
    """Name of the `MessageSource`; None: it is an event."""
    source: str | None = None
    """Name of the `RequestSource`; None: the first."""
    wait: str = ""
    """Id of the wait that a message is for; empty: of none in particular."""


class _Named(msgspec.Struct):
    id: str | None = None


def frame_of(body: bytes, settings: GatewaySettings) -> Frame:
    """The frame in a text.

    Raises:
        ProblemError: `invalid_json`, `too_deep`, `invalid_frame`.

    Examples:
        >>> bytes(frame_of(b'{"id": "1", "data": [1, 2]}', GatewaySettings()).data)
        b'[1, 2]'
    """
    try:
        return msgspec.json.decode(body, type=Frame)
    except RecursionError as error:
        raise too_deep(settings.depth) from error
    except msgspec.ValidationError as error:
        raise ProblemError("invalid_frame", str(error)) from error
    except msgspec.DecodeError as error:
        raise ProblemError("invalid_json", f"the frame is no JSON: {error}") from error


def id_in(body: bytes) -> str | None:
    """The id of a frame in which something else is wrong, if it has one."""
    try:
        return msgspec.json.decode(body, type=_Named).id
    except (msgspec.DecodeError, RecursionError):
        return None


def _text(**members: Any) -> str:
    return msgspec.json.encode(members).decode()


def stream_frame(stream: str, told: Told) -> str:
    r"""What is told of a stream.

    Examples:
        >>> stream_frame("tokens", Told("value", b'"Hi"', "7-0", "e"))
        '{"type":"value","stream":"tokens","data":"Hi","id":"7-0"}'
    """
    place = {"type": told.kind, "stream": stream}
    match told.kind:
        case "value":
            return _text(**place, data=msgspec.Raw(told.value), id=told.id)
        case "reset":
            return _text(**place, **{"from": told.value.decode()}, id=told.id or FIRST)
        case _:
            return _text(**place, status=told.value.decode(), id=told.id)


def accepted_frame(to: str, durability: str, *, is_replayed: bool) -> str:
    """What was sent is in, as safe as `durability` says."""
    return _text(type="accepted", to=to, durability=durability, replayed=is_replayed)


def reply_frame(to: str, blob: bytes, home: str) -> str:
    """The answer to what was sent.

    Raises:
        ProblemError: It has failed for good, or its run has ended without a result.
    """
    response = answer_response(blob, home, {})
    wait = response.headers.get(WAIT)
    more = {} if wait is None else {"wait": wait}
    return _text(type="reply", to=to, status=response.headers[STATUS], data=msgspec.Raw(bytes(response.body)), **more)


def error_frame(to: str | None, problem: ProblemError) -> str:
    """A problem with what was sent; `to` is None where that had no id."""
    retry = problem.headers.get("Retry-After")
    more = {} if retry is None else {"retry_after": int(retry)}
    return _text(**{**problem.extra, "type": "error", "to": to, "code": problem.code, "detail": problem.detail}, **more)
