"""What a partition has under way: tasks that end with its stay, and questions asked until the store answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from headrace.sources.reader import OnProblem
from headrace.workflows.store import StoreUnavailable

T = TypeVar("T")

_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0


class Undertakings:
    """Tasks of one partition.

    Args:
        on_failure: Called with what a task raised that nobody waits for.
    """

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that the caller waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something that nobody waits for."""
        self.begin(work).add_done_callback(self._done)

    def cancel(self) -> None:
        """End all of them, except the one that asks for it."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)


async def until_available(ask: Callable[[], Awaitable[T]], on_problem: OnProblem) -> T:
    """Ask the store until it answers; name the trouble meanwhile, and no longer, however it ends."""
    wait = _WAIT
    named = ""
    try:
        while True:
            try:
                return await ask()
            except StoreUnavailable as error:
                if named not in ("", error.word):
                    on_problem(named, "")
                named = error.word
                on_problem(named, str(error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
    finally:
        if named:
            on_problem(named, "")
