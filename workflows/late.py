"""Events that come after the run of their key has ended, while it is remembered: they begin the next run, or don't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from .commit import DeadLetter
from .records import Reentry
from .runs import RunRecord, latest

if TYPE_CHECKING:
    from .epoch import Epoch
    from .partition import PartitionCore

LatePolicy: TypeAlias = Literal["new-run", "dead-letter", "drop"]
"""What is done with an event of a run that has ended: it begins the next run of the key; it becomes a dead letter, and
begins the next run if it is replayed; or it is dropped, and counted."""
NEW_RUN: Final = "new-run"
LATE: Final = "late"
"""Reason of the dead letters."""


class LateEvents:
    """Turns away late events of sources that say so."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._policies = {source.name: source.late for source in core.plan.sources if source.late != NEW_RUN}

    @property
    def matter(self) -> bool:
        """Some source has a policy of its own."""
        return bool(self._policies)

    def look(self, epoch: Epoch) -> None:
        """Runs may have ended since an epoch was offered: their events belong to the runs that follow, or to none."""
        if not self._core.plan.keyed:
            return
        for first, end, _, targets in epoch.targets:
            messages = bool(targets) and self._core.waiting.is_message(targets[0])
            for slot in range(first, end):
                run = epoch.runs[slot]
                if run is not None and run.ended and not (messages and latest(run).ended):
                    epoch.runs[slot] = self.run_of(epoch, slot, run)

    def run_of(self, epoch: Epoch, slot: int, run: RunRecord) -> RunRecord | None:
        """The run that an event belongs to, now that its run has ended; None: it was turned away.

        Args:
            epoch: Its epoch.
            slot: The event; nothing of it has begun.
            run: Which it was an event of.
        """
        run = latest(run)
        if self._policies and run.ended and not run.forgotten and self._turn_away(epoch, slot):
            return None
        following = epoch.runs[epoch.roots[slot]] = self._core.beginnings.successor(epoch, run)
        return following

    def _turn_away(self, epoch: Epoch, slot: int) -> bool:
        root = epoch.roots[slot]
        if root in epoch.turned_away:
            return True
        policy = self._policies.get(epoch.source(root))
        data, headers, entry = epoch.came(root)
        ticket = epoch.roots_of.get(root)
        if policy is None or (entry is not None and (ticket is None or entry.node)):
            return False  # a dead letter that a person sends back is not late, nor is what is in the midst of a run
        core, now, run = self._core, self._core.router.now, epoch.runs[slot]
        assert run is not None
        epoch.turned_away.add(root)
        core.standing.undo(epoch, root)
        core.standing.gone_on(epoch, [slot, root], now)
        if policy == "drop":
            epoch.dropped += 1
            return True
        letter = DeadLetter(
            id=epoch.event_id(root), key=run.key, source=epoch.source(root), node=None, reason=LATE,
            error=f"the run of its key, number {run.number}, had ended before it came", time=now,
            event_time=epoch.times[root], data=data, headers=headers, reentry=Reentry(),
        )  # fmt: skip
        core.router.dead(epoch, root, (), letter)
        return True
