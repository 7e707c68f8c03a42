"""How far logs go now: what has to be handed over before anything that is due at this moment may happen."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest

from headrace.sources.kafka_extent import READ_COMMITTED, by_topic
from headrace.sources.kafka_log import Log

_AGAIN: Final = 0.05
"""Seconds after which it is asked again, while the cluster is away or a log's beginning isn't decided."""
_LOST: Final = (errors.KafkaError, OSError, TimeoutError)


async def ends_now(
    logs: Callable[[], Sequence[Log] | None], client: Callable[[], AIOKafkaClient | None]
) -> dict[Log, int]:
    """Offset behind the last committed record of each log, as its broker says now; waits for those that don't answer.

    Args:
        logs: Those that are read; None: they aren't known yet.
        client: Connected to the cluster; None: it is away.
    """
    while True:
        found, connected = logs(), client()
        if found is not None and connected is not None and all(log.fetch_offset is not None for log in found):
            try:
                ends = await _ask(connected, found)
            except _LOST:
                ends = {}
            if len(ends) == len(found):
                return ends
        await asyncio.sleep(_AGAIN)


async def _ask(client: AIOKafkaClient, logs: Sequence[Log]) -> dict[Log, int]:
    by_node: dict[int, list[Log]] = defaultdict(list)
    for log in logs:
        by_node[log.leader].append(log)
    ends: dict[Log, int] = {}
    for node, led in by_node.items():
        if node < 0:
            continue
        places = {(log.topic, log.number): log for log in led}
        asked = by_topic((log.topic, (log.number, log.fetch_offset or 0, 1)) for log in led)
        # By another connection than the fetches': a broker answers one after the other, and holds those a while.
        request = FetchRequest(1, 0, 1, READ_COMMITTED, asked)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        for topic, partitions in answer.topics:
            for number, code, high, *rest in partitions:
                if errors.for_code(code) is errors.NoError:
                    ends[places[topic, number]] = rest[0] if rest and rest[0] >= 0 else high
    return ends
