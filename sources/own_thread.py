"""A thread with an event loop for code of one user: whatever it does, the worker's own loop goes on."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import structlog

from headrace.workflows.errors import HeadraceError

_log = structlog.get_logger(__name__)


class OwnThread:
    """Runs functions, sync or async, on one daemon thread; what is opened there is used there.

    A sync function has the thread for itself as long as it runs; async ones share it.

    Args:
        name: Of the thread, for people.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function gives (a coroutine is awaited, there), or whatever it raises.

        Cancelled here, an async function is cancelled there; a sync one runs to its end, unheard.
        """
        there = asyncio.run_coroutine_threadsafe(_guarded(function, arguments), self._loop)
        return await asyncio.wrap_future(there)

    def tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have it run, without waiting for it; what it raises goes to the log."""
        asyncio.run_coroutine_threadsafe(_logged(function, arguments), self._loop)

    def stop(self) -> None:
        """End the thread once what runs there now has ended; does not wait for that. Idempotent."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)


async def _guarded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        result = function(*arguments)
        return await result if inspect.isawaitable(result) else result
    except (SystemExit, KeyboardInterrupt) as error:  # these would end the loop, and nobody would hear of it
        raise HeadraceError(f"it tried to end the process: {error!r}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise HeadraceError("it cancelled itself") from error  # else it would look as if we had


async def _logged(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        await _guarded(function, arguments)
    except Exception:  # noqa: BLE001  user code: whatever it raises
        _log.exception("user_code_failed", function=getattr(function, "__qualname__", repr(function)))
