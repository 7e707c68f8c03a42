"""Where in a topic a person's word lies: its start, its end, a time, an offset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from aiokafka import errors

from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_extent import LogExtent, log_extents, offsets_from
from headrace.sources.kafka_log import position_of
from headrace.sources.kafka_metadata import describe_topics

Moment: TypeAlias = Literal["earliest", "latest"] | datetime


class Span(NamedTuple):
    """One topic partition: what it has, and the offset that was asked for."""

    topic_id: str | None
    extent: LogExtent
    offset: int

    @property
    def position(self) -> str:
        """The offset as it is kept with the states."""
        return position_of(self.offset, self.topic_id)


async def spans_of(connection: KafkaConnection, topics: set[str], moment: Moment) -> dict[tuple[str, int], Span]:
    """For each topic partition of these topics, as far as they exist, where a moment lies in it.

    A time is that of the first record with this timestamp or a later one; where there is none, the end.

    Raises:
        ClusterUnavailable: The cluster can't say it now.
    """
    client = await connection.connect()
    try:
        known = await describe_topics(client, topics)
        led: dict[int, set[tuple[str, int]]] = defaultdict(set)
        for topic in known.values():
            for number, leader in topic.leaders.items():
                led[leader].add((topic.name, number))
        found: dict[tuple[str, int], Span] = {}
        for leader, wanted in led.items():
            extents = await log_extents(client, leader, wanted)
            times: Mapping[tuple[str, int], int | None] = {}
            if isinstance(moment, datetime):
                asked = round(moment.timestamp() * 1000)
                times = await offsets_from(client, leader, dict.fromkeys(wanted, asked))
            for place in wanted:
                if place not in extents:
                    raise errors.LeaderNotAvailableError(f"{place[0]}/{place[1]} has no leader that answers")
                extent = extents[place]
                found[place] = Span(known[place[0]].id, extent, _offset(extent, moment, times.get(place)))
        return found
    except (errors.KafkaError, OSError, TimeoutError) as error:
        raise connection.unavailable(error) from error
    finally:
        await client.close()


def _offset(extent: LogExtent, moment: Moment, at: int | None) -> int:
    if moment == "earliest":
        return extent.first
    if moment == "latest" or at is None:
        return extent.stable
    return min(max(at, extent.first), extent.stable)
