"""Every kind of problem that the gateway answers with: one table, for the code, the documents and OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple


class ProblemType(NamedTuple):
    """One kind of problem (RFC 9457). Its code stays as it is: programs decide by it."""

    code: str
    status: HTTPStatus
    title: str
    """What it is, the same in every answer."""
    cure: str
    """What the caller does about it."""

    @property
    def uri(self) -> str:
        """Its `type` in answers."""
        return f"urn:headrace:problem:{self.code}"


_S = HTTPStatus
_TYPES: Final = (
    # What was sent can't be read.
    ProblemType("invalid_json", _S.BAD_REQUEST, "The body is no JSON", "Send JSON text in UTF-8."),
    ProblemType("too_deep", _S.BAD_REQUEST, "The body is nested too deeply", "Send data of less depth."),
    ProblemType(
        "invalid_cloudevent", _S.BAD_REQUEST, "The body is no CloudEvent", "See CloudEvents 1.0, HTTP protocol binding."
    ),
    ProblemType(
        "invalid_key", _S.BAD_REQUEST, "The address names no key",
        "Write keys with characters outside A-Z a-z 0-9 . _ ~ - as ~ and base64url; at most 1,024 bytes.",
    ),
    ProblemType(
        "invalid_idempotency_key", _S.BAD_REQUEST, "The Idempotency-Key can't be used",
        "Send one header, of 1 to 255 visible ASCII characters.",
    ),
    ProblemType("invalid_parameter", _S.BAD_REQUEST, "A parameter can't be used", "See `errors`."),
    ProblemType(
        "invalid_wait", _S.BAD_REQUEST, "If-Match names no wait",
        'Send `If-Match: "<id>"`, the `id` of a run\'s `wait`.'
    ),
    ProblemType("invalid_cursor", _S.BAD_REQUEST, "The cursor is of no list", "Begin without one."),
    ProblemType("bad_request", _S.BAD_REQUEST, "The request can't be read", "Send what HTTP allows."),
    ProblemType(
        "head_too_slow", _S.REQUEST_TIMEOUT, "The head of the request took too long to come", "Send it all at once."
    ),
    ProblemType(
        "head_too_large", _S.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large",
        "Send less in its line and headers.",
    ),
    ProblemType(
        "body_too_slow", _S.REQUEST_TIMEOUT, "The body took too long to come", "Send it again, all at once."
    ),
    ProblemType(
        "body_too_large", _S.REQUEST_ENTITY_TOO_LARGE, "The body is too large",
        "Send less; the operator sets `gateway.body_bytes` and `gateway.ingest_bytes`.",
    ),
    ProblemType(
        "too_many_events", _S.REQUEST_ENTITY_TOO_LARGE, "The body has too many events",
        "Send them in parts; the operator sets `gateway.ingest_events`.",
    ),
    ProblemType(
        "unsupported_encoding", _S.UNSUPPORTED_MEDIA_TYPE, "The body is compressed", "Send it as it is, uncompressed."
    ),
    ProblemType(
        "unsupported_media_type", _S.UNSUPPORTED_MEDIA_TYPE, "The body is of a type that is not taken here",
        "Send application/json, application/x-ndjson, or CloudEvents.",
    ),
    # What was sent does not fit.
    ProblemType(
        "invalid_data", _S.UNPROCESSABLE_ENTITY, "The data are not of the source's type",
        "`errors` has every field that is wrong, by its path.",
    ),
    ProblemType(
        "other_key", _S.UNPROCESSABLE_ENTITY, "The body speaks of another run", "Send it to the run that it names."
    ),
    ProblemType(
        "no_key", _S.UNPROCESSABLE_ENTITY, "The data have no key", "Fill the field that says which run it is for."
    ),
    ProblemType(
        "computed_key", _S.UNPROCESSABLE_ENTITY, "The key is computed by the workflow",
        "Send to /events, or to /runs/{key}/events.",
    ),
    ProblemType(
        "idempotency_key_reused", _S.UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request",
        "Take a new key for a new request.",
    ),
    ProblemType(
        "failed", _S.UNPROCESSABLE_ENTITY, "A node has failed for good",
        "`node`, `reason` and `detail` say where and why.",
    ),
    # What was asked for is not there.
    ProblemType("not_found", _S.NOT_FOUND, "There is nothing at this address", "See /openapi.json."),
    ProblemType("unknown_workflow", _S.NOT_FOUND, "There is no such workflow", "Start it, or correct its name."),
    ProblemType(
        "no_requests", _S.NOT_FOUND, "The workflow takes no requests", "Give it a RequestSource, or name one it has."
    ),
    ProblemType("unknown_message", _S.NOT_FOUND, "The workflow has no MessageSource of this name", "See `messages`."),
    ProblemType("unknown_run", _S.NOT_FOUND, "There is no such run", "It never began, or is forgotten already."),
    ProblemType(
        "value_never_set", _S.NOT_FOUND, "The run has ended without having set this value",
        "See /runs/{key}/values for what it has set.",
    ),
    ProblemType(
        "invalid_ticket", _S.UNAUTHORIZED, "The ticket is not good for this stream, or not any more",
        "Get another one: POST /runs/{key}/streams/{stream}/tickets.",
    ),
    ProblemType("method_not_allowed", _S.METHOD_NOT_ALLOWED, "Not by this method", "See the header Allow."),
    # It is at odds with what is there.
    ProblemType("run_exists", _S.CONFLICT, "A run with this key is running", "It is at `run`; or take another key."),
    ProblemType("run_ended", _S.CONFLICT, "The run has ended", "Its end is at `run`; begin another one."),
    ProblemType(
        "wait_taken", _S.CONFLICT, "The wait is over, or about to be",
        "Something else came first: look at `run` for the wait that it stands at now.",
    ),
    ProblemType(
        "run_not_completed", _S.CONFLICT, "The run has ended without a result",
        "`run_status` and `reason` say how it ended.",
    ),
    ProblemType("run_starting", _S.CONFLICT, "The run has not begun yet", "Ask again in a second."),
    ProblemType("workflow_ended", _S.CONFLICT, "The workflow has ended and takes no more", "Start it anew."),
    # Not now.
    ProblemType(
        "inbox_full", _S.TOO_MANY_REQUESTS, "Too many requests wait in this partition",
        "Send it again after Retry-After.",
    ),
    ProblemType(
        "too_many_waiting", _S.SERVICE_UNAVAILABLE, "Too many callers wait",
        "Send it again after Retry-After, or with Prefer: respond-async.",
    ),
    ProblemType(
        "store_unavailable", _S.SERVICE_UNAVAILABLE, "The store does not answer",
        "Send it again, with the same Idempotency-Key: it may have been taken.",
    ),
    ProblemType(
        "store_unsuitable", _S.SERVICE_UNAVAILABLE, "State would not be safe in the store as it is set up",
        "Tell the operator; `detail` says what to change.",
    ),
    ProblemType("store_full", _S.SERVICE_UNAVAILABLE, "The store takes nothing new", "Send it again later."),
    ProblemType(
        "not_durable", _S.SERVICE_UNAVAILABLE, "It is taken, but not as durable as it has to be",
        "Send it again, with the same Idempotency-Key.",
    ),
    ProblemType(
        "no_callbacks", _S.UNPROCESSABLE_ENTITY, "This gateway makes no callbacks",
        "Ask for the result; the operator sets `gateway.callback_secrets`.",
    ),
    ProblemType(
        "callback_refused", _S.UNPROCESSABLE_ENTITY, "The address may not be called",
        "Give an https address that everybody reaches; the operator sets `gateway.callback_networks`.",
    ),
    ProblemType(
        "callbacks_full", _S.SERVICE_UNAVAILABLE, "Too many callbacks wait in this partition",
        "Send it again after Retry-After, or without a callback.",
    ),
    ProblemType("unknown_callback", _S.NOT_FOUND, "The run has no such callback", "See its list."),
    ProblemType("stopping", _S.SERVICE_UNAVAILABLE, "This process is about to end", "Ask another one."),
    ProblemType(
        "internal_error", _S.INTERNAL_SERVER_ERROR, "The gateway has failed", "Tell the operator; its log says why."
    ),
    # Who asks.
    ProblemType(
        "credentials_missing", _S.UNAUTHORIZED, "Credentials are needed",
        "Send Authorization: Bearer, with a key or token.",
    ),
    ProblemType(
        "credentials_invalid", _S.UNAUTHORIZED, "The credentials don't count",
        "Take others; `detail` says what is wrong.",
    ),
    ProblemType(
        "credentials_repeated", _S.BAD_REQUEST, "There are several credentials", "Send one header Authorization."
    ),
    ProblemType(
        "forbidden", _S.FORBIDDEN, "The credentials may not do this",
        "Take a key with the scope in `scope`, for this workflow.",
    ),
    ProblemType(
        "rate_limited", _S.TOO_MANY_REQUESTS, "Too many requests", "Send it again after Retry-After; see RateLimit."
    ),
    ProblemType(
        "credentials_unavailable", _S.SERVICE_UNAVAILABLE, "Credentials can't be checked now",
        "Send it again after Retry-After.",
    ),
    ProblemType(
        "invalid_frame", _S.BAD_REQUEST, "The text of a session is no event or message",
        'Send {"id", "data"}, with "message" to a wait.',
    ),
    ProblemType(
        "origin_refused", _S.FORBIDDEN, "Pages of this origin may not open sessions",
        "The operator sets `gateway.cors_origins`.",
    ),
)  # fmt: skip
PROBLEMS: Final = {each.code: each for each in _TYPES}
"""By code."""


def problem_type(code: str) -> ProblemType:
    """The problem with this code."""
    return PROBLEMS[code]
