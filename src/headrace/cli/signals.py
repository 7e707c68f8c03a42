"""Ctrl-C and its relatives: the first one asks for an orderly end, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from headrace.cli.exits import ExitCode, Interrupted

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While it is entered, SIGINT, SIGTERM and SIGHUP only set `asked`. To be used on the main thread.

    Args:
        on_second: Called at the second one, before the process ends at once. What it leaves is cleared away
            by those who watch over our servers and our Ray, as after a `kill -9`.
    """

    def __init__(self, on_second: Callable[[], None]) -> None:
        self.asked = threading.Event()
        self._signalled = False
        self._on_second = on_second
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, _: int, __: FrameType | None) -> None:
        if self._signalled:
            self._on_second()
            os._exit(ExitCode.INTERRUPTED)
        self._signalled = True
        self.asked.set()  # and nothing else: whatever is drawn on the screen may be half done

    def check(self) -> None:
        """Called between the steps of a start.

        Raises:
            Interrupted: There was a signal.
        """
        if self.asked.is_set():
            raise Interrupted
