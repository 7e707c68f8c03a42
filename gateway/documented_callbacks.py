"""What OpenAPI says of callbacks: the calls that a run's address gets, what they tell, and what answers mean."""

from __future__ import annotations

from typing import Any, Final

_ANY: Final[dict[str, Any]] = {}
_TEXT: Final = {"type": "string"}
_SINCE: Final = "2026-11-27T12:00:00.000Z"
_REASON: Final = {"reason": {"description": "Whatever was given as the reason."}}

_OCCURRENCES: Final[dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]]] = {
    "run.waiting": (
        "The run has come to a wait for a message", "running",
        {"wait": _TEXT, "until": {"type": ["string", "null"], "format": "date-time"}},
        {"wait": "approval", "until": "2026-11-27T13:00:00.000Z"},
    ),
    "run.completed": (
        "A node has ended it, with a result", "completed", {"result": _ANY}, {"result": {"paid": True}}
    ),
    "run.terminated": ("A node, or somebody, has terminated it", "terminated", _REASON, {"reason": "sold out"}),
    "run.timed_out": ("It took too long", "timed out", _REASON, {"reason": {"after": "PT1H"}}),
    "run.source_closed": (
        "The sources of a workflow without keys are closed", "source closed", _REASON,
        {"reason": "every source was closed"},
    ),
    "run.failed": (
        "One of its events is a dead letter; the run goes on", "running",
        {
            "event": _TEXT, "node": {"type": ["string", "null"]}, "reason": _TEXT, "error": _TEXT,
            "attempts": {"type": "integer"},
        },
        {
            "event": "9f2c5b7e1d3a4c60", "node": "pay", "reason": "reject", "error": "no such card", "attempts": 1,
        },
    ),
}  # fmt: skip
"""By type: what occurred, the run's status, what more is told, and an example of it."""


def _schema(kind: str) -> dict[str, Any]:
    what, status, more, _ = _OCCURRENCES[kind]
    about = {
        "workflow": _TEXT, "key": _TEXT, "number": {"type": "integer", "description": "Of the run."},
        "status": {"const": status}, **more,
    }  # fmt: skip
    return {
        "type": "object", "description": f"{what}.", "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": kind},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it occurred."},
            "data": {"type": "object", "required": list(about), "properties": about},
        },
    }  # fmt: skip


def _example(kind: str) -> dict[str, Any]:
    what, status, _, more = _OCCURRENCES[kind]
    about = {"workflow": "orders", "key": "4711", "number": 12, "status": status, **more}
    return {"summary": what, "value": {"type": kind, "timestamp": _SINCE, "data": about}}


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name, "in": "header", "required": True, "description": description, "schema": _TEXT, "example": example
    }  # fmt: skip


OCCURRENCE: Final[dict[str, Any]] = {
    "description": "What has become of a run.", "oneOf": [_schema(kind) for kind in _OCCURRENCES]
}  # fmt: skip
"""Schema of what is told."""
CALLBACK: Final[dict[str, Any]] = {
    "name": "Headrace-Callback", "in": "header", "required": False,
    "description": "Address that is told when the run waits, ends, or gives an event up (Standard Webhooks).",
    "schema": {"type": "string", "format": "uri"}, "example": "https://shop.example/hooks/orders",
}  # fmt: skip
"""The header that asks for it."""
CALLBACKS: Final[dict[str, Any]] = {"occurrence": {"{$request.header.Headrace-Callback}": {"post": {
    "summary": "Be told what becomes of a run",
    "description": "Signed by Standard Webhooks, and told at least once: `webhook-id` is the same each time. Answer"
                   " 2xx within 15 seconds.",
    "parameters": [
        _header("webhook-id", "Of what occurred.", "msg_5e0f8c2d9a1b4f7e"),
        _header("webhook-timestamp", "Of this attempt: seconds since 1970 UTC.", "1795780800"),
        _header(
            "webhook-signature",
            "`v1,` and HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}` in base64; one of each secret, with"
            " blanks between.",
            "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        ),
    ],
    "requestBody": {"required": True, "content": {"application/json": {
        "schema": {"$ref": "#/components/schemas/Occurrence"},
        "examples": {kind: _example(kind) for kind in _OCCURRENCES},
    }}},
    "responses": {
        "2XX": {"description": "It is told."},
        **{status: {"description": "It is given up at once."} for status in ("400", "405", "410", "413", "415", "422")},
        "default": {"description": "It is told again later, for a day; not before `Retry-After`."},
    },
}}}}  # fmt: skip
"""The calls themselves, as operations that ask for them have them."""
