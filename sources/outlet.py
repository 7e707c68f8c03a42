"""The contract between a worker's relay and what carries outputs away: one outlet for each place they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.workflows.commit import Output


@dataclass(frozen=True, slots=True)
class Portion:
    """Outputs of one partition for one outlet, in order."""

    outputs: Sequence[Output]
    through: int
    """Sequence in the partition's outbox up to which, once these are delivered, all that is for this outlet is."""
    owner: str = ""
    """Token by which the worker has the partition."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An output that its sink will never take: for the dead letters."""

    output: Output
    error: str
    """For people."""


class Outlet(Protocol):
    """Carries outputs to one Kafka cluster, to inner streams, or to one user's sink.

    All methods are called from the worker's event loop. The relay never has two calls of `begin` or `send` for the
    same partition at a time; for an outlet that is not `transactional`, never two calls at all.
    """

    @property
    def name(self) -> str:
        """For people and logs, unique in the worker: `Kafka at localhost:9092`."""
        ...

    @property
    def transactional(self) -> bool:
        """Each portion is delivered whole or not at all, and remembered at the sink.

        Then partitions are sent for one by one, several at a time. Otherwise all that waits goes together.
        """
        ...

    async def open(self) -> None:
        """Begin to connect; called once, before anything else. Returns at once, whatever is away."""

    async def begin(self, partition: int, last: int) -> int:
        """A stay of `partition` begins here; called before the first `send` of it, and again after one that failed.

        Nothing of an earlier owner may be delivered from here on, where the sink can see to that.

        Args:
            partition: Whose outputs will come.
            last: Sequence of the last output that its outbox had when this worker acquired it.

        Returns:
            Sequence up to which the sink has all of them already; 0 where that can't be known.

        Raises:
            HeadraceError: It can't be said now; the relay asks again.
        """
        ...

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        """Deliver all of them (partition -> portion): they are durable at their origin.

        Returns:
            Those refused for good. Of a transactional outlet nothing was delivered then: the relay sends the
            rest again once the dead letters are committed. Otherwise all others were delivered.

        Raises:
            HeadraceError: Not now; what was given may have arrived in part. The relay sends all of it again.
        """
        ...

    async def drop(self, partition: int) -> None:
        """This worker has `partition` no longer; forget what is held for it."""

    async def close(self) -> None:
        """Disconnect; idempotent."""
