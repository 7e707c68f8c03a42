"""A receiver of callbacks by HTTP, in the test's own process: answers as it is told to, and keeps what came."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass(frozen=True)
class Told:
    """One call as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Of what occurred."""
        return self.headers["webhook-id"]

    def verified(self, secret: str = SECRET) -> Any:
        """What it tells, once its signature is found right by the reference library."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass(frozen=True)
class Answer:
    """What a receiver answers."""

    status: int = 204
    headers: Mapping[str, str] | None = None


class Hooks:
    """Use as `with Hooks([500, 204]) as hooks`: what it answers one after the other; the last one stays."""

    def __init__(self, answers: Sequence[int | Answer] = (204,), *, tls: ssl.SSLContext | None = None) -> None:
        self.answers = [answer if isinstance(answer, Answer) else Answer(answer) for answer in answers]
        self.told: list[Told] = []
        self.gate = threading.Event()
        """Calls are answered once it is set."""
        self.gate.set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = hooks.take(Told(self.path, headers, body))
                self.send_response(answer.status)
                for name, value in (answer.headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/hook"

    def take(self, told: Told) -> Answer:
        """Keep a call; returns what to answer."""
        with self._lock:
            self.told.append(told)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.gate.wait(30)
        with self._lock:
            self._at_once -= 1
        return answer

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
