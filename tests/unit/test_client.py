"""`headrace.Client` against a gateway of a few lines: what it sends, and when again; what answers are to it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias

import httpx
import pytest

from headrace import AsyncClient, Client, Exponential, Retry
from headrace.client import (
    AsyncRun,
    AsyncRuns,
    ClientError,
    GatewayProblem,
    GatewayUnreachable,
    Run,
    RunExists,
    RunNotCompleted,
    RunNotEnded,
    Runs,
    StreamEvent,
    StreamValues,
    UnknownRun,
)
from headrace.client.sse import EventParser, ServerEvent

HOME = "/v1/workflows/orders/runs/4711"
Answering: TypeAlias = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only where somebody sleeps, or a gateway takes its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Gateway:
    """Answers as a list says, one after the other; the last again and again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def idempotency_keys(self) -> set[str]:
        return {request.headers["idempotency-key"] for request in self.requests}


def client_of(gateway: Answering, clock: Clock) -> Client:
    retry = Retry(4, jitter=0.0)
    client = Client("http://gateway/", retry=retry, http=httpx.Client(transport=httpx.MockTransport(gateway)))
    client._sleep = clock.sleep
    client.rules = replace(client.rules, clock=lambda: clock.now)
    return client


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reply(value: Any, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=value, headers={"Content-Location": HOME, "Headrace-Status": "reply", **headers})


def accepted(**headers: str) -> httpx.Response:
    return httpx.Response(202, json={"status": "accepted"}, headers={"Location": HOME, "Retry-After": "1", **headers})


def problem(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    document = {"code": code, "status": status, "detail": f"about {code}", **more}
    return httpx.Response(status, json=document, headers=headers or {})


def row(status: str = "running", **more: Any) -> dict[str, Any]:
    return {"key": "4711", "number": 1, "status": status, "wait": None, **more}


def test_a_run_is_started_and_its_address_is_that_of_the_answer(clock: Clock) -> None:
    gateway = Gateway(reply({"total": 3}))

    run = client_of(gateway, clock).runs("my orders").start({"id": "4711"}, key="k", source="web")

    assert gateway.requests[0].url == "http://gateway/v1/workflows/my%20orders/runs?key=k&source=web"
    assert gateway.requests[0].content == b'{"id":"4711"}'
    assert "prefer" not in gateway.requests[0].headers
    assert run.answer is not None
    assert (run.answer.status, run.answer.value, run.answer.replayed) == ("reply", {"total": 3}, False)
    assert (run.address, run.key) == (HOME, "4711")


@pytest.mark.parametrize(
    ("key", "address"), [("a/b", "runs/~YS9i"), ("s1", "runs/s1"), (None, "runs/-"), ("~x", "runs/~fng")]
)
def test_keys_are_written_as_addresses_have_them(clock: Clock, key: str | None, address: str) -> None:
    run = client_of(Gateway(reply(1)), clock).runs("orders").get(key)

    assert run.address == f"/v1/workflows/orders/{address}"
    assert run.key == key


@pytest.mark.parametrize(
    "failure",
    [problem(429, "inbox_full"), problem(503, "store_unavailable"), httpx.Response(502, text="<html>bad gateway"),
     httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut"),
     problem(409, "run_starting")],
    ids=lambda failure: str(getattr(failure, "status_code", type(failure).__name__)),
)  # fmt: skip
def test_what_passes_is_tried_again_with_the_same_key(clock: Clock, failure: httpx.Response | Exception) -> None:
    gateway = Gateway(failure, failure, reply("done"))

    answer = client_of(gateway, clock).runs("orders").get("4711").send({"n": 1})

    assert answer.value == "done"
    assert len(gateway.requests) == 3
    assert gateway.idempotency_keys() == {answer.idempotency_key}
    assert clock.pauses == [0.1, 0.2]


def test_who_asks_for_callbacks_asks_each_time_that_it_is_sent(clock: Clock) -> None:
    gateway = Gateway(accepted(), problem(503, "store_unavailable"), reply(1))
    runs = client_of(gateway, clock).runs("orders")

    run = runs.start({}, wait=timedelta(minutes=1), callback="https://shop.example/hooks")
    run.send({}, callback="https://shop.example/other")
    run.send({})

    asked = [request.headers.get("headrace-callback") for request in gateway.requests]
    assert asked == ["https://shop.example/hooks"] * 3 + ["https://shop.example/other", None]


def test_no_two_requests_have_the_same_key_unless_told_to(clock: Clock) -> None:
    gateway = Gateway(reply(1))
    run = client_of(gateway, clock).runs("orders").get("4711")

    run.send(1)
    run.send(1)
    run.message("approval", 1)
    run.send(1, idempotency_key="mine")

    assert len(gateway.idempotency_keys()) == 4
    assert "mine" in gateway.idempotency_keys()


def test_a_gateway_that_says_when_is_not_asked_earlier(clock: Clock) -> None:
    gateway = Gateway(problem(429, "inbox_full", {"Retry-After": "7"}), reply(1))

    client_of(gateway, clock).runs("orders").get("4711").send(1)

    assert clock.pauses == [7.0]


def test_after_the_last_attempt_the_error_is_raised(clock: Clock) -> None:
    full, away = Gateway(problem(429, "inbox_full")), Gateway(httpx.ConnectError("refused"))

    with pytest.raises(GatewayProblem) as refused:
        client_of(full, clock).runs("orders").get("4711").send(1)
    with pytest.raises(GatewayUnreachable, match="refused"):
        client_of(away, clock).runs("orders").get("4711").send(1)

    assert (refused.value.problem, refused.value.status) == ("inbox_full", 429)
    assert (len(full.requests), len(away.requests)) == (4, 4)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("run_exists", 409, RunExists), ("unknown_run", 404, UnknownRun), ("invalid_data", 422, GatewayProblem)],
)
def test_what_does_not_pass_is_raised_at_once(clock: Clock, code: str, status: int, kind: type[GatewayProblem]) -> None:
    gateway = Gateway(problem(status, code, errors=[{"path": "$.id"}], run=HOME))

    with pytest.raises(kind, match=f"{code}: about {code}") as refused:
        client_of(gateway, clock).runs("orders").start({})

    assert len(gateway.requests) == 1
    assert (refused.value.problem, refused.value.errors, refused.value.run) == (code, [{"path": "$.id"}], HOME)


def test_a_long_wait_is_made_of_calls_with_one_key(clock: Clock) -> None:
    answers = iter([accepted(), accepted(), reply("late", **{"Idempotent-Replayed": "true"})])
    asked: list[httpx.Request] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        clock.now += float(request.headers["prefer"].removeprefix("wait="))
        return next(answers)

    answer = client_of(gateway, clock).runs("orders").get("4711").send(1, wait=timedelta(seconds=70))

    assert answer.value == "late"
    assert not answer.replayed, "it is the answer to this one, though it was asked for thrice"
    assert [request.headers["prefer"] for request in asked] == ["wait=30", "wait=30", "wait=8"]
    assert len({request.headers["idempotency-key"] for request in asked}) == 1


def test_who_waits_in_vain_or_not_at_all_is_told_that_it_is_in(clock: Clock) -> None:
    gateway = Gateway(accepted())
    run = client_of(gateway, clock).runs("orders").get("4711")

    assert run.message("approval", True).status == "accepted"
    assert gateway.requests[-1].headers["prefer"] == "respond-async"
    assert run.send(1, wait=timedelta(seconds=2)).status == "accepted"
    assert clock.now == 2.0


def test_the_result_is_waited_for_by_the_version_of_the_run(clock: Clock) -> None:
    gateway = Gateway(
        httpx.Response(200, json=row(), headers={"ETag": '"1"'}),
        httpx.Response(304, headers={"ETag": '"1"', "Preference-Applied": "wait=20"}),
        httpx.Response(200, json=row("completed", result={"shipped": 1}), headers={"ETag": '"2"'}),
    )

    result = client_of(gateway, clock).runs("orders").get("4711").result(wait=timedelta(seconds=20))

    assert result == {"shipped": 1}
    assert [request.headers.get("if-none-match") for request in gateway.requests] == [None, '"1"', '"1"']
    assert gateway.requests[1].headers["prefer"] == "wait=20"


def test_a_run_that_ends_otherwise_has_no_result_but_a_reason(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200, json=row("terminated", reason="fraud")))

    with pytest.raises(RunNotCompleted) as ended:
        client_of(gateway, clock).runs("orders").get("4711").result()

    assert (ended.value.run_status, ended.value.reason) == ("terminated", "fraud")


def test_a_run_that_goes_on_is_not_waited_for_any_longer(clock: Clock) -> None:
    gateway = Gateway(
        httpx.Response(200, json=row(), headers={"ETag": '"1"'}), httpx.Response(304, headers={"ETag": '"1"'})
    )

    with pytest.raises(RunNotEnded):
        client_of(gateway, clock).runs("orders").get("4711").result(wait=timedelta(seconds=5))

    assert clock.now == 5.0, "a gateway that lets nobody wait is not asked without end"


def test_a_run_that_was_just_started_may_not_be_known_yet(clock: Clock) -> None:
    unknown, done = problem(404, "unknown_run"), httpx.Response(200, json=row("completed", result=1))
    started = client_of(Gateway(accepted(), unknown, unknown, done), clock).runs("orders").start({})

    assert started.result() == 1
    with pytest.raises(UnknownRun):
        client_of(Gateway(unknown), clock).runs("orders").get("4711").result()


def test_a_run_is_looked_at_and_ended(clock: Clock) -> None:
    wait = {"name": "approval", "until": None}
    gateway = Gateway(httpx.Response(200, json=row(wait=wait)), httpx.Response(200, json=row("terminated", reason="x")))
    run = client_of(gateway, clock).runs("orders").get("4711")

    status, end = run.status(), run.terminate("x")

    assert (status.running, status.wait, end.running, end.reason) == (True, "approval", False, "x")
    assert gateway.requests[1].url.path == f"{HOME}/terminate"
    assert gateway.requests[1].content == b'{"reason":"x"}'


def test_what_is_no_gateway_is_told(clock: Clock) -> None:
    with pytest.raises(ClientError, match="no JSON"):
        client_of(Gateway(httpx.Response(200, text="<html>")), clock).runs("orders").start({})
    with pytest.raises(ClientError, match="does not say where the run is"):
        client_of(Gateway(httpx.Response(200, json=1)), clock).runs("orders").start({})
    with pytest.raises(ClientError, match="no text/event-stream"):
        list(client_of(Gateway(httpx.Response(200, json=[1])), clock).runs("orders").get("4711").follow("tokens"))


def test_a_token_and_headers_are_in_each_request() -> None:
    gateway = Gateway(httpx.Response(200, json=row()))
    http = httpx.Client(transport=httpx.MockTransport(gateway))

    Client("http://gateway", token="secret", headers={"X-Team": "a"}, http=http).runs("orders").get("4711").status()

    assert gateway.requests[0].headers["authorization"] == "Bearer secret"
    assert gateway.requests[0].headers["x-team"] == "a"


STREAM = (
    'retry: 5\n\n: here\n\nid: 1-0\nevent: value\ndata: "a"\n\nid: 2-0\nevent: value\ndata: "ü"\n\n'
    'id: 3-0\nevent: reset\ndata: {"from": "2-0"}\n\nid: 4-0\nevent: value\ndata: "c"\n\n'
    'id: 5-0\nevent: end\ndata: {"status": "completed"}\n\n'
).encode()


class Cut:
    """A stream that knows where a follower is, and whose first connection breaks after so many bytes."""

    def __init__(self, cut: int) -> None:
        self.cut, self.asked = cut, list[str]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        last = request.headers.get("last-event-id", "")
        self.asked.append(last)
        at = STREAM.index(f"id: {last}".encode()) if last else 0
        rest = STREAM[STREAM.index(b"\n\n", at) + 2 :] if last else STREAM
        if last == "5-0":
            return httpx.Response(204)
        first = len(self.asked) == 1
        return httpx.Response(
            200,
            headers={"Content-Type": "text/event-stream"},
            stream=_Broken(rest[: self.cut] if first else rest, first),
        )


class _Broken(httpx.SyncByteStream):
    def __init__(self, content: bytes, breaks: bool) -> None:
        self._content, self._breaks = content, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        if self._breaks:
            raise httpx.ReadError("cut")


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_stream_cut_anywhere_is_followed_without_gap_or_repeat(clock: Clock, cut: int) -> None:
    gateway = Cut(cut)

    told = list(client_of(gateway, clock).runs("orders").get("4711").follow("tokens"))

    assert [(event.kind, event.value) for event in told] == [
        ("value", "a"), ("value", "ü"), ("reset", "2-0"), ("value", "c"), ("end", "completed")
    ]  # fmt: skip
    seen = StreamValues()
    for event in told:
        seen.take(event)
    assert seen.values == ["a", "c"]
    assert len(gateway.asked) == 2


def test_a_follower_goes_on_where_it_is_told_to(clock: Clock) -> None:
    gateway = Cut(0)
    gateway.asked.append("")  # nothing breaks

    told = list(client_of(gateway, clock).runs("orders").get("4711").follow("tokens", after="3-0"))

    assert told[0] == StreamEvent("value", "c", "4-0")
    assert gateway.asked[1:] == ["3-0"]


def test_a_stream_that_can_not_be_had_is_an_error(clock: Clock) -> None:
    away, gone = Gateway(httpx.ConnectError("refused")), Gateway(problem(404, "unknown_run"))
    told = b'event: error\ndata: {"code": "store_full", "status": 503}\n\n'
    fails = Gateway(httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=told))

    with pytest.raises(GatewayUnreachable):
        list(client_of(away, clock).runs("orders").get("4711").follow("tokens"))
    with pytest.raises(UnknownRun):
        list(client_of(gone, clock).runs("orders").get("4711").follow("tokens"))
    with pytest.raises(GatewayProblem, match="store_full"):
        list(client_of(fails, clock).runs("orders").get("4711").follow("tokens"))

    assert (len(away.requests), len(gone.requests)) == (4, 1)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_of_events_may_end_in_three_ways_wherever_bytes_are_cut(end: str) -> None:
    content = f"\ufeff: x{end}data: a{end}data:b{end}id: 1{end}{end}data{end}{end}event: e{end}{end}data: c{end}{end}"

    for cut in range(len(content.encode())):
        parser = EventParser()
        found = [*parser.feed(content.encode()[:cut]), *parser.feed(content.encode()[cut:])]
        found += parser.feed(b"\n" if end == "\r" else b"")
        assert found == [
            ServerEvent("message", "a\nb", "1"), ServerEvent("message", "", "1"), ServerEvent("message", "c", "1")
        ]  # fmt: skip


def public(cls: type[Any]) -> dict[str, list[tuple[str, Any]]]:
    found = {name: member for name, member in vars(cls).items() if not name.startswith("_")}
    return {
        name: [(row.name, row.default) for row in inspect.signature(member).parameters.values()]
        for name, member in found.items()
        if callable(member)
    }


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Runs, AsyncRuns), (Run, AsyncRun)])
def test_both_clients_do_the_same(one: type[Any], other: type[Any]) -> None:
    assert public(one) == public(other)


async def test_the_client_with_a_loop_sends_waits_and_follows() -> None:
    waits = Retry(3, backoff=Exponential(timedelta(milliseconds=1)), jitter=0.0)
    gateway = Gateway(
        httpx.ConnectError("refused"), accepted(), httpx.Response(200, json=row("completed", result=1)),
        httpx.Response(503), httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=STREAM),
    )  # fmt: skip
    http = httpx.AsyncClient(transport=httpx.MockTransport(gateway))

    async with AsyncClient("http://gateway", retry=waits, http=http) as client:
        run = await client.runs("orders").start({})
        assert await run.result() == 1
        told = [event.kind async for event in run.follow("tokens")]

    assert told == ["value", "value", "reset", "value", "end"]
    assert not http.is_closed, "it was given, and is not the client's"
