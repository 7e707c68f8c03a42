"""What OpenAPI says of routes: bodies, headers, answers and problems, with examples, for routes to choose from."""

from __future__ import annotations

from typing import Any, Final

from headrace.gateway.documented_runs import MORE_ANSWERS
from headrace.gateway.idempotency import HEADER, REPLAYED
from headrace.gateway.problem_types import PROBLEMS, ProblemType
from headrace.gateway.problems import PROBLEM_JSON

EVENT_EXAMPLE: Final[dict[str, Any]] = {"order": "4711", "amount": 12.5}
_HOME: Final = "/v1/workflows/orders/runs/4711"
_JSON: Final = "application/json"


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_DURABILITY: Final = _header("What it has reached: `fast`, `fsync`, `replicas:1`.", "fsync")
_REPLAYED: Final = _header("`true`: the request was sent before, this answers the first one.", "true")
_WHERE: Final = _header("Address of the run.", _HOME)
_ETAG: Final = _header("Version of the run: another one once it goes on.", '"6d1f0c8a5b2e4f70"')

LINKS: Final[dict[str, Any]] = {
    "self": _HOME,
    "result": f"{_HOME}/result",
    "messages": f"{_HOME}/messages/{{name}}",
    "values": f"{_HOME}/values",
    "stream": f"{_HOME}/streams/{{name}}",
    "terminate": f"{_HOME}/terminate",
}
RUN_EXAMPLE: Final[dict[str, Any]] = {
    "workflow": "orders",
    "key": "4711",
    "number": 12,
    "status": "running",
    "began": "2026-11-27T12:00:00.000Z",
    "ended": None,
    "ended_by": None,
    "wait": {"name": "approval", "id": "12.1", "until": "2026-11-27T14:00:00.000Z"},
    "links": LINKS,
}
_RUN_SCHEMA: Final[dict[str, Any]] = {"$ref": "#/components/schemas/Run"}

_ANSWERS: Final[dict[str, tuple[int, dict[str, Any]]]] = MORE_ANSWERS | {
    "reply": (200, {
        "description": "The workflow's reply to this event.",
        "headers": {"Content-Location": _WHERE, "Headrace-Durability": _DURABILITY, REPLAYED: _REPLAYED},
        "content": {_JSON: {"schema": {}, "example": {"order": "4711", "state": "paid"}}},
    }),
    "accepted": (202, {
        "description": "It is in, and no reply has come in the time that the caller waits.",
        "headers": {
            "Location": _WHERE, "Retry-After": _header("Seconds.", "1"), "Headrace-Durability": _DURABILITY,
            "Preference-Applied": _header("What was done of `Prefer`.", "respond-async"), REPLAYED: _REPLAYED,
        },
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Accepted"}, "example": {
            "id": "9f2c5b7e1d3a4c60", "key": "4711", "status": "accepted", "durability": "fsync", "links": LINKS,
        }}},
    }),
    "ingested": (200, {
        "description": "How many are in, and what is wrong with the others.",
        "headers": {"Headrace-Durability": _DURABILITY, REPLAYED: _REPLAYED},
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Ingested"}, "example": {
            "accepted": 2, "errors": [{"index": 1, "code": "invalid_json", "detail": "the body is no JSON: ..."}],
        }}},
    }),
    "run": (200, {
        "description": "The run.", "headers": {"ETag": _ETAG},
        "content": {_JSON: {"schema": _RUN_SCHEMA, "example": RUN_EXAMPLE}},
    }),
    "unchanged": (304, {"description": "The run is as the caller knows it.", "headers": {"ETag": _ETAG}}),
    "runs": (200, {
        "description": "A part of the list, in no order.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["runs", "cursor"],
            "properties": {"runs": {"type": "array", "items": _RUN_SCHEMA}, "cursor": {"type": ["string", "null"]}},
        }, "example": {"runs": [RUN_EXAMPLE], "cursor": "1024.3"}}},
    }),
    "result": (200, {
        "description": "The bare result.", "headers": {"Content-Location": _WHERE},
        "content": {_JSON: {"schema": {}, "example": {"paid": 12.5}}},
    }),
    "running": (202, {
        "description": "There is no result yet.",
        "headers": {"Location": _WHERE, "Retry-After": _header("Seconds.", "1")},
        "content": {_JSON: {"schema": _RUN_SCHEMA, "example": RUN_EXAMPLE}},
    }),
    "terminating": (202, {
        "description": "It is asked for, and done once the workflow has done what is under way, or runs again.",
        "headers": {"Location": _WHERE, "Retry-After": _header("Seconds.", "1")},
        "content": {_JSON: {"schema": _RUN_SCHEMA, "example": RUN_EXAMPLE}},
    }),
    "letters": (200, {
        "description": "A part of the list, the newest first.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["dead_letters", "cursor"],
            "properties": {
                "dead_letters": {"type": "array", "items": {"$ref": "#/components/schemas/DeadLetter"}},
                "cursor": {"type": ["string", "null"]},
            },
        }, "example": {"cursor": None, "dead_letters": [{
            "address": "orders/3/1764168000000-0", "id": "9f2c5b7e1d3a4c60", "key": "4711", "source": "requests",
            "node": "price", "reason": "error", "error": "KeyError: 'amount'", "traceback": None, "attempts": 1,
            "time": "2026-11-27T12:00:00.000Z", "event_time": "2026-11-27T12:00:00.000Z", "type": "Order",
            "data": {"order": "4711"}, "headers": {},
        }]}}},
    }),
    "callbacks": (200, {
        "description": "The callbacks.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["callbacks"],
            "properties": {"callbacks": {"type": "array", "items": {"$ref": "#/components/schemas/Callback"}}},
        }, "example": {"callbacks": [{
            "id": "msg_5e0f8c2d9a1b4f7e", "run": _HOME, "type": "run.completed",
            "url": "https://shop.example/hooks/orders", "status": "delivered",
            "occurred": "2026-11-27T12:00:00.000Z", "next_attempt": None, "attempts": 1,
            "log": [{"at": "2026-11-27T12:00:00.120Z", "milliseconds": 48, "status": 204, "error": None}],
            "links": {"redeliver": f"{_HOME}/callbacks/msg_5e0f8c2d9a1b4f7e/redeliver"},
        }]}}},
    }),
    "dead_callbacks": (200, {
        "description": "A part of them, the newest first; `cursor`: where the next part begins, null at the end.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["callbacks", "cursor"],
            "properties": {
                "callbacks": {"type": "array", "items": {"$ref": "#/components/schemas/Callback"}},
                "cursor": {"type": ["string", "null"]},
            },
        }, "example": {"callbacks": [{
            "id": "msg_5e0f8c2d9a1b4f7e", "run": _HOME, "type": "run.completed",
            "url": "https://shop.example/hooks/orders", "status": "dead",
            "occurred": "2026-11-27T12:00:00.000Z", "next_attempt": None, "attempts": 1,
            "log": [{"at": "2026-11-27T12:00:00.120Z", "milliseconds": 48, "status": 410, "error": None}],
            "links": {"redeliver": f"{_HOME}/callbacks/msg_5e0f8c2d9a1b4f7e/redeliver"},
        }], "cursor": None}}},
    }),
    "redelivered": (200, {
        "description": "It is to be told once more.",
        "headers": {"Location": _header("Where its attempts are listed.", f"{_HOME}/callbacks")},
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["id", "status"],
            "properties": {"id": {"type": "string"}, "status": {"type": "string"}},
        }, "example": {"id": "msg_5e0f8c2d9a1b4f7e", "status": "pending"}}},
    }),
    "replayed": (200, {
        "description": "What became of them.",
        "content": {_JSON: {"schema": {
            "type": "object", "required": ["found", "replayed", "kept", "more"],
            "properties": {
                "found": {"type": "integer", "description": "How many were meant and there."},
                "replayed": {"type": "integer", "description": "How many are on their way."},
                "kept": {"type": "integer", "description": "How many can't go back, and stay."},
                "more": {"type": "boolean", "description": "There are more of them: ask again."},
            },
        }, "example": {"found": 3, "replayed": 3, "kept": 0, "more": False}}},
    }),
}  # fmt: skip


def answers(*names: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: names of answers, and codes of problems."""
    found: dict[int | str, dict[str, Any]] = {}
    for name in (*names, "internal_error"):
        if name in _ANSWERS:
            status, described = _ANSWERS[name]
            found[status] = described
        else:
            _add_problem(found, PROBLEMS[name])
    return found


def _add_problem(found: dict[int | str, dict[str, Any]], kind: ProblemType) -> None:
    row = found.setdefault(kind.status.value, {
        "description": "", "content": {
            PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        },
    })  # fmt: skip
    row["description"] += f"{'; ' if row['description'] else ''}{kind.title} (`{kind.code}`)"
    row["content"][PROBLEM_JSON]["examples"][kind.code] = {
        "summary": kind.title,
        "description": kind.cure,
        "value": {
            "type": kind.uri, "title": kind.title, "status": kind.status.value,
            "detail": kind.title, "instance": f"{_HOME}/events", "code": kind.code,
        },
    }  # fmt: skip


def _parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name, "in": "header", "required": False, "description": description,
        "schema": {"type": "string"}, "example": example,
    }  # fmt: skip


WAITING: Final = _parameter(
    "Prefer", "`wait=<seconds>`: how long to wait for the answer; `respond-async`: don't (RFC 7240).", "wait=10"
)
IDEMPOTENT: Final = _parameter(
    HEADER,
    "Sent again with the same key, the request counts once and gets the same answer; with another body it is refused.",
    "8e03978e-40d5-43dd-bc93-6894a57f9324",
)
KNOWN: Final = _parameter(
    "If-None-Match",
    "ETag of the run as the caller knows it: 304 if it is that still. With `Prefer: wait=<seconds>` it waits for the"
    " next one.",
    '"6d1f0c8a5b2e4f70"',
)


def extra(
    *parameters: dict[str, Any], body: dict[str, Any] | None = None, callbacks: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a route's functions don't show: headers that it reads, its body, and calls that it has made later."""
    described: dict[str, Any] = {"parameters": list(parameters)}
    if callbacks is not None:
        described["callbacks"] = callbacks
    if body is not None:
        described["requestBody"] = body
    return described


def body_of(example: Any, *, required: bool = True, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """A body in JSON; by default of the source's type, which `headrace openapi WORKFLOW` fills in."""
    return {"required": required, "content": {_JSON: {"schema": schema or {}, "example": example}}}


REASON_BODY: Final = body_of(
    {"reason": "cancelled by the customer"}, required=False,
    schema={"type": "object", "properties": {"reason": {"description": "Kept as the run's result."}}},
)  # fmt: skip
"""The body by which a run is ended."""


def body_of_many(example: Any) -> dict[str, Any]:
    """The bodies of `POST /events`."""
    envelope = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "order", "subject": "4711"}
    event = {**envelope, "data": example}
    return {
        "required": True,
        "content": {
            _JSON: {"schema": {}, "examples": {
                "one": {"summary": "One event; also the body of a CloudEvent in binary mode", "value": example},
                "many": {"summary": "Many events", "value": [example, example]},
            }},
            "application/x-ndjson": {"schema": {"type": "string"}, "example": '{"order": "4711"}\n{"order": "4712"}\n'},
            "application/cloudevents+json": {"schema": {"type": "object"}, "example": event},
            "application/cloudevents-batch+json": {"schema": {"type": "array"}, "example": [event]},
        },
    }  # fmt: skip
