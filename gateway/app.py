"""The gateway's HTTP application: events for runs, answered by what the workflow replies."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from fastapi import FastAPI, Request, Response

from headrace.actors.store_requests import Admission, RequestStore
from headrace.gateway.answers import answered
from headrace.gateway.bridge import Bridge
from headrace.gateway.keys import decode_key, encode_key
from headrace.gateway.preferences import preference_of
from headrace.gateway.problems import ProblemError, add_problems, status_of
from headrace.gateway.tracing import GatewayTraces
from headrace.tracing.options import Tracing
from headrace.workflows.durability import Durability
from headrace.workflows.keyspace import partition_of
from headrace.workflows.records import Headers
from headrace.workflows.store import SourceDescriptor, StoreUnavailable, WorkflowDescriptor

_log = structlog.get_logger(__name__)

BODY_CAP: Final = 1 << 20
"""Bytes that a request's body may have."""
DURABILITY: Final = "Headrace-Durability"
"""Header of answers: what request and reply have reached. `fast`: the store may lose them with its tail."""
_DESCRIPTOR_TTL: Final = 2.0
"""Seconds that a workflow's descriptor is taken as it was read."""


class Gateway:
    """What the routes share: the store, the bridge, and the descriptors of workflows.

    Args:
        redis_url: Address of the store.
        traces: Where spans go; see `create_app`.
    """

    def __init__(self, redis_url: str, traces: Tracing | None = None) -> None:
        self.traces = GatewayTraces(traces)
        self.store = RequestStore(redis_url, connections=64)
        self.bridge = Bridge(redis_url, self.store)
        self._known: dict[str, tuple[float, WorkflowDescriptor]] = {}

    async def open(self) -> None:
        """Connect. A store that is away is no reason not to start; one that is unsuitable is."""
        try:
            await self.store.open()
        except StoreUnavailable as problem:
            _log.warning("store_unreachable", reason=str(problem))
        await self.bridge.open()
        self.traces.open()

    async def close(self) -> None:
        """Disconnect."""
        await self.bridge.close()
        await self.store.close()
        await self.traces.close()

    async def workflow(self, name: str) -> WorkflowDescriptor:
        """The descriptor of a workflow.

        Raises:
            ProblemError: 404, nobody has started one of that name.
        """
        known = self._known.get(name)
        if known is not None and time.monotonic() - known[0] < _DESCRIPTOR_TTL:
            return known[1]
        found = await self.store.workflow(name)
        if found is None:
            self._known.pop(name, None)
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown_workflow", f"there is no workflow {name!r}")
        self._known[name] = (time.monotonic(), found)
        return found

    async def event(self, name: str, key_text: str, request: Request) -> Response:
        """An event for a run, and its reply if that comes in time; traced, if it is."""
        with self.traces.request(request, name) as answered:
            try:
                response = await self._event(name, key_text, request, answered.headers)
            except Exception as error:
                answered.status = status_of(error)
                raise
            answered.status = response.status_code
            return response

    async def _event(self, name: str, key_text: str, request: Request, traced: Headers) -> Response:
        workflow = await self.workflow(name)
        source = _request_source(workflow)
        key = _key(key_text)
        body = await _body(request)
        _check_key(workflow, source, key, body)
        preference = preference_of(request.headers.getlist("prefer"))
        id_ = secrets.token_hex(16)
        home = f"/v1/workflows/{name}/runs/{encode_key(key)}"
        durability = Durability.parse(workflow.durability)
        headers = {DURABILITY: str(durability)}
        if preference.applied is not None:
            headers["Preference-Applied"] = preference.applied
        partition = partition_of(key, workflow.partitions) if workflow.keyed else 0
        admission, reply = await self.bridge.ask(
            name, partition, key if workflow.keyed else "", source.name, body, request=id_, wait=preference.wait,
            durability=durability, headers=traced,
        )  # fmt: skip
        if admission is Admission.FULL:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "inbox_full",
                f"too many requests wait in partition {partition} of {name!r}",
                headers={"Retry-After": "1"},
                extra={"run": home},
            )
        if admission is Admission.ENDED:
            raise ProblemError(HTTPStatus.CONFLICT, "ended", f"the run of {name!r} has ended", extra={"run": home})
        if reply is not None:
            return answered(reply, home, {**headers, "Content-Location": home})
        document = {
            "id": id_,
            "status": "accepted",
            "durability": str(durability),
            "links": {"self": home, "result": f"{home}/result"},
        }
        return Response(
            msgspec.json.encode(document),
            status_code=HTTPStatus.ACCEPTED,
            headers={**headers, "Location": home, "Retry-After": "1"},
            media_type="application/json",
        )


def create_app(redis_url: str, *, traces: Tracing | None = None) -> FastAPI:
    """The gateway over the store at `redis_url`; it connects when the server starts it.

    Args:
        redis_url: Address of the store.
        traces: Where spans of requests go; by default as OpenTelemetry's variables say, if they do.

    Raises:
        TraceOptionError: Something that a variable says can't be used.
        TracesNotInstalled: There are to be traces, but the extra `otel` is not installed.

    Examples:
        `uvicorn.run(create_app("redis://127.0.0.1:6379/0"), port=8080)`
    """
    gateway = Gateway(redis_url, traces)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(title="Headrace", lifespan=lifespan)
    app.state.gateway = gateway
    add_problems(app)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @app.post("/v1/workflows/{workflow}/runs/{key}/events")
    async def post_event(workflow: str, key: str, request: Request) -> Response:
        """Send an event to a run, started if need be, and wait for its reply (`Prefer: wait=<seconds>`)."""
        return await gateway.event(workflow, key, request)

    return app


def _request_source(workflow: WorkflowDescriptor) -> SourceDescriptor:
    for source in workflow.sources:
        if source.kind == "requests":
            return source
    raise ProblemError(
        HTTPStatus.NOT_FOUND, "no_requests", f"workflow {workflow.name!r} has no RequestSource: it takes no requests"
    )


def _key(text: str) -> str:
    try:
        return decode_key(text)
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid_key", str(error)) from error


async def _body(request: Request) -> bytes:
    """The body, no longer than allowed: it is not read further than that."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_CAP:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", f"the body has more than {BODY_CAP} bytes"
            )
        parts.append(part)
    return b"".join(parts)


def _check_key(workflow: WorkflowDescriptor, source: SourceDescriptor, key: str, body: bytes) -> None:
    """The body is JSON, and if it says which run it is for, that is the run in the address."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is no JSON: {error}") from error
    if not workflow.keyed or source.key is None:
        return
    own = data
    for step in source.key.split("."):
        own = own.get(step) if isinstance(own, dict) else None
    if own is None or str(own) != key:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "other_key",
            f"the address speaks of run {key!r}, the body's field {source.key!r} of {own!r}",
        )
