"""OTLP over HTTP: one request with spans, tried again for a while. Needs the extra `otel`."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Iterator
from typing import Final

import requests
import structlog

# What instrumented clients look for before they make spans of requests: those of traces must not have any.
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from headrace.sources.references import ReferenceUnresolved, resolve
from headrace.tracing.options import TraceOptionError, Tracing, pairs_of

log = structlog.get_logger(__name__)

TIMEOUT: Final = 5.0
"""Seconds for one request, repeats included."""
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Answers after which it is tried again (OTLP, "Retryable Response Codes")."""
_FIRST_WAIT: Final = 0.5


class Sender:
    """Sends requests to one receiver, from one thread.

    Args:
        tracing: Where, and with which headers.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._url = tracing.endpoint
        self._zipped = tracing.compression == "gzip"
        self._session = requests.Session()
        self._session.headers.update({"Content-Type": "application/x-protobuf", **dict(_headers(tracing))})
        if self._zipped:
            self._session.headers["Content-Encoding"] = "gzip"
        if tracing.certificate:
            self._session.verify = tracing.certificate
        self._stopped = threading.Event()

    def send(self, data: bytes) -> str:
        """Send an `ExportTraceServiceRequest`.

        Returns:
            Why the receiver has not taken it; "" if it has.
        """
        body = gzip.compress(data, 1) if self._zipped else data
        deadline = time.monotonic() + TIMEOUT
        wait = _FIRST_WAIT
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            while True:
                problem, again = self._once(body, max(0.1, deadline - time.monotonic()))
                if not problem or not again or time.monotonic() + wait > deadline or self._stopped.wait(wait):
                    return problem
                wait *= 2
        finally:
            detach(token)

    def _once(self, body: bytes, timeout: float) -> tuple[str, bool]:
        """What was wrong, and whether it may pass."""
        try:
            answer = self._session.post(self._url, data=body, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, OSError) as error:
            may_pass = isinstance(error, requests.ConnectionError | requests.Timeout)
            return f"{self._url}: {type(error).__name__}: {error}", may_pass
        if answer.ok and not answer.is_redirect:
            return "", False
        return f"{self._url} answers {answer.status_code} {answer.reason}", answer.status_code in _AGAIN

    def stop(self) -> None:
        """What is being tried is not tried again."""
        self._stopped.set()

    def close(self) -> None:
        """Disconnect; idempotent."""
        self.stop()
        self._session.close()


def _headers(tracing: Tracing) -> Iterator[tuple[str, str]]:
    if tracing.headers:
        try:
            yield from pairs_of(resolve(tracing.headers, os.environ), "headers").items()
        except (ReferenceUnresolved, TraceOptionError) as error:
            # The receiver decides whether it takes spans without them.
            log.warning("trace_headers_missing", reason=str(error))
