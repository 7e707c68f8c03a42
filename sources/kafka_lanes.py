"""Outputs on their way to topic partitions: grouped by key, in batches, each lane in order, with what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import errors

from headrace.sources.kafka_produce import Answer, Appender, Batch, Session, TopicPartition
from headrace.sources.outlet import Refused
from headrace.workflows.commit import Output
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SinkPlan

ID_HEADER: Final = "headrace-id"
"""Record header with the output's id (UTF-8): the same in every repeat."""
BATCH_BYTES: Final = 256 << 10
"""A batch takes no more once it holds so much; a single larger output goes alone.

Buffers of half a region of the broker's heap (1 MiB up to 2 GiB of heap) are collected apart, at a price: batches of
512 KiB cost the broker twice its CPU (measured: `docs/explanation/benchmarks.md`).
"""
_TOPIC_WITHIN: Final = 3.0
"""Seconds that a topic which does not exist is looked for: one just made may not be known everywhere."""
_RETRY_SECONDS: Final = 0.1
_FINAL: Final = frozenset({10, 17, 18, 32, 43, 44, 87})
"""Codes that hold something against the records themselves, which no repeat would change: message or batch
too large, invalid topic, timestamp, format or record, against a policy."""
_MOVED: Final = (
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.UnknownTopicOrPartitionError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    errors.RequestTimedOutError,
    errors.KafkaStorageError,
)
"""To be tried again over the same session, once it is known who leads now."""


class WritesTopic(Protocol):
    """The part of a Kafka sink's settings that its output needs."""

    @property
    def topic(self) -> str:
        """Its name in the cluster."""
        ...


@dataclass(slots=True)
class Lane:
    """Outputs for one topic partition, in order."""

    outputs: list[Output]
    next: int = 0
    """Index of the first that is not done."""
    alone: int = 0
    """Up to this index each goes alone: a batch of them was refused."""

    @property
    def done(self) -> bool:
        """All have been appended or refused."""
        return self.next == len(self.outputs)

    def fill(self, batch: Batch) -> Batch:
        """Put as many of the next ones into `batch` as it takes."""
        append, number = batch.append, 0
        stop = self.next + 1 if self.next < self.alone else len(self.outputs)
        for output in self.outputs[self.next : stop]:
            headers: list[tuple[str, bytes]] = [(ID_HEADER, output.id.encode())] if output.id else []
            if output.headers:
                headers += output.headers
            if append(number, output.time, output.key.encode(), output.data, headers) is None:
                break
            number += 1
        batch.count = number
        return batch

    def refuse(self, count: int, answer: Answer) -> list[Refused]:
        """The broker takes none of the next `count` as they are: find out which, or give up the one."""
        if count > 1:
            self.alone = self.next + count
            return []
        self.next += 1
        return [Refused(self.outputs[self.next - 1], f"{answer.message} (Kafka's error {answer.code})")]


@dataclass(slots=True)
class Shipment:
    """Outputs that are sent together."""

    waiting: dict[TopicPartition, Lane]
    """Lanes that are not done."""
    counts: dict[str, int]
    """Topic -> how many partitions it had when the outputs were grouped."""
    refused: list[Refused] = field(default_factory=list)

    def add(self, place: TopicPartition, lane: Lane, count: int) -> None:
        """One more lane, to a topic of so many partitions."""
        self.waiting[place] = lane
        self.counts[place[0]] = count

    @property
    def left(self) -> list[Output]:
        """What is neither appended nor refused, in order for each key."""
        return [output for lane in self.waiting.values() for output in lane.outputs[lane.next :]]

    async def send(self, appender: Appender) -> set[str]:
        """Append all, a batch for each topic partition at a time.

        Returns:
            Topics that were deleted, or made again with other partitions, under way; what is for them is `left`.

        Raises:
            KafkaError: The session is of no use any more; what was sent may have been appended.
        """
        gone: set[str] = set()
        while self.waiting and not gone:
            gone = await self._round(appender)
        return gone

    async def _round(self, appender: Appender) -> set[str]:
        batches = {place: lane.fill(appender.new_batch()) for place, lane in self.waiting.items()}
        moved: set[str] = set()
        for place, answer in (await appender.append(batches)).items():
            lane = self.waiting[place]
            if answer.error is None:
                lane.next += batches[place].count
            elif answer.code in _FINAL:
                self.refused += lane.refuse(batches[place].count, answer)
            elif answer.error in _MOVED:
                moved.add(place[0])
            else:
                raise answer.error(answer.message)
            if lane.done:
                del self.waiting[place]
        if not moved:
            return set()
        await asyncio.sleep(_RETRY_SECONDS)
        await appender.session.look_up(moved)
        return {topic for topic in moved if appender.session.count(topic) != self.counts[topic]}


class Loading:
    """Groups outputs by the topic partition that they go to, as Kafka's default partitioner does.

    Args:
        sinks: Plans of sinks whose `sink` is a `WritesTopic`.
    """

    def __init__(self, sinks: Sequence[SinkPlan]) -> None:
        self._topics = {plan.index: _topic(plan) for plan in sinks}
        self._missing_until: dict[str, float] = {}

    async def load(self, session: Session, outputs: Sequence[Output]) -> Shipment:
        """A shipment of these outputs; those whose topic does not exist are refused.

        Raises:
            KafkaError: No broker answers.
        """
        sinks = {output.sink for output in outputs}
        topics = {self._topics[sink] for sink in sinks}
        await self._look_up(session, topics)
        counts = {topic: count for topic in topics if (count := session.count(topic))}
        grouped: dict[TopicPartition, list[Output]] = {}
        known: dict[int, dict[str, list[Output]]] = {sink: {} for sink in sinks}
        """By sink and key: there are few, as a portion is of one partition."""
        refused: list[Refused] = []
        for output in outputs:
            listed = known[output.sink].get(output.key)
            if listed is None:
                topic = self._topics[output.sink]
                if topic not in counts:
                    refused.append(Refused(output, f"the topic {topic!r} does not exist"))
                    continue
                place = topic, partition_of(output.key, counts[topic])
                listed = known[output.sink][output.key] = grouped.setdefault(place, [])
            listed.append(output)
        return Shipment({place: Lane(listed) for place, listed in grouped.items()}, counts, refused)

    async def _look_up(self, session: Session, topics: set[str]) -> None:
        """Learn of these topics; one that is missing is waited for, a while, the first time."""
        now = asyncio.get_running_loop().time
        while unknown := topics - session.topics.keys():
            await session.look_up(unknown)
            missing = unknown - session.topics.keys()
            for topic in unknown - missing:
                self._missing_until.pop(topic, None)
            if all(now() > self._missing_until.setdefault(topic, now() + _TOPIC_WITHIN) for topic in missing):
                return
            await asyncio.sleep(_RETRY_SECONDS)


def batch_bytes(sinks: Sequence[SinkPlan]) -> int:
    """What a batch may hold: no more than the smallest message that a sink says it takes."""
    return min([BATCH_BYTES, *(plan.cap for plan in sinks if plan.cap is not None)])


def _topic(plan: SinkPlan) -> str:
    sink: WritesTopic = plan.sink
    return sink.topic
