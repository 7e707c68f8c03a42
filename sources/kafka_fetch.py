"""Keeps the buffers of a set of logs full: one fetch in flight for each broker that leads some of them.

aiokafka's own consumer is not used: it makes an object for each record (1.9 us, a third of a worker's time),
and loses positions and buffers of all topic partitions whenever one is assigned. Its client, protocol and
record batches are; the contract test holds what comes out against that consumer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import structlog
from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from headrace.sources.kafka_batches import FetchedBatches
from headrace.sources.kafka_connection import WORDS, ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_extent import READ_COMMITTED, LogExtent, aborted_of, by_topic, log_extents, offsets_from
from headrace.sources.kafka_log import Log
from headrace.sources.kafka_metadata import Topic, describe_topics
from headrace.sources.problems import Problems

logger = structlog.get_logger(__name__)

PARTITION_BYTES: Final = 4 << 20
"""At most so much of one topic partition in an answer (a larger single batch comes whole)."""
ANSWER_BYTES: Final = 32 << 20
BUFFER_BYTES: Final = 64 << 20
"""No log is fetched while the buffers of all hold more."""
IDLE_WAIT_MS: Final = 100
"""How long a broker holds a fetch when there is nothing; a record that comes is sent at once."""
BUSY_WAIT_MS: Final = 20
"""The same while some log is not fetched because its buffer is full: it must not wait for the quiet ones."""
_METADATA_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 10.0
"""Within so many seconds a topic that appears and matches a pattern is found."""
_MISSING_SECONDS: Final = 1.0
_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0)
_BEYOND_SECONDS: Final = 3.0
"""A follower that has just become leader may know a lower high watermark for a moment (KIP-207)."""
_MOVED: Final = (
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.UnknownTopicOrPartitionError,
    errors.ReplicaNotAvailableError,
    errors.KafkaStorageError,
)
_LOST: Final = (errors.KafkaError, OSError, TimeoutError)
_CANCEL_AGAIN: Final = 0.5
"""Seconds."""


class Owner(Protocol):
    """What the fetcher asks of the reader it works for."""

    def topics(self) -> set[str]:
        """Topics to know about."""
        ...

    def wants_all_topics(self) -> bool:
        """Others are to be looked for, too."""
        ...

    def reconcile(self, topics: dict[str, Topic]) -> None:
        """The cluster's topics are known (again): make, move and stop logs by them."""

    def logs(self) -> Iterable[Log]:
        """All that are read now."""
        ...

    def time_of(self, log: Log) -> int | None:
        """Time that decides where the log begins, in milliseconds since 1970 UTC; None: none does."""
        ...

    def resolve(self, log: Log, extent: LogExtent, at: int | None) -> None:
        """What the broker has of the log, and its first offset from `time_of` on: decide where to go on."""

    def arrived(self, log: Log) -> None:
        """Its buffer has something new."""


class Fetcher:
    """One connection to a cluster, made again whenever it is lost, and the fetches over it.

    Args:
        owner: Decides what is read, and from where.
        connection: The cluster.
        problems: Told what keeps it from fetching.
        clock: The loop's monotonic clock.
    """

    def __init__(
        self, owner: Owner, connection: KafkaConnection, problems: Problems, clock: Callable[[], float]
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._problems = problems
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._room: dict[int, asyncio.Event] = {}
        self._refresh_at = 0.0
        self._resting: dict[int, float] = {}
        self._turn = 0
        self._failures = 0
        self.client: AIOKafkaClient | None = None
        """Connected; None: the cluster is away."""

    def start(self) -> None:
        """Begin; connecting happens in the background, for as long as it takes."""
        self._task = asyncio.create_task(self._run(), name="kafka-fetcher")

    async def close(self) -> None:
        """Stop and disconnect; idempotent."""
        if self._task is not None:
            await _end([self._task])
            self._task = None

    def wake(self) -> None:
        """The owner has other logs, or one of them needs resolving."""
        self._changed.set()
        self.has_room()

    def has_room(self) -> None:
        """A buffer has become low: fetch on."""
        for room in self._room.values():
            room.set()

    def refresh(self, within: float = 0.0) -> None:
        """Ask the cluster again which topics it has and who leads them, in so many seconds."""
        self._refresh_at = min(self._refresh_at, self._clock() + within)
        self._changed.set()

    async def _run(self) -> None:
        self._failures = 0
        address = self._connection.address
        while True:
            try:
                client = await self._connection.connect()
                try:
                    await self._use(client)
                finally:
                    self.client = None
                    await client.close()
            except ClusterUnavailable as error:
                self._away(error)
            except _LOST as error:
                self._away(self._connection.unavailable(error))
            except Exception as error:
                # A mistake of ours (or of the client): named, and tried again, rather than standing still silently.
                self._problems.tell("kafka_failed", address, f"Reading from Kafka failed: {error!r}.")
                logger.exception("kafka_failed", cluster=address)
            await asyncio.sleep(_BACKOFF[min(self._failures, len(_BACKOFF) - 1)])
            self._failures += 1

    async def _use(self, client: AIOKafkaClient) -> None:
        self._refresh_at = 0.0
        await self._refresh_topics(client)
        self._failures = 0
        self.client = client
        self._problems.forget(self._connection.address)
        await self._session(client)

    def _away(self, error: ClusterUnavailable) -> None:
        for word in WORDS:
            if word != error.word:
                self._problems.solved(word, error.address)
        if self._problems.tell(error.word, error.address, str(error)):
            logger.warning(error.word, cluster=error.address, reason=error.cause)

    async def _session(self, client: AIOKafkaClient) -> None:
        """Serve the logs over this client until it is lost."""
        nodes: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                if self._clock() >= self._refresh_at:
                    await self._refresh_topics(client)
                await self._resolve_logs(client)
                self._start_nodes(client, nodes)
                self.has_room()
                await self._wait_for_change(nodes)
        finally:
            await _end(nodes.values())
            self._room.clear()
            for node in list(self._resting):
                self._rested(node)

    def _start_nodes(self, client: AIOKafkaClient, nodes: dict[int, asyncio.Task[None]]) -> None:
        """A task for each broker that leads a log and has none yet."""
        leaders = {log.leader for log in self._owner.logs() if log.leader >= 0}
        for node in self._resting.keys() - leaders:
            self._rested(node)
        for node in leaders - nodes.keys():
            if self._clock() >= self._resting.get(node, 0.0):
                self._room[node] = asyncio.Event()
                nodes[node] = asyncio.create_task(self._serve(client, node), name=f"kafka-fetch-{node}")

    def _rested(self, node: int) -> None:
        if self._resting.pop(node, None) is not None:
            self._problems.forget(f"{self._connection.address} node {node}")

    async def _wait_for_change(self, nodes: dict[int, asyncio.Task[None]]) -> None:
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {changed, *nodes.values()},
                timeout=max(0.0, self._refresh_at - self._clock()),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            changed.cancel()
        for node in [node for node, task in nodes.items() if task.done()]:
            task = nodes.pop(node)
            del self._room[node]
            error = task.exception()
            if error is not None and (not nodes or not isinstance(error, _LOST)):
                raise error
            # Other brokers answer: theirs goes on, and this one's logs may soon be led by one of them.
            self._resting[node] = self._clock() + _BACKOFF[-1]
            self._problems.tell("kafka_unreachable", f"{self._connection.address} node {node}", _silent(node, error))
            self.refresh(_BACKOFF[0])

    async def _refresh_topics(self, client: AIOKafkaClient) -> None:
        wanted = self._owner.topics()
        look_for_more = self._owner.wants_all_topics()
        known = await describe_topics(client, None if look_for_more else wanted) if wanted or look_for_more else {}
        unsettled = not known.keys() >= wanted or any(-1 in topic.leaders.values() for topic in known.values())
        settled_seconds = LOOK_SECONDS if look_for_more else _METADATA_SECONDS
        self._refresh_at = self._clock() + (_MISSING_SECONDS if unsettled else settled_seconds)
        self._owner.reconcile(known)

    async def _resolve_logs(self, client: AIOKafkaClient) -> None:
        """Find out first offset and end of the logs that need it to know where to begin."""
        by_node: dict[int, list[Log]] = defaultdict(list)
        now = self._clock()
        for log in self._owner.logs():
            if log.fetch_offset is None and not (log.dropped or log.stopped) and log.leader >= 0:
                if now < log.not_before:
                    self.refresh(log.not_before - now)
                else:
                    by_node[log.leader].append(log)
        for node, logs in by_node.items():
            try:
                await self._resolve_at(client, node, logs)
            except _LOST as error:
                logger.info("kafka_offsets_unknown", node=node, reason=repr(error))
                for log in logs:
                    log.not_before = now + _BACKOFF[-1]
                self.refresh(_BACKOFF[-1])

    async def _resolve_at(self, client: AIOKafkaClient, node: int, logs: list[Log]) -> None:
        extents = await log_extents(client, node, {(log.topic, log.number) for log in logs})
        times = {(log.topic, log.number): at for log in logs if (at := self._owner.time_of(log)) is not None}
        found = await offsets_from(client, node, times)
        for log in logs:
            place = (log.topic, log.number)
            extent = extents.get(place)
            if extent is None or (place in times and place not in found):
                log.not_before = self._clock() + _BACKOFF[-1]
                self.refresh(_BACKOFF[-1])
            elif not log.dropped and log.fetch_offset is None:
                self._owner.resolve(log, extent, found.get(place))

    async def _serve(self, client: AIOKafkaClient, node: int) -> None:
        """Fetch from one broker, one request after the other, as long as it answers."""
        room = self._room[node]
        while True:
            room.clear()
            logs, wait = self._to_fetch(node)
            if not logs:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await room.wait()
                continue
            asked = {(log.topic, log.number): (log, log.fetch_offset or 0) for log in logs}
            request = FetchRequest(
                int(wait * 1000),
                1,
                ANSWER_BYTES,
                READ_COMMITTED,
                by_topic((topic, (number, offset, PARTITION_BYTES)) for (topic, number), (_, offset) in asked.items()),
            )
            answer = await client.send(node, request)
            self._rested(node)
            for topic, partitions in answer.topics:
                for number, code, high, *rest in partitions:
                    log, offset = asked[topic, number]
                    if not log.dropped and log.fetch_offset == offset:
                        self._answered(log, offset, code, high, rest)

    def _to_fetch(self, node: int) -> tuple[list[Log], float]:
        """Logs to ask this broker for now, and how long it may hold the answer (or we wait, with none)."""
        now = self._clock()
        logs: list[Log] = []
        buffered, wait = 0, IDLE_WAIT_MS / 1000
        for log in self._owner.logs():
            remaining = log.remaining
            buffered += remaining
            if log.leader != node or not log.readable:
                continue
            if now < log.not_before or not log.has_room:
                wait = BUSY_WAIT_MS / 1000
            else:
                logs.append(log)
        if buffered > BUFFER_BYTES:
            return [], wait
        # Brokers fill an answer in the order asked: turn it, or the last ones starve.
        self._turn += 1
        turn = self._turn % len(logs) if logs else 0
        return logs[turn:] + logs[:turn], wait

    def _answered(self, log: Log, offset: int, code: int, high: int, rest: list[Any]) -> None:
        kind = errors.for_code(code)
        if kind is errors.NoError:
            self._problems.forget(f"fetch {log.origin}")
            data = rest[-1]
            log.high_watermark = high
            log.answers += 1
            if data:
                piece = FetchedBatches(data, offset, aborted_of(rest))
                if piece.end > offset:
                    log.beyond_since = None
                    log.arrived(piece)
                    self._owner.arrived(log)
                    return
            self._check_end(log, offset, high)
        elif kind is errors.OffsetOutOfRangeError:
            self._look_again(log)
        elif kind in _MOVED:
            log.not_before = self._clock() + _BACKOFF[0]
            self.refresh()
        else:
            log.not_before = self._clock() + _BACKOFF[-1]
            self._problems.tell(
                "kafka_refused",
                f"fetch {log.origin}",
                f"The broker gives no records of {log.topic}/{log.number}: {kind.__name__} ({kind.description}).",
            )

    def _check_end(self, log: Log, offset: int, high: int) -> None:
        """An answer without records: the log may end before our position."""
        if not 0 <= high < offset:
            log.beyond_since = None
        elif log.beyond_since is None:
            log.beyond_since = self._clock()
        elif self._clock() - log.beyond_since > _BEYOND_SECONDS:
            self._look_again(log)

    def _look_again(self, log: Log) -> None:
        log.fetch_offset = None
        log.beyond_since = None
        self._changed.set()


def _silent(node: int, error: BaseException | None) -> str:
    return f"Kafka broker {node} does not answer ({error!r}); what it leads waits until it does, or another one leads."


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they have ended; once is not enough where a client's own waiting swallows it (Python 3.11)."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
