"""Reads Kafka topics for one worker: partition s gets the topic partitions p with p % S == s."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiokafka.util import NO_EXTENSIONS

from headrace.sources.kafka_batches import CorruptBatch
from headrace.sources.kafka_beginnings import Beginnings
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_extent import LogExtent
from headrace.sources.kafka_fetch import Fetcher
from headrace.sources.kafka_group import GroupPositions
from headrace.sources.kafka_horizon import ends_now
from headrace.sources.kafka_log import Gap, Log, Predecessor, offset_of, topic_id_of
from headrace.sources.kafka_metadata import Topic
from headrace.sources.kafka_prior import PriorWork, lost_because
from headrace.sources.kafka_subscription import Subscription, begun_mark, origin_of
from headrace.sources.problems import Problems
from headrace.sources.reader import OnProblem, OnReady, Reached
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

logger = structlog.get_logger(__name__)

_CORRUPT_SECONDS = 1.0


class KafkaReader:
    """The `Reader` of all Kafka sources of one cluster.

    Args:
        sources: Plans of sources whose `source` is a `ReadsTopic`. Their names are the origins' names.
        connection: The cluster.
        partitions: S, the workflow's number of partitions.
        on_ready: See `Reader`.
        on_problem: See `Reader`. Words: those of `ClusterUnavailable`, `kafka_refused`, `topic_missing`,
            `topic_twice`, `topic_gone`, `gap`, `log_lost` (the log ends before our position, or is another one),
            `state_lost`, `corrupt`, `codec_missing` (records are compressed in a way that needs a library),
            `kafka_failed`.
        group: Consumer group that is told of committed positions; None: none is.
        start_over: A partition without positions begins even where the group has some of it.

    Raises:
        HeadraceError: Two of the sources read the same topic.
    """

    def __init__(
        self,
        sources: Sequence[SourcePlan],
        *,
        connection: KafkaConnection,
        partitions: int,
        on_ready: OnReady,
        on_problem: OnProblem,
        group: str | None = None,
        start_over: bool = False,
    ) -> None:
        self._partitions = partitions
        self._on_ready = on_ready
        self._problems = Problems(on_problem)
        self._assigned: dict[int, dict[str, str]] = {}
        self._logs: dict[int, dict[str, Log]] = defaultdict(dict)
        self._topics: dict[str, Topic] | None = None
        self._matched: list[tuple[Topic, SourcePlan]] = []
        self._turn = 0
        self.paused: frozenset[int] = frozenset()
        self._subscription = Subscription(sources, self._problems)
        self._begun: set[tuple[int, int]] = set()
        """Partitions and sources whose logs were looked up once: what appears now is new."""
        self._marks: dict[int, list[Records]] = defaultdict(list)
        by_index = {plan.index: plan for plan in sources}
        self._beginnings = Beginnings(by_index, self._problems, on_ready)
        self._clock = asyncio.get_running_loop().time
        self._fetcher = Fetcher(self, connection, self._problems, self._clock)
        self._address = connection.address
        self._group = GroupPositions(group, connection) if group else None
        self._prior = PriorWork(group, connection, self._know_more) if group and not start_over else None

    @property
    def gaps(self) -> list[Gap]:
        """What was lost before it could be read, in the order it was found out."""
        return self._beginnings.gaps

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        if NO_EXTENSIONS:
            logger.warning("kafka_without_extensions", cure="install an aiokafka wheel: reading is ten times slower")
        self._fetcher.start()
        if self._group is not None:
            self._group.start()

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """Read `partition` on from `positions`; see `Reader`. Returns before anything has arrived."""
        self._drop(partition)
        self._assigned[partition] = dict(positions)
        if self._prior is not None and not positions:
            self._prior.ask(partition)
        self._know_more()

    async def revoke(self, partition: int) -> None:
        """Read `partition` no longer; see `Reader`."""
        self._assigned.pop(partition, None)
        self._drop(partition)

    def pull(self, partition: int, limit: int) -> list[Records]:
        """See `Reader`. A `Records` without records only tells a position that was decided at the start."""
        logs = [log for log in self._logs.get(partition, {}).values() if log.has_news and log.source not in self.paused]
        pulled: list[Records] = []
        self._turn += 1
        turn = self._turn % max(1, len(logs))
        for log in logs[turn:] + logs[:turn]:
            records, corrupt = log.pull(limit)
            if corrupt is not None:
                self._corrupt(log, corrupt)
            if records is not None:
                pulled.append(records)
                limit -= len(records)
                if corrupt is None:
                    self._problems.solved(CorruptBatch.word, log.origin)
            if limit <= 0:
                break
        if logs:
            self._fetcher.has_room()
        return pulled + self._due_marks(partition)

    async def close(self) -> None:
        """Stop and disconnect; idempotent."""
        await self._fetcher.close()
        if self._group is not None:
            await self._group.close()
        if self._prior is not None:
            await self._prior.close()
        for partition in list(self._logs):
            self._drop(partition)

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """The store has these positions (by origin; others' are passed over): told to the group, a while later."""
        if self._group is not None:
            logs = self._logs.get(partition, {})
            mine = {(logs[origin].topic, logs[origin].number): at for origin, at in positions.items() if origin in logs}
            self._group.note(mine)

    async def horizon(self, partition: int) -> Reached:
        """See `Reader`."""
        ends = await ends_now(lambda: self._open_logs(partition), lambda: self._fetcher.client)
        return lambda: all(
            log.dropped or log.stopped or log.source in self.paused or (log.position or 0) >= end
            for log, end in ends.items()
        )

    def _open_logs(self, partition: int) -> list[Log] | None:
        if self._topics is None or not self._may_begin(partition):
            return None if partition in self._assigned else []
        logs = self._logs.get(partition, {}).values()
        return [log for log in logs if not (log.dropped or log.stopped or log.source in self.paused)]

    def lag(self) -> dict[str, tuple[int, int]]:
        """Origin -> (offset after what was handed over, end of the log when the broker last told; -1: unknown)."""
        return {log.origin: (log.position or 0, log.high_watermark) for log in self.logs()}

    def caught_up(self) -> bool:
        """Everything that the brokers had, when they last told, has been handed over."""
        logs = list(self.logs())
        return bool(logs) and all(log.caught_up for log in logs)

    # What the fetcher asks.

    def topics(self) -> set[str]:
        """Topics that the fetcher is to know about."""
        return self._subscription.names

    def wants_all_topics(self) -> bool:
        """Whether it is to look for others, too."""
        return self._subscription.has_patterns

    def logs(self) -> Iterable[Log]:
        """All that are read now."""
        for logs in self._logs.values():
            yield from logs.values()

    def arrived(self, log: Log) -> None:
        """The buffer of `log` has something new."""
        self._on_ready(log.owner)

    def reconcile(self, topics: dict[str, Topic]) -> None:
        """Make the logs that are missing, move those whose leader changed, stop those whose topic is another one."""
        self._topics = topics
        self._matched = self._subscription.match(topics)
        for partition, positions in self._assigned.items():
            if self._may_begin(partition):
                for topic, plan in self._matched:
                    self._reconcile_partition(partition, positions, plan, topic)
                self._note_vanished(partition, positions)
                self._mark_begun(partition, positions)

    def time_of(self, log: Log) -> int | None:
        """See `Beginnings`."""
        return self._beginnings.time_of(log)

    def resolve(self, log: Log, extent: LogExtent, at: int | None) -> None:
        """See `Beginnings`."""
        self._beginnings.resolve(log, extent, at)

    # Parts of the above.

    def _know_more(self) -> None:
        if self._topics is not None:
            self.reconcile(self._topics)
        self._fetcher.wake()

    def _may_begin(self, partition: int) -> bool:
        """Whether what the store says of the partition can be believed: see `PriorWork`."""
        if self._prior is None:
            return True
        places = [
            (topic.name, number)
            for topic, _ in self._matched
            for number in topic.leaders
            if number % self._partitions == partition
        ]
        lost = self._prior.of(partition, places)
        if not lost:
            self._problems.forget(f"state of {partition}")
            return not self._prior.is_open(partition)
        self._prior.recheck(partition)
        reason = lost_because(self._prior.group, self._address, lost)
        sentence = f"There is no state of partition {partition}, but {reason}."
        if self._problems.tell("state_lost", f"state of {partition}", sentence):
            logger.error("state_lost", partition=partition, group=self._prior.group, places=len(lost))
        return False

    def _reconcile_partition(self, partition: int, positions: dict[str, str], plan: SourcePlan, topic: Topic) -> None:
        mine = self._logs[partition]
        numbers = [number for number in sorted(topic.leaders) if number % self._partitions == partition]
        origins = {number: origin_of(plan, topic.name, number) for number in numbers}
        known = [number for number in numbers if origins[number] in positions or origins[number] in mine]
        for number in numbers:
            log = mine.get(origins[number])
            if log is None:
                position = positions.get(origins[number])
                log = Log(
                    source=plan.index,
                    origin=origins[number],
                    topic=topic.name,
                    number=number,
                    owner=partition,
                    topic_id=topic.id,
                    leader=-1,
                    # One that has appeared since: nothing of it may be skipped, and what its keys have in older
                    # ones of the topic comes first.
                    from_start=position is None and (bool(known) or self._has_begun(partition, positions, plan)),
                )
                mine[log.origin] = log
                if position is not None and self._is_same_topic(log, topic_id_of(position)):
                    log.start_at(offset_of(position))
                elif log.from_start:
                    log.behind = [Predecessor(mine[origins[older]]) for older in known]
            elif not log.stopped and not self._is_same_topic(log, log.topic_id, topic.id):
                continue
            log.leader = topic.leaders[number]

    def _has_begun(self, partition: int, positions: Mapping[str, str], plan: SourcePlan) -> bool:
        return (partition, plan.index) in self._begun or begun_mark(plan) in positions

    def _due_marks(self, partition: int) -> list[Records]:
        """Marks of sources whose logs all have a position by now: kept alone, it would make them new ones."""
        marks = self._marks.get(partition)
        if not marks:
            return []
        logs = self._logs.get(partition, {}).values()
        undecided = {log.source for log in logs if log.position is None or log.announce}
        self._marks[partition] = [mark for mark in marks if mark.source in undecided]
        return [mark for mark in marks if mark.source not in undecided]

    def _mark_begun(self, partition: int, positions: Mapping[str, str]) -> None:
        """Where `start` is the end, keep that it has been asked once: what appears later is read from its start."""
        for plan in self._subscription.plans():
            if (partition, plan.index) not in self._begun:
                self._begun.add((partition, plan.index))
                if plan.source.start == "latest" and begun_mark(plan) not in positions:
                    mark = Records(plan.index, begun_mark(plan), [], [], [], [], after="begun")
                    self._marks[partition].append(mark)
                    self._on_ready(partition)

    def _note_vanished(self, partition: int, positions: Mapping[str, str]) -> None:
        """Name topics that a pattern matched and that are gone, unless all they had was read or may be missed."""
        by_name = {plan.name: plan for plan in self._subscription.patterns()}
        if not by_name:
            return
        present = {topic.name for topic, _ in self._matched}
        for log in self._logs[partition].values():
            if log.topic in present:
                self._problems.solved("topic_gone", log.origin)
            elif not log.stopped and log.origin.partition("/")[0] in by_name:
                log.leader = -1
                self._beginnings.vanished(log)
        for origin, position in positions.items():
            name, _, rest = origin.partition("/")
            topic, _, number = rest.rpartition("/")
            plan = by_name.get(name)
            if plan is not None and topic and topic not in present and origin not in self._logs[partition]:
                gone = Log(
                    source=plan.index, origin=origin, topic=topic, number=int(number), owner=partition,
                    topic_id=topic_id_of(position), leader=-1,
                )  # fmt: skip
                gone.start_at(offset_of(position))
                self._logs[partition][origin] = gone
                self._beginnings.vanished(gone)

    def _is_same_topic(self, log: Log, kept: str | None, now: str | None = None) -> bool:
        now = now or log.topic_id
        if kept is None or now is None or kept == now:
            return True
        self._beginnings.lost(
            log,
            f"The topic {log.topic!r} was deleted and made again: its state is as of another log. "
            "Remove the workflow's state, or bring the old topic back.",
        )
        return False

    def _corrupt(self, log: Log, error: CorruptBatch) -> None:
        log.not_before = self._clock() + _CORRUPT_SECONDS
        sentence = f"{log.origin}: {error}. Headrace reads it again every second."
        if self._problems.tell(error.word, log.origin, sentence):
            logger.error(error.word, origin=log.origin, offset=error.offset, cause=error.cause)

    def _drop(self, partition: int) -> None:
        self._marks.pop(partition, None)
        self._begun = {(owner, source) for owner, source in self._begun if owner != partition}
        for log in self._logs.pop(partition, {}).values():
            log.dropped = True
            log.pieces.clear()
            self._problems.forget(log.origin)
            self._problems.forget(f"fetch {log.origin}")
        if self._prior is not None:
            self._prior.forget(partition)
            self._problems.forget(f"state of {partition}")
