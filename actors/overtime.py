"""Ends this process when a node that can't be cancelled takes too long: a thread looks, a second one looks after it.

A thread of Python's can't run while a C extension keeps the interpreter's lock for itself. So it puts off, again and
again, a watchdog that is none (`faulthandler.dump_traceback_later`), and that ends the process when nobody puts it off.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from headrace.actors.progress_files import Slot

log = structlog.get_logger(__name__)

EXIT_CODE: Final = 124
"""Of a process that was ended for a deadline: what `timeout` of the coreutils uses."""
MARGIN: Final = 2.0
"""Seconds by which the second watchdog is later than the longest deadline."""
_OFTEN: Final = 4
"""Looks within the shortest deadline."""
_LONGEST_WAIT: Final = 0.5
_NANO: Final = 1_000_000_000


class Overtime:
    """Watches one slot.

    Args:
        slot: Where the node's work is noted.
        trace: File for where the process stood.
        end: For tests; by default ends the process.
    """

    def __init__(self, slot: Slot, trace: Any, *, end: Callable[[int], object] = os._exit) -> None:
        self._slot = slot
        self._trace = trace
        self._end = end
        self._limits: list[float] = []
        self._put_off = 0.0
        self._watches = False
        self._thread: threading.Thread | None = None

    def limit(self, seconds: float) -> None:
        """Some node of this process has this deadline."""
        self._limits.append(seconds)
        self._begin()

    def start(self) -> None:
        """Watch from now on, once there is a deadline."""
        self._watches = True
        self._begin()

    def _begin(self) -> None:
        if self._watches and self._limits and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-overtime", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._watches = False
        if self._thread is not None:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while self._watches:
            time.sleep(self.look())

    def look(self) -> float:
        """One look; returns seconds until the next one."""
        longest, wait = max(self._limits, default=0.0), min([_LONGEST_WAIT, *self._limits]) / _OFTEN
        now = time.monotonic()
        if self._watches and now - self._put_off > _LONGEST_WAIT:
            faulthandler.dump_traceback_later(longest + MARGIN, exit=True, file=self._trace)
            self._put_off = now
        slot = self._slot
        since, limit = slot.since, slot.limit
        if not since:
            return wait
        left = since + limit - time.monotonic_ns()
        if left > 0:
            return min(_LONGEST_WAIT, max(left / _NANO, 0.001))
        if slot.since == since:  # the same event still
            slot.condemn(since)
            faulthandler.dump_traceback(self._trace, all_threads=True)
            self._end(EXIT_CODE)
        return wait
