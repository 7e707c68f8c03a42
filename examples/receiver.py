"""Is told what becomes of orders: takes only what is signed with its secret, and each occurrence once.

    pip install standardwebhooks
    CALLBACK_SECRET=whsec_... python receiver.py 9000

It is a program of its own, of whoever sends the orders, and needs nothing of Headrace.
"""

import json
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["CALLBACK_SECRET"])
known: set[str] = set()
"""What was told before. Yours is a table, written in the transaction that does what is to be done."""


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what it has; all else is told again, for a day."""

    def do_POST(self) -> None:
        """Take one callback."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            told = webhook.verify(body, dict(self.headers.items()))
        except (WebhookVerificationError, ValueError) as error:
            print("refused:", error, flush=True)
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        if self.headers["webhook-id"] not in known:
            known.add(self.headers["webhook-id"])
            print(told["type"], json.dumps(told["data"]), flush=True)
        self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: what is told is printed."""


if __name__ == "__main__":
    with HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver) as server:
        print(f"listening at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
