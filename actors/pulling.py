"""What the next epoch of a partition is made of. Requests go before what nobody waits for, and by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from headrace.actors.linger import Linger
from headrace.actors.shared import Shared
from headrace.workflows.keyspace import INBOX
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records

IN_FLIGHT: Final = 1
"""Epochs of a partition beside one of requests alone, while requests come: commits are made in order."""


class Pulling:
    """Pulls records for a partition's driver, which is told what to begin. Used from the worker's loop only.

    An epoch of requests alone is short, so is its commit, and one more of them may be in flight than of others. But
    the next epoch is one for all sources, as `Feeds.pull` shares it out: none of them starves. Where batch nodes wait
    for each other's events, requests do as all others.

    Args:
        number: Of the partition.
        shared: What all partitions of the worker have in common.
        wake: Has the driver look again.
    """

    def __init__(self, number: int, shared: Shared, wake: Callable[[], None]) -> None:
        self._number = number
        self._shared = shared
        self._wake = wake
        self.drop()

    def drop(self) -> None:
        """The partition is let go of: so is what a batch node lets wait."""
        self._linger = Linger(self._shared.plan)
        self._was_of_requests = False
        """The last epoch was one of requests alone."""
        self._asked = 0
        """Epochs with requests that have begun and are not committed."""

    @property
    def held(self) -> int:
        """Records that a batch node lets wait."""
        return len(self._linger)

    @property
    def urgent(self) -> bool:
        """Somebody may wait for what the partition does next."""
        return self._asked > 0 or self._shared.feed.has_requests(self._number)

    def may_begin(self, core: PartitionCore) -> bool:
        """Whether an epoch may begin: of whatever there is, or of requests alone."""
        return self._may_begin_any(core) or (core.wants_requests and self._requests_next)

    def _may_begin_any(self, core: PartitionCore) -> bool:
        return core.wants_records and (len(core.epochs) < IN_FLIGHT or not self._shared.sizing.hurried)

    @property
    def _requests_next(self) -> bool:
        apart = not (self._linger.delay or self._was_of_requests)
        return apart and self._shared.feed.has_requests(self._number)

    def pull(self, core: PartitionCore, *, only_sent: bool, draining: bool) -> list[Records]:
        """Records for an epoch; [] if there are none, or none may begin.

        Args:
            core: Of the partition; see `may_begin`.
            only_sent: Nothing but what other partitions have sent: outputs of more could not leave.
            draining: What waits is not to wait any longer.
        """
        feed, sizing, linger = self._shared.feed, self._shared.sizing, self._linger
        limit = sizing.limit if sizing.hurried else sizing.limit * core.larger
        if only_sent:
            batches = feed.pull_sent(self._number, limit) if self._may_begin_any(core) else []
        elif self._requests_next:
            self._was_of_requests = True
            return feed.pull_requests(self._number, limit)
        else:
            self._was_of_requests = False
            batches = feed.pull(self._number, limit)
        if not linger.delay:
            return batches
        linger.add(batches)
        wait = linger.remaining()
        if wait > 0 and not draining:
            asyncio.get_running_loop().call_later(wait, self._wake)
            return []
        return linger.take()

    @property
    def waits(self) -> bool:
        """A batch node lets some wait."""
        return self._linger.remaining() > 0

    def begun(self, batches: Sequence[Records]) -> None:
        """An epoch of these begins."""
        if any(records.origin == INBOX for records in batches):
            self._asked += 1
            self._shared.sizing.hurry()

    def committed(self, positions: Mapping[str, str]) -> None:
        """An epoch with these positions (by origin) is committed."""
        if INBOX in positions:
            self._asked = max(0, self._asked - 1)
