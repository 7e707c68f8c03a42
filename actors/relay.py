"""The relay of a worker: outputs leave for their sinks once they are durable, at least once, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from headrace.sources.reader import OnProblem
from headrace.workflows.commit import Output
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable

log = structlog.get_logger(__name__)

ROUND: Final = 5_000
"""Outputs that go to the sinks together."""
BACKLOG: Final = 50_000
"""Outputs that may wait in a worker; beyond it its partitions take no new events."""
BACKLOG_BYTES: Final = 64 << 20
"""The same, by the size of their data."""
_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0


class Refused(Protocol):
    """An output that its sink will never take."""

    @property
    def output(self) -> Output:
        """What was to be sent."""
        ...

    @property
    def error(self) -> str:
        """Why, for people."""
        ...


class Outlet(Protocol):
    """What carries outputs to the sinks; `KafkaOutput` is one."""

    async def send(self, outputs: Sequence[Output]) -> Sequence[Refused]:
        """Deliver all of them; raises a `HeadraceError` if it can't now. Returns those refused for good."""
        ...

    async def close(self) -> None:
        """Disconnect; idempotent."""


class Origin(Protocol):
    """The partition that outputs come from."""

    number: int

    async def delivered(self, through: int, refused: Sequence[Refused]) -> None:
        """Outputs up to this sequence have left: forget them in the outbox."""


@dataclass(slots=True)
class _Chunk:
    origin: Origin
    first: int
    outputs: list[Output]
    size: int
    """Bytes of data."""


class Relay:
    """Sends what partitions have committed, in rounds; tells them what has left.

    An outbox entry goes only after its sinks have acknowledged it, so a crash in between sends it again,
    with the same id.

    Args:
        outlet: Where they go.
        on_problem: Told when outputs can't leave, and when they can again.
        on_room: Called when it is no longer `full`.
    """

    def __init__(self, outlet: Outlet, on_problem: OnProblem, on_room: Callable[[], None]) -> None:
        self._outlet = outlet
        self._on_problem = on_problem
        self._on_room = on_room
        self._queue: deque[_Chunk] = deque()
        self._round: list[_Chunk] = []
        """What is being sent; a partition that is dropped meanwhile hears nothing of it."""
        self._changed = asyncio.Event()
        self._backlog: dict[int, int] = {}
        self._outputs = self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self.sent = 0

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="relay")

    def push(self, origin: Origin, first: int, outputs: list[Output]) -> None:
        """These outputs of a partition are durable: send them. In order of their sequence."""
        chunk = _Chunk(origin, first, outputs, sum(len(output.data) for output in outputs))
        self._queue.append(chunk)
        self._backlog[origin.number] = self._backlog.get(origin.number, 0) + len(outputs)
        self._count(chunk, 1)
        self._changed.set()

    @property
    def full(self) -> bool:
        """Too much waits here: no more of it, please."""
        return self._outputs > BACKLOG or self._bytes > BACKLOG_BYTES

    def _count(self, chunk: _Chunk, sign: int) -> None:
        was_full = self.full
        self._outputs += sign * len(chunk.outputs)
        self._bytes += sign * chunk.size
        if was_full and not self.full:
            self._on_room()

    def waiting(self, partition: int) -> int:
        """Outputs of a partition that have not left."""
        return self._backlog.get(partition, 0)

    def drop(self, origin: Origin) -> None:
        """The partition is another owner's now, and so is its outbox."""
        for chunk in (*self._queue, *self._round):
            if chunk.origin is origin:
                self._count(chunk, -1)
        self._queue = deque(chunk for chunk in self._queue if chunk.origin is not origin)
        # Its sequences may be given to other outputs by then, so they must not be trimmed by these.
        self._round = [chunk for chunk in self._round if chunk.origin is not origin]
        self._backlog.pop(origin.number, None)

    async def close(self) -> None:
        """Stop sending; what has not left stays in the outboxes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._outlet.close()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if not self._queue:
                await self._changed.wait()
                continue
            count = 0
            while self._queue and count < ROUND:
                chunk = self._queue.popleft()
                self._round.append(chunk)
                count += len(chunk.outputs)
            refused = await self._send([output for chunk in self._round for output in chunk.outputs])
            self.sent += count
            chunks, self._round = self._round, []
            await self._tell(chunks, refused)

    async def _send(self, outputs: list[Output]) -> Sequence[Refused]:
        wait = _WAIT
        while True:
            try:
                refused = await self._outlet.send(outputs)
            except Exception as error:  # a relay that ends would stop all partitions without a word
                if not isinstance(error, HeadraceError):
                    log.exception("outlet_failed")
                self._on_problem("relay_blocked", f"{len(outputs)} outputs wait for their sink: {error!s}")
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self._on_problem("relay_blocked", "")
                return refused

    async def _tell(self, chunks: list[_Chunk], refused: Sequence[Refused]) -> None:
        through: dict[int, tuple[Origin, int]] = {}
        for chunk in chunks:
            number = chunk.origin.number
            through[number] = (chunk.origin, chunk.first + len(chunk.outputs) - 1)
            self._backlog[number] -= len(chunk.outputs)
            self._count(chunk, -1)
        for origin, last in through.values():
            own = {id(output) for chunk in chunks if chunk.origin is origin for output in chunk.outputs}
            try:
                await origin.delivered(last, [row for row in refused if id(row.output) in own])
            except StoreUnavailable as error:
                # They stay in the outbox: the next trim takes them along; after a crash they are sent again.
                log.warning("outbox_not_trimmed", partition=origin.number, reason=str(error))
            except Exception:  # as above: what one partition meets must not end the relay of all
                log.exception("outbox_not_trimmed", partition=origin.number)


class NoOutlet:
    """For workflows without sinks."""

    async def send(self, outputs: Sequence[Output]) -> Sequence[Refused]:
        """Nothing can come here."""
        raise HeadraceError(f"{len(outputs)} outputs, but the workflow has no sink")

    async def close(self) -> None:
        """Nothing to do."""
