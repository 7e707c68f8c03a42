"""Ctrl-C while nothing has been started yet: one line, and the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.cli import end_at_once


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Ctrl-C ends the process at once: for imports, the user's own among them, which nothing need be undone of.

    A `KeyboardInterrupt` would come as a traceback of whatever is just being imported, if at all: code in between may
    take it for something else.
    """
    with _handling(end_at_once):
        yield


@contextmanager
def raising() -> Iterator[None]:
    """Ctrl-C is a `KeyboardInterrupt`, as usual: for verbs that do something."""
    with _handling(signal.default_int_handler):
        yield


@contextmanager
def _handling(handler: Callable[..., object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
