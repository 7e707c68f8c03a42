"""A worker's line to the node actors: calls of several partitions travel together, and go again when an actor dies."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import ray
import structlog
from ray.exceptions import RayError

from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.engine import OnReport
from headrace.actors.spec import NAMESPACE, NodeAddress, NodeFailed, NodeMap, encode
from headrace.workflows.calls import Call, CallResult, Hasten
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.effects import point
from headrace.workflows.epoch import Place

log = structlog.get_logger(__name__)

OUTSTANDING: Final = 2
"""Calls at one replica: one that it works on, one that waits there, so that it never idles between two."""
EVENTS_TOGETHER: Final = 4_000
"""Events after which no further partition joins a call."""
_TICK: Final = 0.01
"""Seconds by which a timer may be early."""
OnResult = Callable[[CallResult], None]
_encoder: Final = msgspec.msgpack.Encoder()
_NO_CALLS: Final = _encoder.encode([])
_decoder: Final = msgspec.msgpack.Decoder(list[CallResult])


@dataclass(slots=True)
class _Replica:
    """One replica of a unit, as this worker sees it."""

    unit: int
    replica: int
    address: NodeAddress | None = None
    handle: Any = None
    waiting: deque[Dispatch] = field(default_factory=deque)
    attempts: list[list[Dispatch]] = field(default_factory=list)
    """Calls under way; one that is not in here any more has been given up, its answer is not heard."""
    away_since: float | None = None
    """When it was lost, by the loop's clock; kept until it has answered what was under way then."""
    patience: float = 0.0
    """Seconds after which it is taken for away."""

    @property
    def place(self) -> Place:
        """How the core names it."""
        return self.unit, self.replica


class NodeCalls:
    """Sends calls to node replicas and hears their results. Used from the worker's loop only.

    A call that met a dead actor, or an actor that was replaced while it was under way, goes to the
    successor, unchanged. What the old actor may still answer is not heard: its states are not those
    that the successor will have. A replica without a successor for longer than `deadline` is `closed.away`
    until it answers again: partitions give up their calls to it, and begin none.

    Args:
        places: All replicas of the workflow, as (unit, replica).
        on_result: Told each result.
        on_connected: Told when replicas can be called, or are away, that were not before.
        report: Tells the supervisor.
        on_answer: Told a call's unit and the seconds that it took.
        closed: Where it is said who is away.
        deadline: Seconds that a replica may be away.
        opening: Seconds that it may be so at first, as its nodes open.
    """

    def __init__(
        self,
        places: Iterable[tuple[int, int]],
        on_result: OnResult,
        on_connected: Callable[[], None],
        report: OnReport,
        on_answer: Callable[[int, float], None] = lambda unit, seconds: None,
        *,
        closed: ClosedNodes | None = None,
        deadline: float = 10.0,
        opening: float = 0.0,
    ) -> None:
        self._on_answer = on_answer
        self._on_result = on_result
        self._on_connected = on_connected
        self._report = report
        self._replicas = {place: _Replica(*place) for place in places}
        self._version = -1
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self.calls = 0
        self.resent = 0
        self._closed = closed or ClosedNodes()
        self._deadline = deadline
        for replica in self._replicas.values():
            self._is_away(replica, max(deadline, opening))

    def submit(self, dispatch: Dispatch) -> None:
        """Send a call as soon as its replica has room."""
        call = dispatch.call
        replica = self._replicas[call.unit, call.replica]
        replica.waiting.append(dispatch)
        self._loop.call_soon(self._send, replica)  # let calls of other partitions join

    def hasten(self, unit: int, asked: Hasten) -> None:
        """Tell all replicas of a unit, beside their calls. Not again, where it is lost: a call ends in time anyway."""
        for replica in self._replicas.values():
            if replica.unit == unit and replica.handle is not None:
                self._spawn(self._hasten(replica.handle, asked))

    async def _hasten(self, handle: Any, asked: Hasten) -> None:
        try:
            await asyncio.wrap_future(handle.control.remote(encode(asked)).future())
        except RayError as error:
            log.warning("not_hastened", partition=asked.partition, reason=type(error).__name__)

    def drop(self, partition: int, owner: str) -> None:
        """The partition is no longer ours: what waits of it is not sent. Results that come are ignored by owner."""
        for replica in self._replicas.values():
            replica.waiting = deque(d for d in replica.waiting if not _is_of(d.call, partition, owner))

    def update(self, version: int, nodes: NodeMap) -> None:
        """Where the nodes are now; calls under way at a replaced one go to its successor."""
        if version < self._version:
            return
        self._version = version
        for unit, addresses in nodes.items():
            for index, address in enumerate(addresses):
                replica = self._replicas[unit, index]
                if address != replica.address:
                    self._give_up(replica)
                    replica.address, replica.handle = address, None
                    self._is_away(replica, self._deadline)
                    if address is not None:
                        task = self._spawn(self._connect(replica, address))
                        self._connecting.add(task)
                        task.add_done_callback(self._connecting.discard)

    async def connecting(self, within: float) -> None:
        """Wait until no line is being made any more, for so many seconds at most."""
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=within)

    @property
    def connected(self) -> bool:
        """Every replica can be called, or its events stand still: it is worth while to pull events."""
        away = self._closed.away
        return all(replica.handle is not None or replica.place in away for replica in self._replicas.values())

    def unreachable(self) -> list[str]:
        """Sentences on replicas that calls wait for and that have no actor, or whose events stand still."""
        found: list[str] = []
        for replica in self._replicas.values():
            name = f"node/{replica.unit}/{replica.replica}"
            if replica.place in self._closed.away and replica.away_since is not None:
                since = time.localtime(time.time() - (self._loop.time() - replica.away_since))
                found.append(f"events stand still before {name}, away since {time.strftime('%H:%M:%S', since)}")
            elif replica.address is None and any(not dispatch.given_up for dispatch in replica.waiting):
                found.append(f"calls wait for {name}")
        return found

    def parked(self) -> dict[int, int]:
        """Unit -> events that stand before a replica which is away, until its successor is there."""
        counts: dict[int, int] = {}
        for replica in self._replicas.values():
            if replica.handle is None:
                events = sum(len(dispatch.call.runs) for dispatch in replica.waiting if not dispatch.given_up)
                counts[replica.unit] = counts.get(replica.unit, 0) + events
        return counts

    def _give_up(self, replica: _Replica) -> None:
        """What is under way will be sent again, in its order, before what waits."""
        for attempt in reversed(replica.attempts):
            dispatches = [dispatch for dispatch in attempt if not dispatch.given_up]
            self.resent += len(dispatches)
            for dispatch in dispatches:
                dispatch.sent += 1
                dispatch.call.falls += 1
            replica.waiting.extendleft(reversed(dispatches))
        replica.attempts.clear()

    def _is_away(self, replica: _Replica, patience: float) -> None:
        """It can't be called; nor could it before, perhaps."""
        if replica.away_since is None:
            replica.away_since, replica.patience = self._loop.time(), patience
            self._loop.call_later(patience, self._look)

    def _is_there(self, replica: _Replica) -> None:
        """It has answered, and nothing that was lost with its predecessor waits for it."""
        if not any(dispatch.sent > 1 and not dispatch.given_up for dispatch in replica.waiting):
            replica.away_since = None
            self._look()

    def _look(self) -> None:
        """Who has been away for too long."""
        now, replicas = self._loop.time() + _TICK, self._replicas.values()
        gone = [row for row in replicas if row.away_since is not None and now - row.away_since >= row.patience]
        away = frozenset(replica.place for replica in gone)
        if away != self._closed.away:
            log.warning("nodes_away", replicas=sorted(away))
            self._closed.away = away
            self._on_connected()

    def _send(self, replica: _Replica) -> None:
        while replica.waiting and len(replica.attempts) < OUTSTANDING:
            if replica.address is None or replica.handle is None:
                return  # it goes on when the replica is connected
            together: list[Dispatch] = []
            events = 0
            while replica.waiting and (not together or events < EVENTS_TOGETHER):
                dispatch = replica.waiting.popleft()
                if dispatch.given_up:
                    continue
                together.append(dispatch)
                events += len(dispatch.call.runs)
            if not together:
                return
            replica.attempts.append(together)
            self._spawn(self._call(replica, replica.address, replica.handle, together))

    async def _connect(self, replica: _Replica, address: NodeAddress) -> None:
        """Find the actor and make an empty call: connecting takes Ray a tenth of a second, so before it is needed."""
        try:
            handle: Any = await asyncio.to_thread(lambda: ray.get_actor(address.actor, namespace=NAMESPACE))
            await asyncio.wrap_future(handle.call.remote(_NO_CALLS).future())
        except (ValueError, RayError) as error:
            if replica.address == address:
                self._lost(replica, address, error)
            return
        if replica.address == address:  # it was not placed elsewhere meanwhile
            replica.handle = handle
            self._is_there(replica)
            self._send(replica)
            if self.connected:
                self._on_connected()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call(self, replica: _Replica, address: NodeAddress, handle: Any, together: list[Dispatch]) -> None:
        point("before:call")
        self.calls += 1
        asked = time.monotonic()
        try:
            reference = handle.call.remote(_encoder.encode([dispatch.call for dispatch in together]))
            blob = await asyncio.wrap_future(reference.future())
        except RayError as error:
            if _is_under_way(replica, together):
                self._lost(replica, address, error)
            return
        if not _is_under_way(replica, together):
            return  # given up while it was under way
        replica.attempts = [attempt for attempt in replica.attempts if attempt is not together]
        if replica.away_since is not None:
            replica.away_since = None
            self._look()
        self._on_answer(replica.unit, time.monotonic() - asked)
        point("after:call")
        for result in _decoder.decode(blob):
            self._on_result(result)
        self._send(replica)

    def _lost(self, replica: _Replica, address: NodeAddress, error: Exception) -> None:
        log.warning("node_lost", unit=replica.unit, replica=replica.replica, reason=type(error).__name__)
        self._give_up(replica)
        if replica.address == address:
            replica.address = replica.handle = None
            self._is_away(replica, self._deadline)
        self._report(NodeFailed(unit=replica.unit, replica=replica.replica, incarnation=address.incarnation))


def _is_under_way(replica: _Replica, together: list[Dispatch]) -> bool:
    return any(attempt is together for attempt in replica.attempts)


def _is_of(call: Call, partition: int, owner: str) -> bool:
    return call.partition == partition and call.owner == owner
