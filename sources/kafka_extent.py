"""From where to where a broker has the logs that it leads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

READ_COMMITTED: Final = 1
READ_UNCOMMITTED: Final = 0
_EARLIEST: Final = -2
_FIELDS_OF_VERSION_4: Final = 3


class LogExtent(NamedTuple):
    """Offsets of one topic partition."""

    first: int
    """The oldest record that is still there."""
    stable: int
    """End for readers of committed records: before the first transaction that is still open."""
    high: int
    """High watermark: behind the last record that all replicas in sync have."""


async def log_extents(
    client: AIOKafkaClient, node: int, wanted: Set[tuple[str, int]]
) -> dict[tuple[str, int], LogExtent]:
    """Extents by (topic, topic partition); those that this broker does not lead (any more) are left out.

    Raises:
        KafkaError: The broker does not answer.
    """
    asked = by_topic((topic, (number, _EARLIEST)) for topic, number in wanted)
    answer = await client.send(node, OffsetRequest(-1, READ_COMMITTED, asked))
    firsts = {
        (topic, number): rest[-1]
        for topic, partitions in answer.topics
        for number, code, *rest in partitions
        if errors.for_code(code) is errors.NoError
    }
    if not firsts:
        return {}
    # The end is taken from a fetch: what some brokers (Tansu) answer when asked for it is wrong. (And it
    # answers nothing at all to a fetch that does not want to wait.)
    fetch = by_topic((topic, (number, first, 1)) for (topic, number), first in firsts.items())
    answer = await client.send(node, FetchRequest(1, 0, 1, READ_COMMITTED, fetch))
    return {
        (topic, number): LogExtent(firsts[topic, number], rest[0] if rest and rest[0] >= 0 else high, high)
        for topic, partitions in answer.topics
        for number, code, high, *rest in partitions
        if errors.for_code(code) is errors.NoError
    }


async def offsets_from(
    client: AIOKafkaClient, node: int, times: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int | None]:
    """First offset with a timestamp at or after a time; None: the log has none so late.

    Args:
        client: Connected.
        node: The broker that leads these topic partitions; others are left out of the answer.
        times: By (topic, topic partition), in milliseconds since 1970 UTC.

    Raises:
        KafkaError: The broker does not answer.
    """
    if not times:
        return {}
    asked = by_topic((topic, (number, at)) for (topic, number), at in times.items())
    answer = await client.send(node, OffsetRequest(-1, READ_COMMITTED, asked))
    return {
        (topic, number): rest[-1] if rest[-1] >= 0 else None
        for topic, partitions in answer.topics
        for number, code, *rest in partitions
        if errors.for_code(code) is errors.NoError
    }


def aborted_of(rest: Sequence[Any]) -> Sequence[tuple[int, int]]:
    """Aborted transactions of one topic partition in a fetch answer.

    Args:
        rest: What follows the high watermark: stable offset, (start of the log,) aborted transactions, ..., records.
    """
    if len(rest) <= 1:
        return ()
    return rest[1 if len(rest) == _FIELDS_OF_VERSION_4 else 2] or ()


def by_topic(items: Iterable[tuple[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Grouped as requests want it: (topic, its items)."""
    grouped: dict[str, list[Any]] = defaultdict(list)
    for topic, item in items:
        grouped[topic].append(item)
    return list(grouped.items())
