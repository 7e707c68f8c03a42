"""Tells a workflow that never ran from one whose store was lost or mistaken: by what its consumer group was told.

Without this, a worker that finds no state would quietly read all topics again from their start, and all outputs
would leave once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection, NamesClusters, by_cluster
from headrace.sources.kafka_group import Place, group_of, group_offsets
from headrace.sources.kafka_subscription import reads
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import SourcePlan

logger = structlog.get_logger(__name__)

_AGAIN = 1.0
"""Seconds until a cluster that did not answer is asked again."""
_RECHECK = 10.0
"""Seconds until a partition that must not begin is asked for again: somebody may have removed the group."""


class StateLost(HeadraceError):
    """The workflow has processed events, says its consumer group, but the store knows nothing of it.

    Attributes:
        workflow: Its name.
        group: The consumer group.
        address: The Kafka cluster's.
        places: Topic partitions that it has read, and how far.
    """

    def __init__(self, workflow: str, group: str, address: str, places: Mapping[Place, int]) -> None:
        self.workflow = workflow
        self.group = group
        self.address = address
        self.places = dict(places)
        super().__init__(f"{workflow} has no state in this store, but {lost_because(group, address, places)}")

    def __reduce__(self) -> tuple[type[StateLost], tuple[str, str, str, dict[Place, int]]]:
        return StateLost, (self.workflow, self.group, self.address, self.places)


def lost_because(group: str, address: str, places: Mapping[Place, int]) -> str:
    """What speaks against beginning anew, and the cure."""
    (topic, number), offset = min(places.items())
    more = f" and of {len(places) - 1} more topic partitions" if len(places) > 1 else ""
    return (
        f"the consumer group {group} on Kafka at {address} has positions of it ({topic}/{number}: offset {offset}"
        f"{more}): this is another store, or it was emptied. Give it the right store, or restore it. To process all"
        " events again, with all their outputs, begin with --start-over, or delete the group"
    )


async def refuse_lost_state(workflow: str, sources: Sequence[SourcePlan], where: NamesClusters) -> None:
    """For whoever starts a workflow that the store does not know.

    Args:
        workflow: Its name.
        sources: Plans of all its sources.
        where: The deployment.

    Raises:
        StateLost: It has run before.
        ClusterUnavailable: A cluster does not answer now; ask again.
    """
    ports = [plan.source for plan in sources if plan.source.kind == "kafka"]
    for connection, mine in by_cluster(ports, lambda port: port, where):
        group = group_of(workflow, connection)
        told = await group_offsets(connection, group) if group else {}
        places = {place: offset for place, offset in told.items() if any(reads(port, place[0]) for port in mine)}
        if group and places:
            raise StateLost(workflow, group, connection.address, places)


class PriorWork:
    """The same for a worker's reader: partitions that were assigned without any position wait for an answer.

    Args:
        group: The consumer group.
        connection: Its cluster.
        on_known: Called when there is an answer.
    """

    def __init__(self, group: str, connection: KafkaConnection, on_known: Callable[[], None]) -> None:
        self.group = group
        self._connection = connection
        self._on_known = on_known
        self._asked: set[int] = set()
        self._known: dict[int, Mapping[Place, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._rechecks: dict[int, asyncio.TimerHandle] = {}

    def ask(self, partition: int) -> None:
        """The store has nothing of this partition: find out whether it ever had."""
        self._asked.add(partition)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask(), name="kafka-prior-work")

    def recheck(self, partition: int) -> None:
        """The answer was that it must not begin: ask again in a while."""
        if partition not in self._rechecks:
            loop = asyncio.get_running_loop()
            self._rechecks[partition] = loop.call_later(_RECHECK, self._ask_again, partition)

    def _ask_again(self, partition: int) -> None:
        del self._rechecks[partition]
        if self._known.pop(partition, None) is not None:
            self.ask(partition)

    def forget(self, partition: int) -> None:
        """It is no concern any more."""
        self._asked.discard(partition)
        self._known.pop(partition, None)
        if (recheck := self._rechecks.pop(partition, None)) is not None:
            recheck.cancel()

    def is_open(self, partition: int) -> bool:
        """Whether it must wait for the answer."""
        return partition in self._asked and partition not in self._known

    def of(self, partition: int, places: Iterable[Place]) -> dict[Place, int]:
        """Which of these topic partitions were read, and how far."""
        known = self._known.get(partition, {})
        return {place: known[place] for place in places if place in known}

    async def close(self) -> None:
        """Stop asking; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _ask(self) -> None:
        while open_now := self._asked - self._known.keys():
            try:
                told = await group_offsets(self._connection, self.group)
            except ClusterUnavailable as error:
                logger.info("kafka_group_unknown", group=self.group, reason=error.cause)
                await asyncio.sleep(_AGAIN)
            else:
                self._known.update(dict.fromkeys(open_now & self._asked, told))
                self._on_known()
