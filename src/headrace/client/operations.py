"""What a client does, as conversations: send, wait, look, end. See `exchange`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec

from headrace.client.answers import ACCEPTED, COMPLETED, Answer, Executed, RunStatus, executed, run_status
from headrace.client.errors import ClientError, NotAnswered, RunNotCompleted, RunNotEnded, UnknownRun
from headrace.client.exchange import Ask, Got, Pause, Talk, exchange, retry_after
from headrace.gateway.keys import decode_key, encode_key
from headrace.workflows.retry import Exponential, Retry

CALLBACK: Final = "Headrace-Callback"
_ONLY: Final = "-"
_ONE_CALL: Final = 30.0
"""Seconds: gateways hold no call open for longer unless told to; who waits longer asks again."""
_GATEWAY_WAITS: Final = 30.0
"""Seconds that a gateway may take where it chooses how long it waits."""


RETRY: Final = Retry(
    8, backoff=Exponential(timedelta(milliseconds=200), timedelta(seconds=10)), jitter=0.5
)  # fmt: skip
"""Some 20 seconds in all: a gateway or a store is there again by then, mostly."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What conversations go by."""

    retry: Retry
    clock: Callable[[], float]
    """Seconds, monotonic."""
    new_key: Callable[[], str]
    """Makes Idempotency-Keys."""


def base_of(workflow: str) -> str:
    """Address of a workflow."""
    return f"/v1/workflows/{quote(workflow, safe='')}"


def home_of(workflow: str, key: str | None) -> str:
    """Address of a run.

    Args:
        workflow: Its name.
        key: Of the run; None: the only one of a workflow without keys.
    """
    return f"{base_of(workflow)}/runs/{_ONLY if key is None else encode_key(key)}"


def posted(
    rules: Rules, path: str, data: Any, *, wait: timedelta | None, idempotency_key: str | None,
    params: dict[str, str] | None = None, callback: str | None = None,
) -> Talk[tuple[Answer, str]]:  # fmt: skip
    """Send data, and wait for what comes of it; also its run's address.

    A wait that is longer than a gateway's is made of several calls with the same Idempotency-Key: each of them is
    answered by the same.

    Args:
        rules: See there.
        path: Where to.
        data: What `msgspec.json` can write.
        wait: How long; None: as the gateway does.
        idempotency_key: By default one is made.
        params: Of the address.
        callback: Address that the run is to tell what becomes of it.

    Raises:
        GatewayProblem, GatewayUnreachable: See `exchange`.
    """
    key = idempotency_key or rules.new_key()
    until = None if wait is None else rules.clock() + wait.total_seconds()
    first = Ask("POST", path, params=params or {}, body=msgspec.json.encode(data), seed=key, wait=_GATEWAY_WAITS)
    fixed = {"Idempotency-Key": key, "Content-Type": "application/json"}
    if callback is not None:
        fixed[CALLBACK] = callback
    replayed: bool | None = None
    while True:
        left = None if until is None else until - rules.clock()
        got = yield from exchange(replace(first, headers={**fixed, **_prefer(left)}), rules.retry)
        if replayed is None:
            replayed = "idempotent-replayed" in got.headers
        if got.status != HTTPStatus.ACCEPTED:
            status = got.headers.get("headrace-status", "reply")
            return Answer(status, got.json(), key, replayed), got.headers.get("content-location", "")
        if until is None or not (yield from _goes_on(rules, until, got)):
            return Answer(ACCEPTED, got.json(), key, replayed), got.headers.get("location", "")


def looked_at(rules: Rules, home: str) -> Talk[tuple[RunStatus, str]]:
    """How a run stands, and its ETag.

    Raises:
        UnknownRun: There is none.
    """
    got = yield from exchange(Ask("GET", home, seed=home), rules.retry)
    return run_status(got.json()), got.headers.get("etag", "")


def started(
    rules: Rules, workflow: str, data: Any, key: str | None, source: str | None, *, wait: timedelta | None,
    idempotency_key: str | None, callback: str | None,
) -> Talk[tuple[Answer, str]]:  # fmt: skip
    """Begin a run; what came of its event, and its address.

    Raises:
        RunExists: A run with this key is running.
        ClientError: The answer does not say where the run is: it is of no gateway.
    """
    params = {name: value for name, value in (("key", key), ("source", source)) if value is not None}
    path = f"{base_of(workflow)}/runs"
    answer, home = yield from posted(
        rules, path, data, wait=wait, idempotency_key=idempotency_key, params=params, callback=callback
    )  # fmt: skip
    if not home:
        raise ClientError(f"the answer of {path} does not say where the run is; is there a gateway at this address?")
    return answer, home


def key_in(home: str) -> str | None:
    """The run's key in its address; None: of a workflow without keys."""
    text = home.rpartition("/")[2]
    return None if text == _ONLY else decode_key(text)


def ended(rules: Rules, home: str, wait: timedelta, *, begun: bool) -> Talk[Any]:
    """Wait for a run's end; its result.

    Args:
        rules: See there.
        home: Address of the run.
        wait: How long.
        begun: An event for it was taken: if it is unknown, then not yet known.

    Raises:
        RunNotCompleted: It has ended without one.
        RunNotEnded: It has not ended in time.
        UnknownRun: There is no such run.
    """
    until = rules.clock() + wait.total_seconds()
    etag = ""
    while True:
        left = until - rules.clock()
        known = {"If-None-Match": etag, **_prefer(left)} if etag else {}
        try:
            got = yield from exchange(Ask("GET", home, headers=known, wait=_ONE_CALL, seed=home), rules.retry)
        except UnknownRun:
            if not begun:
                raise
            if not (yield from _goes_on(rules, until, None)):
                raise RunNotEnded(home) from None
            continue
        if got.status == HTTPStatus.OK:
            run, etag = run_status(got.json()), got.headers.get("etag", "")
            if run.status == COMPLETED:
                return run.result
            if not run.running:
                document = {"code": "run_not_completed", "detail": f"run {run.key!r} has ended: {run.status}",
                            "run": home, "run_status": run.status, "reason": run.reason}  # fmt: skip
                raise RunNotCompleted(HTTPStatus.CONFLICT, document)
        elif left > 0 and "preference-applied" not in got.headers:
            yield Pause(min(1.0, left))  # it may be about to stop, and lets nobody wait
        if rules.clock() >= until:
            raise RunNotEnded(home)


def terminated(rules: Rules, home: str, reason: Any, wait: timedelta | None) -> Talk[RunStatus]:
    """End a run; how it stands then.

    Raises:
        RunEnded: It ended otherwise before.
    """
    body = None if reason is None else msgspec.json.encode({"reason": reason})
    headers = _prefer(None if wait is None else wait.total_seconds())
    ask = Ask("POST", f"{home}/terminate", headers=headers, body=body, wait=_GATEWAY_WAITS, seed=home)
    got = yield from exchange(ask, rules.retry)
    return run_status(got.json())


def node_executed(
    rules: Rules, home: str, node: str, data: Any, *, commit: bool, wait: timedelta, idempotency_key: str | None
) -> Talk[Executed]:
    """Have a node of a run process data out of line.

    Raises:
        NotAnswered: It is not done in time, and goes on.
    """
    path, params = f"{home}/nodes/{quote(node, safe='')}", {"commit": "true"} if commit else {}
    answer, _ = yield from posted(rules, path, data, wait=wait, idempotency_key=idempotency_key, params=params)
    if answer.status == ACCEPTED:
        raise NotAnswered(path, answer.idempotency_key)
    return executed(answer)


def message_path(home: str, name: str) -> str:
    """Address of messages of a name to a run."""
    return f"{home}/messages/{quote(name, safe='')}"


def stream_path(home: str, name: str) -> str:
    """Address of a stream of a run."""
    return f"{home}/streams/{quote(name, safe='')}"


def source_params(source: str | None) -> dict[str, str]:
    """Parameters that name a source."""
    return {} if source is None else {"source": source}


def _prefer(seconds: float | None) -> dict[str, str]:
    if seconds is None:
        return {}
    if seconds <= 0:
        return {"Prefer": "respond-async"}
    return {"Prefer": f"wait={math.ceil(min(seconds, _ONE_CALL))}"}


def _goes_on(rules: Rules, until: float, got: Got | None) -> Talk[bool]:
    """Pause as an answer asks, if there is time left; whether there is some then."""
    pause = retry_after(got.headers.get("retry-after")) if got is not None else 0.1
    left = until - rules.clock()
    if left <= 0:
        return False
    yield Pause(min(pause or 1.0, left))
    return rules.clock() < until
