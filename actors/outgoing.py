"""The way out of a partition, in one stay of it: from the commit by the relay to the trimming of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from headrace.actors.burials import Burials
from headrace.actors.outbox_size import OutboxSize
from headrace.actors.shared import Shared
from headrace.actors.undertakings import Undertakings, until_available
from headrace.sources.outlet import Refused
from headrace.workflows.commit import Answer, Head, Output
from headrace.workflows.partition import PartitionCore
from headrace.workflows.saving import Save

_OUTBOX_AT_ONCE: Final = 5_000


class Outgoing:
    """Outputs of a partition that a worker owns; the `lanes.Origin` of the relay. Used from the worker's loop only.

    Args:
        core: The partition.
        head: As it was acquired.
        shared: Relay and store.
        under_way: Where its tasks live: they end with the stay.
        wake: Called when the partition may go on.
        on_refused: Called when the store says that it has another owner, or another history.
    """

    def __init__(
        self,
        core: PartitionCore,
        head: Head,
        *,
        shared: Shared,
        under_way: Undertakings,
        wake: Callable[[], None],
        on_refused: Callable[[Answer], None],
    ) -> None:
        self.number = core.partition
        self.owner = core.owner
        self._core = core
        self._shared = shared
        self._wake = wake
        self._on_refused = on_refused
        self._burials = Burials(head.counters)
        self._delivered = self._trimmed = 0
        """Sequence of the last output that has left, and that the outbox has forgotten."""
        self._outbox = OutboxSize()
        self._resending = True
        self._dropped = False
        shared.relay.stay(self, head.outbox)
        under_way.spawn(self._resend())

    @property
    def takes_more(self) -> bool:
        """What new events put out could leave."""
        return not (self._resending or self._shared.relay.full or self._outbox.full)

    @property
    def trouble(self) -> str | None:
        """Why the partition takes no new events, if its outbox is full."""
        if not self._outbox.full:
            return None
        return (
            f"partition {self.number} takes no new events: {self._outbox.outputs:,} outputs ({self._outbox.bytes:,}"
            " bytes) lie in its outbox, as the first of them can't leave. See `relay_blocked`"
        )

    @property
    def takes_sent(self) -> bool:
        """What events that other partitions have sent put out could leave."""
        return not self._resending and not self._shared.relay.shut

    @property
    def settled(self) -> bool:
        """Everything has left that does not wait for another partition: those may be about to stop as well."""
        return not self._resending and not self._shared.relay.waiting(self.number, outer=True)

    def saved(self, save: Save) -> None:
        """This was committed, and is durable."""
        if save.commit.outputs:
            self._push(save.first_output, save.commit.outputs)
        self._burials.saved(save.commit.counters)

    def _push(self, first: int, outputs: Sequence[Output]) -> None:
        size = self._shared.relay.push(self, first, outputs)
        self._outbox.add(first, len(outputs), size)

    def drop(self) -> None:
        """The partition is another owner's, or its history is no more."""
        self._dropped = True
        self._burials.drop()
        self._shared.relay.drop(self)

    async def confirm(self) -> bool:
        """Whether the store still says that the partition is ours."""
        if self._dropped:
            return False
        head = await self._shared.store.head(self.number)
        is_ours = head.owner == self._core.owner
        if not is_ours and not self._dropped:
            self._on_refused(Answer.FENCED)
        return is_ours and not self._dropped

    async def delivered(self, through: int) -> None:
        """Outputs have left."""
        self._shared.activity.done()
        self._delivered = max(self._delivered, through)
        await self.trim()
        self._wake()

    async def trim(self) -> None:
        """Take out of the outbox what has left, if anything is still to be taken out.

        Raises:
            StoreUnavailable: To be asked again: after a crash, what is still there is sent again.
        """
        through = self._delivered
        if through > self._trimmed and not self._dropped:
            answer = await self._shared.store.trim_outbox(self.number, self._core.owner, through)
            if answer is Answer.APPLIED:
                self._trimmed = max(self._trimmed, through)
                self._outbox.trim(self._trimmed)
            elif not self._dropped:
                self._on_refused(answer)

    async def refused(self, rows: Sequence[tuple[int, Refused]], outlet: str) -> bool:
        """Make dead letters of what an outlet will never take."""
        if self._dropped:
            return False
        burial = self._burials.begin(rows, outlet, self._core.plan, self._shared.clock.now_ms())
        if burial is None:
            return True
        self._core.bury(burial.letters, burial.mark, self._shared.clock.now_ms())
        self._wake()
        return await burial.committed

    async def _resend(self) -> None:
        """What an owner before us committed and may not have sent, goes first; no faster than it leaves."""
        after = 0
        while True:
            await self._shared.relay.room()
            ask = partial(self._shared.store.outbox, self.number, after, _OUTBOX_AT_ONCE)
            chunks = await until_available(ask, self._shared.on_problem)
            for first, outputs in chunks:
                self._push(first, outputs)
                after = first + len(outputs) - 1
            if not chunks:
                break
        self._resending = False
        self._wake()
