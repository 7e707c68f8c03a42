"""The OpenAPI document: what FastAPI finds by itself, with the schemas of answers, and of a workflow's own data."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from headrace.gateway.documented import RUN_EXAMPLE
from headrace.gateway.documented_callbacks import OCCURRENCE
from headrace.gateway.guarded import add_credentials
from headrace.gateway.problem_types import PROBLEMS
from headrace.workflows.store import WorkflowDescriptor

DESCRIPTION: Final = """
Events to workflows, and what comes of them. Every error is a problem document (RFC 9457) with a stable `code`.

* A request waits for its reply, 10 s if it does not say (`Prefer: wait=<seconds>`); else it is answered 202 with the
  address of the run.
* A request that is sent again with the same `Idempotency-Key` counts once, and gets the same answer.
* What is answered 2xx is as durable as the header `Headrace-Durability` says.
""".strip()
TAGS: Final = [
    {"name": "events", "description": "Events that begin runs, or go to runs that there are."},
    {"name": "runs", "description": "Runs: how they stand, what they publish, messages to them, and their end."},
    {"name": "dead letters", "description": "What could not be processed, and sending it back."},
    {"name": "callbacks", "description": "What runs have told to addresses, and telling it once more."},
    {"name": "documents", "description": "What workflows read and send, for generators."},
    {"name": "operation", "description": "This process, for those who run it."},
    {"name": "aliases", "description": "Short paths known from guides of the field; each is another one by its name."},
]
_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_WAIT: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "id": {"type": "string", "description": "Another one each time; a message may claim it (`If-Match`)."},
        "until": _TIME,
    },
}
_LINKS: Final = {
    "type": "object",
    "description": "Addresses of what belongs to it; with a name to fill in, they are templates (RFC 6570).",
    "additionalProperties": {"type": "string", "format": "uri-template"},
}
_FIELD_ERROR: Final = {
    "type": "object",
    "required": ["path", "message"],
    "properties": {
        "path": {"type": "string", "example": "$.items[2].price"},
        "message": {"type": "string", "example": "is required"},
        "code": {"type": "string", "description": "Keyword of JSON Schema."},
    },
}
_SCHEMAS: Final[dict[str, Any]] = {
    "Problem": {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "For people, about this occurrence."},
            "instance": {"type": "string", "format": "uri-reference"},
            "code": {"type": "string", "enum": sorted(PROBLEMS), "description": "For programs; stable."},
            "run": {"type": "string", "format": "uri-reference", "description": "Address of the run."},
            "errors": {"type": "array", "items": _FIELD_ERROR, "description": "Every field that is wrong."},
        },
    },
    "Run": {
        "type": "object",
        "required": ["workflow", "key", "number", "status", "began", "ended", "links"],
        "properties": {
            "workflow": {"type": "string"},
            "key": {"type": "string"},
            "number": {"type": "integer", "description": "A key that is used again is another run."},
            "status": {"type": "string", "description": "`running`, `completed`, `terminated`, `timed out`, ..."},
            "began": _TIME,
            "ended": _TIME,
            "ended_by": {"type": ["string", "null"], "description": "The node that ended it."},
            "wait": {
                "description": "The wait that it stands at.",
                "oneOf": [
                    {"type": "null"},
                    _WAIT,
                ],
            },
            "waits": {
                "type": "array",
                "description": "All that it stands at, if it is several: those of workflows that are nodes, too.",
                "items": _WAIT,
            },
            "result": {"description": "Of a completed run."},
            "reason": {"description": "Of a run that ended otherwise."},
            "void": {"type": "integer", "description": "Events that stood still when it was ended from outside."},
            "links": _LINKS,
        },
        "example": RUN_EXAMPLE,
    },
    "Accepted": {
        "type": "object",
        "required": ["id", "key", "status", "durability", "links"],
        "properties": {
            "id": {"type": "string", "description": "Of the event."},
            "key": {"type": "string", "description": "Of the run."},
            "status": {"const": "accepted"},
            "durability": {"type": "string"},
            "links": _LINKS,
        },
    },
    "Executed": {
        "type": "object",
        "description": "What a node made of data that it was given out of line.",
        "required": ["node", "returned"],
        "properties": {
            "node": {"type": "string"},
            "returned": {
                "type": "string",
                "enum": ["nothing", "data", "action", "complete", "terminate", "list"],
                "description": "Of a `list`, `data` has an object of this kind for each part.",
            },
            "action": {"type": "string", "description": "Name of the member."},
            "type": {"type": "string", "description": "Class of the data."},
            "data": {"description": "What it returned; the result or reason of `complete` and `terminate`."},
            "reply": {"description": "What it has replied, if it has: the first one."},
            "committed": {"type": "boolean", "description": "`true`: states and effects are kept."},
        },
    },
    "Ingested": {
        "type": "object",
        "required": ["accepted", "errors"],
        "properties": {
            "accepted": {"type": "integer"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "code", "detail"],
                    "properties": {
                        "index": {"type": "integer", "description": "Of the event in the body, from 0 on."},
                        "code": {"type": "string", "enum": sorted(PROBLEMS)},
                        "detail": {"type": "string"},
                        "errors": {"type": "array", "items": _FIELD_ERROR},
                    },
                },
            },
        },
    },
    "Callback": {
        "type": "object",
        "required": ["id", "run", "type", "url", "status", "occurred", "next_attempt", "attempts", "log", "links"],
        "properties": {
            "id": {"type": "string", "description": "The same in every attempt: `webhook-id`."},
            "run": {"type": "string", "format": "uri-reference"},
            "type": {"type": "string", "example": "run.completed"},
            "url": {"type": "string"},
            "status": {"type": "string", "enum": ["pending", "delivered", "dead"]},
            "occurred": _TIME,
            "next_attempt": _TIME,
            "attempts": {"type": "integer"},
            "log": {
                "type": "array",
                "description": "The last fifty attempts.",
                "items": {
                    "type": "object",
                    "properties": {
                        "at": _TIME,
                        "milliseconds": {"type": "integer"},
                        "status": {"type": ["integer", "null"], "description": "Of the answer."},
                        "error": {"type": ["string", "null"], "description": "Where there was no answer."},
                    },
                },
            },
            "links": _LINKS,
        },
    },
    "DeadLetter": {
        "type": "object",
        "required": ["address", "id", "key", "source", "node", "reason", "error", "time"],
        "properties": {
            "address": {"type": "string", "example": "orders/3/1764168000000-0"},
            "id": {"type": "string"},
            "key": {"type": "string"},
            "source": {"type": "string"},
            "node": {"type": ["string", "null"]},
            "reason": {"type": "string", "example": "error"},
            "error": {"type": "string"},
            "attempts": {"type": "integer"},
            "time": _TIME,
            "event_time": _TIME,
            "data": {"description": "The event's data, where they are JSON."},
            "data_base64": {"type": ["string", "null"], "description": "The event's data, where they are not."},
        },
    },
}
_NODES: Final = "nodes"
_BODIES: Final = {
    "/runs": "requests", "/runs/{key}/events": "requests", "/events": "requests",
    "/runs/{key}/messages/{message}": "messages", "/runs/{key}/nodes/{node}": _NODES,
}  # fmt: skip
"""By path: what sources, or what else, the data in its body are for."""


def operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: the name of its function."""
    return route.name


def described(app: FastAPI) -> None:
    """Let the app give out this document; made once, when it is asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_of(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The document of all workflows."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        summary=None,
        tags=app.openapi_tags,
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_SCHEMAS, Occurrence=OCCURRENCE)
    for path in document["paths"].values():
        for operation in path.values():
            # Bad parameters are problems, too, and their status is 400.
            operation["responses"].pop("422", None) if _is_fastapis(operation) else None
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    add_credentials(document)
    return document


def _is_fastapis(operation: dict[str, Any]) -> bool:
    content = operation["responses"].get("422", {}).get("content", {})
    return "HTTPValidationError" in str(content.get("application/json", ""))


def openapi_for(app: FastAPI, workflow: WorkflowDescriptor) -> dict[str, Any]:
    """The document of one workflow: its name in the addresses, the types of its sources as bodies."""
    document = openapi_of(app)
    schemas: dict[str, Any] = document["components"]["schemas"]
    bodies: dict[str, dict[str, str]] = {}
    for source in workflow.sources:
        if source.schema is not None:
            name = f"{source.kind}.{source.name}"
            schemas[name] = moved(source.schema, f"#/components/schemas/{name}")
            bodies.setdefault(source.kind, {})[source.name] = f"#/components/schemas/{name}"
    for node in workflow.inputs:
        if node.schema is not None:
            name = f"node.{node.name}"
            schemas[name] = moved(node.schema, f"#/components/schemas/{name}")
            bodies.setdefault(_NODES, {})[node.name] = f"#/components/schemas/{name}"
    base = f"/v1/workflows/{workflow.name}"
    paths: dict[str, Any] = {}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [row for row in parameters if row["name"] != "workflow"]
        rest = path.removeprefix("/v1/workflows/{workflow}")
        kind = _BODIES.get(rest)
        if kind in bodies and "post" in operations:
            content = operations["post"]["requestBody"]["content"]["application/json"]
            references = [{"$ref": address} for address in bodies[kind].values()]
            many = [{"type": "array", "items": reference} for reference in references] if rest == "/events" else []
            content["schema"] = {"anyOf": [*references, *many]}
        paths[base + rest if rest != path else path] = operations
    document["paths"] = paths
    document["info"]["title"] = f"Headrace: {workflow.name}"
    return document


def moved(schema: Any, base: str) -> Any:
    """A schema whose references lead into itself, where it lies now."""
    if isinstance(schema, list):
        return [moved(each, base) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: f"{base}{value.removeprefix('#')}" if name == "$ref" and isinstance(value, str) else moved(value, base)
        for name, value in schema.items()
        if name != "$schema"
    }
