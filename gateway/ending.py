"""A server that is told to end: first it says so, then it lets those go who wait for workflows, then it ends.

A balancer needs a moment to find out that a process is not ready any more, and sends it requests until then. So with a
time to drain, SIGTERM at first changes nothing but what `/readyz` says, and that connections are not kept.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signals(
    call: Callable[[], None], *, first: Callable[[], None] | None = None, drain: float = 0.0
) -> Iterator[None]:
    """Call something, on the running loop, when a signal asks this process to end; then the server's own handler.

    Outside the main thread there are no signals: whoever has started the server there calls it.

    Args:
        call: Lets those go who wait.
        first: Called at SIGTERM, `drain` before that.
        drain: Seconds. SIGINT, and a second SIGTERM, don't wait for them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    is_draining = False

    def end(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(call)
        handler = before[number]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    def handle(number: int, frame: Any) -> None:
        nonlocal is_draining
        if number == signal.SIGTERM and drain > 0 and first is not None and not is_draining:
            is_draining = True
            loop.call_soon_threadsafe(first)
            loop.call_soon_threadsafe(loop.call_later, drain, end, number, None)
        else:
            end(number, frame)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
