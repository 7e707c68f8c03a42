"""Deadlines of nodes that are not `async`, in the harness: its one process can't be replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from headrace.workflows.deadline import DeadlineExceeded
from headrace.workflows.progress import Progress

_THEN = "on a cluster its process would have been replaced"


class LateProgress(Progress):
    """A node that comes back too late fails as it would elsewhere, in real time. One that never does is waited for."""

    def timed(self, process: Callable[..., Any], timeout: timedelta, unit: int) -> Callable[..., Any]:
        """The `process` of a node that is not async, with a deadline."""
        del unit
        seconds = timeout.total_seconds()

        def process_timed(subject: Any, ctx: Any) -> Any:
            started = time.monotonic()
            try:
                return process(subject, ctx)
            finally:
                if time.monotonic() - started > seconds:
                    raise DeadlineExceeded(timeout, _THEN)

        return process_timed
