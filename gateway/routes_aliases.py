"""Short paths known from guides of the field; each is an address of `/v1` by another name, and answers the same.

A request is handed on, with another address and body, to the route that it means: whatever that one looks at (who
asks, limits, an Idempotency-Key) counts here, too. A run is named `workflow:key`, the key written as in addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from headrace.gateway.bodies import decode_json, read_body
from headrace.gateway.callbacks import CALLBACK_PROBLEMS
from headrace.gateway.documented import EVENT_EXAMPLE, IDEMPOTENT, REASON_BODY, WAITING, answers, body_of, extra
from headrace.gateway.documented_callbacks import CALLBACK, CALLBACKS
from headrace.gateway.documented_runs import ACCEPT_EVENTS, KNOWN_VALUE, LAST_EVENT_ID
from headrace.gateway.gateway import PATIENCE, Gateway, OfProcess
from headrace.gateway.problems import ProblemError
from headrace.gateway.routes_nodes import EXECUTING
from headrace.gateway.sse import EVENT_STREAM
from headrace.gateway.validation import invalid_data

router = APIRouter(tags=["aliases"])
VALUE_SECONDS: Final = 60.0
"""How long a value is waited for by these paths, if the caller does not say."""
RUN: Final = "Headrace-Run"
"""Header of answers: the run as these paths name it."""
_HOME: Final = re.compile(r"/v1/workflows/([^/?]+)/runs/([^/?]+)")
_READ: Final = (
    "invalid_json", "too_deep", "invalid_key", "invalid_idempotency_key", "body_too_slow", "body_too_large",
    "unsupported_encoding", "invalid_data", "unknown_workflow", "workflow_ended", "too_many_waiting",
    "store_unavailable", "store_full", "not_durable",
)  # fmt: skip
_SENT: Final = ("reply", "accepted", "failed", "inbox_full", "idempotency_key_reused", *_READ)
_LOOKED: Final = ("invalid_key", "unknown_workflow", "unknown_run", "store_unavailable")
_TO_A_RUN: Final = (
    *_SENT, "invalid_wait", "unknown_run", "unknown_message", "run_ended", "run_not_completed", "wait_taken",
)  # fmt: skip
RunId = Annotated[str, Path(alias="id", description="`workflow:key`.", examples=["orders:4711"])]


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    workflow: str
    data: msgspec.Raw
    key: str | None = None
    source: str | None = None


class _Resume(msgspec.Struct, forbid_unknown_fields=True):
    message: str
    data: msgspec.Raw
    wait: str | None = None


class _Execute(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    node: str
    data: msgspec.Raw
    commit: bool = False


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    message: str
    data: msgspec.Raw


_DATA: Final = {"description": "As the source's type says."}
_TEXT: Final = {"type": "string"}


def _described(required: tuple[str, ...], example: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """A body, for OpenAPI."""
    schema = {
        "type": "object", "required": [*required, "data"], "additionalProperties": False,
        "properties": {**properties, "data": _DATA},
    }  # fmt: skip
    return body_of(example, schema=schema)


@router.post(
    "/workflow/start",
    summary="Begin a run",
    responses=answers(*_SENT, "invalid_parameter", "no_requests", "no_key", "other_key", "computed_key", "run_exists",
                      "run_ended", "run_not_completed", *CALLBACK_PROBLEMS),
    openapi_extra=extra(WAITING, IDEMPOTENT, CALLBACK, callbacks=CALLBACKS, body=_described(
        ("workflow",), {"workflow": "orders", "data": EVENT_EXAMPLE}, workflow=_TEXT, key={**_TEXT, "minLength": 1},
        source=_TEXT,
    )),
)  # fmt: skip
async def start_workflow(gateway: OfProcess, request: Request) -> Response:
    """Begin a run with an event, and wait for the reply to it: `POST /runs`."""
    order = await _read(gateway, request, _Start)
    query = {name: value for name in ("key", "source") if (value := getattr(order, name)) is not None}
    path = f"/v1/workflows/{_segment(order.workflow, 'unknown_workflow')}/runs"
    return _HandedOn(path, bytes(order.data), query=query)


@router.post(
    "/workflow/resume/{id}",
    summary="Let a waiting run go on",
    responses=answers(*_TO_A_RUN),
    openapi_extra=extra(WAITING, IDEMPOTENT, body=_described(
        ("message",), {"message": "approval", "data": {"by": "ann"}}, message=_TEXT,
        wait={**_TEXT, "description": "Id of the wait that it is for, and no other."},
    )),
)  # fmt: skip
async def resume_workflow(gateway: OfProcess, request: Request, run: RunId) -> Response:
    """Send the message that a run waits for, and wait for the reply to it: `POST /runs/{key}/messages/{message}`."""
    order = await _read(gateway, request, _Resume)
    path = f"{_run_path(run)}/messages/{_segment(order.message, 'unknown_message')}"
    headers = {} if "prefer" in request.headers else {"Prefer": f"wait={gateway.settings.wait_seconds:g}"}
    if order.wait is not None:
        headers["If-Match"] = f'"{_visible(order.wait)}"'
    return _HandedOn(path, bytes(order.data), headers=headers)


@router.post(
    "/workflow/terminate/{id}",
    summary="End a run",
    responses=answers("run", "terminating", "unknown_run", "run_ended", *_READ),
    openapi_extra=extra(WAITING, body=REASON_BODY),
)  # fmt: skip
async def terminate_workflow(gateway: OfProcess, request: Request, run: RunId) -> Response:
    """End a run: `POST /runs/{key}/terminate`."""
    body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
    return _HandedOn(f"{_run_path(run)}/terminate", body)


@router.post(
    "/workflow/execute-node",
    summary="Execute one node of a run out of line",
    responses=answers(*EXECUTING),
    openapi_extra=extra(WAITING, IDEMPOTENT, body=_described(
        ("id", "node"), {"id": "orders:4711", "node": "price", "data": EVENT_EXAMPLE}, id=_TEXT, node=_TEXT,
        commit={"type": "boolean", "default": False, "description": "Keep states and effects; needs `admin`."},
    )),
)  # fmt: skip
async def execute_node(gateway: OfProcess, request: Request) -> Response:
    """Have a node process data with the states of a run, and tell what it returned: `POST /runs/{key}/nodes/{node}`."""
    order = await _read(gateway, request, _Execute)
    path = f"{_run_path(order.id)}/nodes/{_segment(order.node, 'unknown_node')}"
    return _HandedOn(path, bytes(order.data), query={"commit": "true"} if order.commit else {})


@router.get(
    "/workflow-events/{id}/all",
    summary="All values of a run",
    responses=answers("values", *_LOOKED),
)
async def workflow_events(run: RunId) -> Response:
    """What the run has published, by name, at once: `GET /runs/{key}/values`."""
    return _HandedOn(f"{_run_path(run)}/values")


@router.get(
    "/workflow-events/{id}/{key}",
    summary="One value of a run",
    responses=answers("value", "not_set", "value_known", "value_never_set", "too_many_waiting", *_LOOKED),
    openapi_extra=extra(KNOWN_VALUE, WAITING),
)
async def workflow_event(
    run: RunId, value: Annotated[str, Path(alias="key", description="Name of the value.", examples=["progress"])]
) -> Response:
    """A value that the run has published; one that is not set is waited for, 60 s: `GET /runs/{key}/values/{value}`.

    The value named `all` is had by the long address only.
    """
    return _HandedOn(f"{_run_path(run)}/values/{_segment(value, 'not_found')}", patience=VALUE_SECONDS)


@router.get(
    "/workflow-stream/{id}",
    summary="Follow a stream of a run",
    responses=answers(
        "stream", "followed_to_the_end", "invalid_parameter", "invalid_cursor", "too_many_waiting", *_LOOKED
    ),
    openapi_extra=extra(ACCEPT_EVENTS, LAST_EVENT_ID),
)
async def workflow_stream(
    request: Request, run: RunId,
    stream: Annotated[
        str, Query(alias="key", description="Name of the stream.", min_length=1, max_length=200, examples=["tokens"])
    ] = "default",
    offset: Annotated[int, Query(description="In JSON: how many values to leave out.", ge=0)] = 0,
    limit: Annotated[int, Query(description="In JSON: how many values at most.", ge=1, le=1000)] = 100,
) -> Response:  # fmt: skip
    """Follow a stream as server-sent events: `GET /runs/{key}/streams/{stream}`.

    Who accepts JSON only (`Accept: application/json`) gets the values so far.
    """
    path = f"{_run_path(run)}/streams/{_segment(stream, 'not_found')}"
    accepts = request.headers.get("accept", "*/*")
    headers = {"Accept": EVENT_STREAM} if "*/*" in accepts or EVENT_STREAM in accepts else {}
    return _HandedOn(path, query={"offset": str(offset), "limit": str(limit)}, headers=headers)


@router.post(
    "/send-message",
    summary="Send a message to a run",
    responses=answers(*_TO_A_RUN),
    openapi_extra=extra(WAITING, IDEMPOTENT, body=_described(
        ("id", "message"), {"id": "orders:4711", "message": "approval", "data": {"by": "ann"}}, id=_TEXT, message=_TEXT
    )),
)  # fmt: skip
async def send_message(gateway: OfProcess, request: Request) -> Response:
    """Send a message to a run, without waiting for a reply: `POST /runs/{key}/messages/{message}`."""
    order = await _read(gateway, request, _Sent)
    path = f"{_run_path(order.id)}/messages/{_segment(order.message, 'unknown_message')}"
    return _HandedOn(path, bytes(order.data))


async def _read(gateway: Gateway, request: Request, wanted: type[Any]) -> Any:
    """A body of one of the types above."""
    body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
    decode_json(body, gateway.settings)  # says what is no JSON, or too deep
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `")
        raise invalid_data([{"path": path.removesuffix("`") or "$", "message": sentence}]) from error


def _segment(text: str, code: str) -> str:
    """A part of an address that is one, and not several."""
    if not text or "/" in text:
        raise ProblemError(code, f"{text[:200]!r} is no name")
    return text


def _run_path(text: str) -> str:
    workflow, colon, key = text.partition(":")
    if not colon or not key:
        raise ProblemError("invalid_key", "a run is named workflow:key here, as the header Headrace-Run has it")
    return f"/v1/workflows/{_segment(workflow, 'unknown_workflow')}/runs/{_segment(key, 'invalid_key')}"


def _visible(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ProblemError("invalid_wait", "`wait` is to have the id of one wait, as the run's `wait` has it")
    return text


class _HandedOn(Response):
    """The answer of another route to the same caller.

    Args:
        path: Address that it has, not quoted.
        body: In place of the one that came.
        query: Its parameters.
        headers: In place of those of these names.
        patience: Seconds that it waits where the caller does not say; None: as long as that route does.
    """

    def __init__(
        self, path: str, body: bytes = b"", *,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, patience: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._scope = {} if patience is None else {PATIENCE: patience}
        self._path, self._given = path, body
        self._query, self._more = urlencode(query or {}), dict(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer."""
        given = MutableHeaders(raw=list(scope["headers"]))
        for name, value in {
            **self._more, "Content-Type": "application/json", "Content-Length": str(len(self._given))
        }.items():  # fmt: skip
            given[name] = value
        path = f"{scope.get('root_path', '')}{self._path}"
        inner = {
            **scope, **self._scope, "path": path, "raw_path": quote(path).encode(),
            "query_string": self._query.encode(),
            "headers": given.raw, "path_params": {},
        }  # fmt: skip
        left = [self._given]

        async def body() -> Message:
            return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                home = headers.get("content-location") or headers.get("location") or ""
                if (found := _HOME.search(home) or _HOME.match(quote(self._path))) is not None:
                    headers[RUN] = f"{found[1]}:{found[2]}"
            await send(message)

        await scope["app"].router(inner, body, named)
