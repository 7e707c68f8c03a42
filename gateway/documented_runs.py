"""What OpenAPI says of values and streams of runs."""

from __future__ import annotations

from typing import Any, Final

_JSON: Final = "application/json"
_STREAM: Final = "/v1/workflows/orders/runs/4711/streams/tokens"


def _text(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


def _parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, **_text(description, example)}


_VALUE_ETAG: Final = _text("Number of the run, a dot, version of the value.", '"12.2"')
_VALUE_VERSION: Final = _text("How often the value was set in this run.", "2")
_EVENTS_EXAMPLE: Final = 'event: value\nid: 1764168000000-0\ndata: "Hello"\n\nevent: reply\ndata: {"said": "Hello"}\n\n'

MORE_ANSWERS: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "values": (200, {
        "description": "All values.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["number", "status", "values", "versions"],
            "properties": {
                "number": {"type": "integer", "description": "Of the run."},
                "status": {"type": "string"},
                "values": {"type": "object", "description": "By name."},
                "versions": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
        }, "example": {
            "number": 12, "status": "running", "values": {"progress": {"epoch": 3}}, "versions": {"progress": 3},
        }}},
    }),
    "value": (200, {
        "description": "The bare value.",
        "headers": {"ETag": _VALUE_ETAG, "Headrace-Version": _VALUE_VERSION},
        "content": {_JSON: {"schema": {}, "example": {"epoch": 3, "of": 10}}},
    }),
    "executed": (200, {
        "description": "What the node made of it.",
        "headers": {
            "Content-Location": _text("Address of the run.", "/v1/workflows/orders/runs/4711"),
            "Headrace-Durability": _text("What it has reached: `fast`, `fsync`, `replicas:1`.", "fsync"),
            "Headrace-Status": _text("`executed`.", "executed"),
            "Idempotent-Replayed": _text("`true`: the request was sent before, this answers the first one.", "true"),
        },
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Executed"}, "examples": {
            "data": {"summary": "It returned data", "value": {
                "node": "price", "returned": "data", "type": "Priced", "data": {"order": "4711", "total": 14.9},
            }},
            "action": {"summary": "It returned an action, and has replied", "value": {
                "node": "check", "returned": "action", "action": "SHIP", "reply": {"state": "checked"},
                "committed": True,
            }},
        }}},
    }),
    "not_set": (204, {"description": "It is not set yet."}),
    "value_known": (304, {"description": "It is as the caller has it.", "headers": {"ETag": _VALUE_ETAG}}),
    "stream": (200, {
        "description": "The values that count, or all that happens, as events.",
        "content": {
            _JSON: {"schema": {
                "type": "object", "required": ["values", "count", "last_event_id", "ended"],
                "properties": {
                    "values": {"type": "array", "items": {}},
                    "count": {"type": "integer", "description": "How many there are."},
                    "last_event_id": {"type": ["string", "null"], "description": "To follow it on from here."},
                    "ended": {"type": ["string", "null"], "description": "How the run has ended; null: it goes on."},
                },
            }, "example": {
                "values": ["Hello", " ", "there"], "count": 3, "last_event_id": "1764168000000-2", "ended": None,
            }},
            "text/event-stream": {"schema": {"type": "string"}, "example": _EVENTS_EXAMPLE},
        },
    }),
    "followed_to_the_end": (204, {"description": "The caller has had all, the end included: don't come again."}),
    "ticket": (200, {
        "description": "The address, with its ticket.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["ticket", "expires_in", "links"],
            "properties": {
                "ticket": {"type": "string"},
                "expires_in": {"type": "integer", "description": "Seconds."},
                "links": {"type": "object", "properties": {"stream": {"type": "string", "format": "uri-reference"}}},
            },
        }, "example": {
            "ticket": "u3rT0...", "expires_in": 60, "links": {"stream": f"{_STREAM}?ticket=u3rT0..."},
        }}},
    }),
}  # fmt: skip

KNOWN_VALUE: Final = _parameter(
    "If-None-Match",
    "ETag of the value as the caller has it: 304 if it is that still. With `Prefer: wait=<seconds>` it waits for the"
    " next one.",
    '"12.2"',
)
ACCEPT_EVENTS: Final = _parameter("Accept", "`text/event-stream`: follow it.", "text/event-stream")
LAST_EVENT_ID: Final = _parameter("Last-Event-ID", "Go on after this event.", "1764168000000-2")
