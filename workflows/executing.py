"""One node of a run, executed out of line: a caller gives it data, and is told what it makes of them.

The request lies in the inbox as any other and is an event of its run: in order with those before it, and with the
state that they have left. It goes to the one node and nowhere on from there, begins no run, stands still nowhere, is
no sign of life of its run, and becomes no dead letter: whatever comes of it is the answer. What the node did to its
state, and what it asked for by its context, is forgotten or, where the caller says so, committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .calls import PAUSED, Executed
from .envelope import RequestAnswer, raw
from .late import LATE
from .records import Reentry
from .runs import latest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .calls import Call, CallResult
    from .dispatch import Dispatch
    from .epoch import Epoch
    from .partition import PartitionCore
    from .records import Records
    from .runs import RunRecord

TRY: Final = "try"
"""Nothing of what the node does is kept."""
COMMIT: Final = "commit"
"""Its states and effects are."""
VERSION: Final = "version"
"""Reason: the workflow has no such node any more, or none that can be executed."""
_MARK: Final = "execute"
WORDS: Final = {
    PAUSED: "the node is paused",
    LATE: "the run had ended before it came",
    VERSION: "this version of the workflow has no such node, or it can't be executed by itself",
}
"""Why nothing was executed."""


class Execution(NamedTuple):
    """What a node is to have out of line."""

    node: int
    """Its index; -1: there is none."""
    commits: bool


def source_of(node: str, *, commit: bool) -> str:
    """What stands for the source in the entry of an inbox: `execute/try/check`. No name of a source has a slash.

    Args:
        node: Name of the node.
        commit: Whether what it does is to be kept.
    """
    return f"{_MARK}/{COMMIT if commit else TRY}/{node}"


def entry_of(source: str) -> Reentry | None:
    """Where the entry of an inbox goes that has this source; None: it is one, not what stands for it."""
    mark, _, rest = source.partition("/")
    mode, slash, node = rest.partition("/")
    if mark != _MARK or not slash or mode not in (TRY, COMMIT):
        return None
    return Reentry(node=node, execute=mode)


def executions_of(epoch: Epoch, slots: Sequence[int]) -> list[tuple[int, bool]] | None:
    """Those among the events of a call: see `Call.executions`."""
    executions = epoch.executions
    return [(index, executions[slot].commits) for index, slot in enumerate(slots) if slot in executions] or None


def closed(call: Call, reason: str) -> list[Executed]:
    """What comes of them where their node gets no events.

    Args:
        call: Which was given up.
        reason: `paused` or `unavailable`.
    """
    error = WORDS.get(reason, "the node's process is away, or has not answered in time")
    return [Executed(index, reason=reason, error=error) for index, _ in call.executions or ()]


class Executing:
    """Has nodes executed out of line, for one partition."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._epochs = 0
        """Those with something of it that are not committed."""

    @property
    def is_near(self) -> bool:
        """Something of it is not committed: runs may be held that nothing but it has come for."""
        return self._epochs > 0

    def concerns(self, key: str) -> bool:
        """Something that is near is for this key: a run of it begins only once an event comes that is its own."""
        return self.is_near and any(
            run is not None and run.key == key
            for epoch in self._core.epochs
            for run in map(epoch.runs.__getitem__, epoch.executions)
        )

    def note(self, epoch: Epoch, records: Records, first: int) -> None:
        """Records have come for a node.

        Args:
            epoch: They are in.
            records: All of one node.
            first: Slot of the first.
        """
        assert records.entry is not None
        node = self._core.plan.node_called(records.entry.node)
        index = -1 if node is None or node.takes < 0 else node.index
        self._epochs += not epoch.executions
        execution = Execution(index, records.entry.execute == COMMIT)
        epoch.executions.update(dict.fromkeys(range(first, first + len(records)), execution))

    @staticmethod
    def there(epoch: Epoch) -> set[int]:
        """Slots of those whose runs were there before the epoch; to be asked before its events begin others."""
        found: set[int] = set()
        for slot in epoch.executions:
            held = epoch.runs[slot]
            run = None if held is None else latest(held)
            if run is not None and not (run.absent or run.ended or (run.fresh and run.busy == 1)):
                found.add(slot)
        return found

    def enter(self, epoch: Epoch, there: Collection[int]) -> None:
        """They go to their nodes, if their runs are there.

        Args:
            epoch: Theirs.
            there: See `there`; other runs must have begun with an event before them.
        """
        core = self._core
        for slot, execution in epoch.executions.items():
            held = epoch.runs[slot]
            if held is None:  # it belongs to another partition
                continue
            run = epoch.runs[slot] = latest(held)
            if run not in epoch.touched:
                epoch.touched.add(run)
                run.busy += 1
            if run.absent or run.ended or not (slot in there or _begins_before(epoch, slot, run)):
                self.too_late(epoch, slot)
            elif execution.node < 0:
                self._refuse(epoch, slot, VERSION)
            elif execution.node in core.dispatcher.paused:
                self._refuse(epoch, slot, PAUSED)
            else:
                core.router.to_node(epoch, (slot, execution.node))

    def too_late(self, epoch: Epoch, slot: int) -> None:
        """The run has ended, and the next one is not what was meant."""
        self._refuse(epoch, slot, LATE)

    def done(self, dispatch: Dispatch, result: CallResult) -> None:
        """A call has brought what came of some."""
        for row in result.executed:
            self._answer(dispatch.epoch, dispatch.slots[row.index], row)

    def committed(self, epoch: Epoch) -> None:
        """An epoch is in the store."""
        self._epochs -= bool(epoch.executions)

    def _refuse(self, epoch: Epoch, slot: int, reason: str) -> None:
        self._answer(epoch, slot, Executed(0, reason=reason, error=WORDS[reason]))

    def _answer(self, epoch: Epoch, slot: int, row: Executed) -> None:
        if row.body:
            answer = RequestAnswer(kind="executed", value=raw(row.body))
        else:
            node = epoch.executions[slot].node
            name = self._core.plan.nodes[node].name if node >= 0 else ""
            tried = row.reason not in WORDS
            answer = RequestAnswer(
                kind="failed", node=name, reason=row.reason, error=row.error, attempts=1 if tried else 0
            )
        epoch.pending.executed[slot] = answer


def _begins_before(epoch: Epoch, slot: int, run: RunRecord) -> bool:
    """The run begins with an event before this one: else what was meant is the run before it, which has ended."""
    return any(epoch.runs[before] is run for before in range(slot) if before not in epoch.executions)
