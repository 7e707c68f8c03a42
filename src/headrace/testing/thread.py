"""A thread with an event loop of its own: nodes run there, also while the test's own loop is running."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.testing.problems import HarnessError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines, one after the other, on one thread: what a node opens there it also uses there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(self._loop,), name="headrace-harness", daemon=True)
        thread.start()
        self._stop = weakref.finalize(self, _stop, self._loop, thread)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, and wait for that here."""
        return asyncio.run_coroutine_threadsafe(_guarded(work), self._loop).result()

    def stop(self) -> None:
        """End the thread; idempotent. Without it, it ends when nobody holds this object any more."""
        self._stop()


async def _guarded(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:  # these would end the loop, and the test would wait for ever
        raise HarnessError(f"a node tried to end the process: {error!r}") from error


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join()
