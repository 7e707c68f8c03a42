"""The formats of a worker's sources and sinks: users' decoders and encoders are opened, and have a thread, here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog

from headrace.actors.node_host import UserThread
from headrace.sources.formats import unpackers_of
from headrace.sources.own_formats import Opened, Unavailable
from headrace.sources.packing import packers_of
from headrace.sources.problems import Problems
from headrace.sources.reader import OnProblem
from headrace.sources.unpacking import Unpacker
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records

log = structlog.get_logger(__name__)
T = TypeVar("T")

DECODER: Final = "decoder"
"""Word of the problem that is named while a decoder can't be opened, or says that it is `Unavailable`."""
ENCODER: Final = "encoder"
"""Word of the problem that is named while an encoder can't be opened."""
_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 5.0


class Formats:
    """Unpackers of a worker's sources and packers of its sinks. Used from its loop only.

    Args:
        plan: The workflow.
        on_problem: Told what a decoder or encoder waits for.
    """

    def __init__(self, plan: Plan, on_problem: OnProblem) -> None:
        self._names = {row.index: row.name for row in plan.sources}
        self._unpackers = unpackers_of(plan)
        self._waiting = {index for index, unpacker in self._unpackers.items() if unpacker.waits}
        self.packers = packers_of(plan)
        """By sink; those that need none write plain JSON."""
        self._opened: list[tuple[str, str, Opened]] = [
            (DECODER, plan.sources[index].name, self._unpackers[index]) for index in sorted(self._waiting)
        ]
        self._opened += [
            (ENCODER, plan.sinks[index].name, packer.encoder)
            for index, packer in self.packers.items()
            if packer.encoder is not None
        ]
        self._problems = Problems(on_problem)
        self._thread = UserThread() if self._opened else None

    async def open(self) -> None:
        """Open decoders and encoders; tries until they are."""
        for word, name, opened in self._opened:
            wait = _WAIT
            while True:
                try:
                    await self._on_thread(opened.open())
                    break
                except Exception as error:  # noqa: BLE001  user code
                    self._tell(word, name, f"does not open: {type(error).__name__}: {error}")
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            self._problems.solved(word, name)

    async def close(self) -> None:
        """Close them."""
        if self._thread is None:
            return
        for word, name, opened in self._opened:
            try:
                await self._on_thread(opened.close())
            except Exception as error:  # noqa: BLE001  user code: the process ends anyway
                log.warning("close_failed", part=f"{word} of {name}", reason=f"{type(error).__name__}: {error}")
        self._thread.stop()

    def may_wait(self, batches: Sequence[Records]) -> bool:
        """Some of these records have to be unpacked by `unpack_waiting`."""
        return bool(self._waiting) and any(records.source in self._waiting for records in batches)

    def unpack(self, batches: Sequence[Records]) -> list[Records]:
        """The same records, in JSON."""
        unpackers = self._unpackers
        if not unpackers:
            return list(batches)
        return [self._unpacked(records) for records in batches]

    def _unpacked(self, records: Records) -> Records:
        unpacker = self._unpackers.get(records.source)
        return records if unpacker is None else unpacker.unpack(records)

    async def unpack_waiting(self, batches: Sequence[Records]) -> list[Records]:
        """The same, for as long as a decoder takes; one that is `Unavailable` is asked again."""
        return [
            await self._until_available(records) if records.source in self._waiting else self._unpacked(records)
            for records in batches
        ]

    async def _until_available(self, records: Records) -> Records:
        index, wait = records.source, _WAIT
        while True:
            try:
                unpacked = await self._on_thread(_call(self._unpackers[index], records))
            except Unavailable as error:
                self._tell(DECODER, self._names[index], f"can't go on: {error}")
            else:
                self._problems.solved(DECODER, self._names[index])
                return unpacked
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _tell(self, word: str, name: str, what: str) -> None:
        if self._problems.tell(word, name, f"The {word} of {name} {what}"):
            log.warning("format_waits", part=f"{word} of {name}", reason=what)

    async def _on_thread(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._thread is not None
        return await asyncio.wrap_future(self._thread.submit(work))


async def _call(unpacker: Unpacker, records: Records) -> Records:
    return unpacker.unpack(records)
