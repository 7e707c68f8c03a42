"""A schema registry in this process, over real HTTP: what the protocol's clients need of it."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit


class RegistryDouble:
    """Registers schemas under subjects, gives them ids, finds them again. In a `with`, it serves at `url`.

    Attributes:
        down: Answer 503 to everything.
        login: `user:password` that every request must bring; None: nobody has to log in.
        read_only: Refuse to register (403).
        asked: Paths of all requests, in order.
    """

    def __init__(self) -> None:
        self.down = False
        self.login: str | None = None
        self.read_only = False
        self.asked: list[str] = []
        self._schemas: list[dict[str, Any]] = []
        self._subjects: dict[str, list[int]] = {}
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double._answer(self, None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                double._answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a test's output is its own."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of a schema, which is registered under the subject if it is not."""
        if schema not in self._schemas:
            self._schemas.append(schema)
        number = self._schemas.index(schema) + 1
        versions = self._subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def _answer(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        self.asked.append(request.path)
        status, answer = self._status(request, body)
        text = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _status(self, request: BaseHTTPRequestHandler, body: Any) -> tuple[int, Any]:
        if self.down:
            return 503, {"error_code": 50301, "message": "away"}
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
            if request.headers.get("Authorization") != wanted:
                return 401, {"error_code": 40101, "message": "who are you?"}
        parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
        schema = None if body is None else {name: value for name, value in body.items() if value is not None}
        match parts:
            case ["schemas", "ids", number] if 0 < int(number) <= len(self._schemas):
                return 200, self._schemas[int(number) - 1]
            case ["subjects", subject, "versions"] if schema is not None:
                if self.read_only:
                    return 403, {"error_code": 40301, "message": "you may only read"}
                return 200, {"id": self.register(subject, _plain(schema))}
            case ["subjects", subject, "versions", version] if subject in self._subjects:
                versions = self._subjects[subject]
                number = versions[-1] if version == "latest" else versions[int(version) - 1]
                return 200, self._registered(subject, number)
            case ["subjects", subject] if schema is not None and _plain(schema) in self._schemas:
                return 200, self._registered(subject, self._schemas.index(_plain(schema)) + 1)
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def _registered(self, subject: str, number: int) -> dict[str, Any]:
        version = self._subjects.get(subject, []).index(number) + 1
        return {"subject": subject, "version": version, "id": number, **self._schemas[number - 1]}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """What makes a schema the same as another one."""
    kept = {name: schema[name] for name in ("schema", "schemaType", "references") if schema.get(name)}
    return {"schemaType": "AVRO", **kept}
