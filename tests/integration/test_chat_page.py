"""The page of the chat in a browser, before a gateway of a few lines that streams, breaks off and refuses as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from browser import Browser
from waiting import until

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "examples" / "page.html").read_bytes()
LAST = "(line => [line.className, line.textContent])(document.querySelector('main p:last-child'))"
Turn: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


class Gateway(ThreadingHTTPServer):
    """Serves the page, and answers each turn by the next of `turns`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.turns: list[Turn] = []
        self.asked: list[tuple[str, str, Any]] = []
        """Path, Idempotency-Key and body of each."""


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        whole(self, 200, PAGE, "text/html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Idempotency-Key"], body))
        self.server.turns.pop(0)(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


def whole(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def begin_stream(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()


def say(handler: BaseHTTPRequestHandler, kind: str, value: object, id: str = "") -> None:
    handler.wfile.write(f"id: {id}\nevent: {kind}\ndata: {json.dumps(value)}\n\n".encode())


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    yield gateway
    gateway.shutdown()
    gateway.server_close()


@pytest.fixture
def browser(tmp_path: Path, gateway: Gateway) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    address = f"http://127.0.0.1:{gateway.server_port}"
    browser.open(f"{address}/?gateway={address}&session=ada")
    yield browser
    browser.close()


def shows(browser: Browser, kind: str, text: str) -> None:
    until(lambda: browser.value(LAST) == [kind, text], f"it shows {text!r}", within=60)


def test_words_are_shown_as_they_come_and_those_that_are_void_go(gateway: Gateway, browser: Browser) -> None:
    seen, voided = threading.Event(), threading.Event()

    def turn(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler)
        for id_, word in (("9-1", "one"), ("10-0", "two"), ("10-1", "thrée")):
            say(handler, "value", word, id_)
        seen.wait(60)
        say(handler, "reset", "10-0", "11-0")
        say(handler, "value", "four", "12-0")
        voided.wait(60)
        say(handler, "reply", "one four.")

    gateway.turns = [turn]
    browser.type("hello")
    shows(browser, "coming", "one two thrée")
    seen.set()
    shows(browser, "coming", "one four")
    voided.set()
    shows(browser, "", "one four.")

    [(path, key, body)] = gateway.asked
    assert path == "/v1/workflows/chat/runs/ada/events?stream=tokens"
    assert key
    assert body == {"session": "ada", "text": "hello"}


def test_a_turn_that_was_cut_off_is_sent_again_as_the_same(gateway: Gateway, browser: Browser) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler)
        say(handler, "value", "lost", "1-0")

    def busy(handler: BaseHTTPRequestHandler) -> None:
        whole(handler, 429, b'{"detail": "busy"}', "application/problem+json", **{"Retry-After": "1"})

    def turn(handler: BaseHTTPRequestHandler) -> None:
        whole(handler, 200, b'"there"', "application/json")

    gateway.turns = [cut, busy, turn, turn]
    browser.type("hello")
    shows(browser, "", "there")
    browser.type("hello again")
    until(lambda: len(gateway.asked) == 4, "it was sent", within=60)

    keys = [key for _, key, _ in gateway.asked]
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_what_is_refused_is_said_and_not_sent_again(gateway: Gateway, browser: Browser) -> None:
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        whole(handler, 422, b'{"detail": "<b>no</b>"}', "application/problem+json")

    def fail(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler)
        say(handler, "error", {"detail": "a node has failed"})

    gateway.turns = [refuse, fail]
    browser.type("hello")
    shows(browser, "bad", "<b>no</b>")
    browser.type("hello")
    shows(browser, "bad", "a node has failed")

    assert len(gateway.asked) == 2
