"""Whether a workflow can go on from states that another version of it has left: looked at run by run, pure.

Nothing is written: migrations run on copies, and what they make is decoded and dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from . import pending_review as pending
from .errors import HeadraceError
from .plan import Plan, StateCodec
from .program import node_field
from .runs import RUNNING, SHARED_FIELD, STATUS_FIELD
from .state_versions import StateUnread

SHARED_NAME: Final = "@run"
"""What the state that a run's nodes share is called where states are named by their nodes."""
_NODE: Final = node_field("")
_SHOWN: Final = 12
_KINDS: Final = 1000
"""Different mistakes that are kept; states with more of them are counted with the last."""
_CURE: Final = (
    'A node that was renamed: renamed_from="its old name". A state of another form: migrations={1: function}, or'
    " defaults for new fields. To begin anew without these states, for good: "
)
_PENDING_CURE: Final = (
    'A wait, or a node with timers: keep it until no run needs it; if it was renamed, renamed_from="its old name". Or'
    " end such runs before, with headrace runs terminate. To let runs go on without: "
)


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """States that another version can't read, all for one reason."""

    run: str
    """Key of the first run that was found."""
    field: str
    """Of the run's hash: `node:<name>` or `state`."""
    reason: str
    """With the path of the field that does not fit."""
    count: int = 1
    """Runs."""

    @property
    def sentence(self) -> str:
        """Which state, and why, for people."""
        what = "shared state" if self.field == SHARED_FIELD else f"state of {self.field.removeprefix(_NODE)}"
        others = "" if self.count == 1 else f" (and of {_count(self.count - 1, 'more run')})"
        return f"the {what} of run {self.run!r}{others} does not fit: {self.reason}"


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """States that another version has no place for, all of one node; or runs at a wait, or with timers of a node."""

    field: str
    """Of the runs' hashes: `node:<name>` or `state`; or `@wait:<name>`, `@timers:<node>`."""
    why: str
    """`is gone`, ..."""
    count: int
    """Runs."""

    @property
    def sentence(self) -> str:
        """Which states, and why, for people."""
        if pending.is_pending(self.field):
            stand = " stands" if self.count == 1 else " stand"
            runs = _count(self.count, "run") + (stand if self.field.startswith(pending.WAIT_NAME) else "")
            return pending.sentence_of(self.field, self.why, runs)
        name = "the shared state" if self.field == SHARED_FIELD else self.field.removeprefix(_NODE)
        return f"{name} had states, in {_count(self.count, 'run')}, and {self.why}"


class StatesLost(HeadraceError):
    """A new version has no place for states that the store has, or can't read them.

    Attributes:
        workflow: Its name.
        orphans: States without a place, by node.
        misfits: States that the new version can't read, by reason.
    """

    def __init__(self, workflow: str, orphans: Sequence[Orphan], misfits: Sequence[Misfit]) -> None:
        self.workflow, self.orphans, self.misfits = workflow, list(orphans), list(misfits)
        self.sentences = [row.sentence for row in orphans] + [row.sentence for row in misfits]
        """Of each kind: which states, and why."""
        fields = [row.field for row in orphans] + [row.field for row in misfits]
        self.names = list(dict.fromkeys(map(lost_name, fields)))
        """What to let go, so that it can start: see `lost_name`."""
        lines = [f"  {sentence}" for sentence in self.sentences]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more kinds"]
        states = any(not pending.is_pending(name) for name in self.names)
        what = "states" if states else "what runs wait for"
        head = f"The new version of {workflow} would lose {what}; nothing was changed:"
        cures = []
        for text, is_pending in ((_CURE, False), (_PENDING_CURE, True)):
            names = [name for name in self.names if pending.is_pending(name) is is_pending]
            if names:
                cures.append(text + " ".join(f"--drop-state {name}" for name in names))
        super().__init__("\n".join([head, *lines, *cures]))

    def __reduce__(self) -> tuple[type[StatesLost], tuple[str, list[Orphan], list[Misfit]]]:
        return StatesLost, (self.workflow, self.orphans, self.misfits)


def lost_name(field: str) -> str:
    """What a field's state is called when it is to be dropped: its node's name, or `@run`.

    What a run has before it is called as it is there: `@wait:<name>`, `@timers:<node>`.
    """
    return SHARED_NAME if field == SHARED_FIELD else field.removeprefix(_NODE)


def renames_of(plan: Plan) -> dict[str, str]:
    """Field with a former name -> field with the name of today, of all nodes with states."""
    return {
        node_field(name): node_field(node.name)
        for node in plan.nodes
        if node.state is not None
        for name in node.renamed_from
    }


def forgotten_renames(before: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """Renames of the version before (`renames_of`) that this one does not know.

    Runs that had no event since have their state under the old name: it has to be moved before this version runs.
    """
    known = renames_of(plan)
    return {old: new for old, new in before.items() if known.get(old) != new}


def moves_in(fields: Mapping[str, bytes], renames: Mapping[str, str]) -> dict[str, str]:
    """Of one run: field -> field to which its state is to be moved."""
    return {old: new for old, new in renames.items() if fields.get(old) and not fields.get(new)}


class Lost(NamedTuple):
    """One state of one run that would be lost."""

    name: str
    """See `lost_name`."""
    field: str
    """Of the run's hash, where it lies; of what a run has before it, the name again."""


class Readied(NamedTuple):
    """What is to be done to one run before another version may run on it."""

    dropped: list[str]
    """Fields whose states go."""
    moves: dict[str, str]
    """Field -> field to which its state goes."""
    marks: list[str]
    """Fields from which a state has gone elsewhere before; they go, too."""
    writes: dict[str, bytes]
    """Fields that are to have something else: the wait, or timers, that were to be let go are not in there."""


class StateReview:
    """Looks at the runs of a workflow, one after the other, and collects what would be lost.

    Args:
        plan: The version that is to run on their states.
        renames: See `forgotten_renames`.
    """

    def __init__(self, plan: Plan, renames: Mapping[str, str] | None = None) -> None:
        self.workflow, self._plan = plan.name, plan
        self.runs = 0
        """Running ones that were looked at; others are not run on."""
        self._renames = renames or {}
        self._codecs: dict[str, StateCodec] = {
            node_field(node.name): node.state for node in plan.nodes if node.state is not None
        }
        self._stateless = {node_field(node.name) for node in plan.nodes if node.state is None}
        self._former = [
            (node_field(node.name), [node_field(name) for name in node.renamed_from])
            for node in plan.nodes
            if node.state is not None and node.renamed_from
        ]
        if plan.run_state is not None:
            self._codecs[SHARED_FIELD] = plan.run_state
        self._orphans: dict[tuple[str, str], int] = {}
        self._misfits: dict[tuple[str, str], Misfit] = {}

    @property
    def orphans(self) -> list[Orphan]:
        """States without a place, by node."""
        return [Orphan(field=field, why=why, count=count) for (field, why), count in self._orphans.items()]

    @property
    def misfits(self) -> list[Misfit]:
        """States that can't be read, by reason."""
        return list(self._misfits.values())

    @property
    def loses(self) -> bool:
        """Whether anything would be lost."""
        return bool(self._orphans or self._misfits)

    def lost(self, *, besides: Collection[str] = ()) -> StatesLost | None:
        """The error to raise; None where nothing would be lost.

        Args:
            besides: Names (see `lost_name`) of what may be lost.
        """
        orphans = [row for row in self.orphans if lost_name(row.field) not in besides]
        misfits = [row for row in self.misfits if lost_name(row.field) not in besides]
        return StatesLost(self.workflow, orphans, misfits) if orphans or misfits else None

    def look(self, run: str, fields: Mapping[str, bytes]) -> list[Lost]:
        """Look at one run, and return what of it would be lost.

        Args:
            run: Its key.
            fields: All of its hash.
        """
        if not is_running(fields):
            return []
        self.runs += 1
        lies = {name: name for name, blob in fields.items() if blob and _is_state(name)}
        for old, new in moves_in(fields, self._renames).items():
            lies[new] = lies.pop(old)
        lost = []
        for field, why in self._orphans_of(lies):
            self._orphans[field, why] = self._orphans.get((field, why), 0) + 1
            lost.append(Lost(lost_name(field), lies.pop(field)))
        for field, stored in lies.items():
            try:
                self._codecs[field].decode(fields[stored])
            except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                self._misfit(run, field, str(StateUnread.of(error)))
                lost.append(Lost(lost_name(field), stored))
        for name, why in pending.unmet(self._plan, fields):
            self._orphans[name, why] = self._orphans.get((name, why), 0) + 1
            lost.append(Lost(name, name))
        return lost

    def ready(self, run: str, fields: Mapping[str, bytes], drop: Collection[str]) -> Readied:
        """What makes one run ready for the version; may be asked again when it was done half.

        Args:
            run: Its key.
            fields: All of its hash.
            drop: Names (see `lost_name`) of states that go, where they would be lost.
        """
        gone = [lost for lost in self.look(run, fields) if lost.name in drop]
        dropped = [lost.field for lost in gone if not pending.is_pending(lost.name)]
        if not is_running(fields):
            return Readied([], {}, [], {})
        moves = {old: new for old, new in moves_in(fields, self._renames).items() if old not in dropped}
        marks = [
            old
            for old, new in self._renames.items()
            if old in fields and old not in (*dropped, *moves) and fields[old] in (b"", fields.get(new))
        ]
        return Readied(dropped, moves, marks, pending.without(fields, [lost.name for lost in gone]))

    def _orphans_of(self, lies: dict[str, str]) -> list[tuple[str, str]]:
        """States without a place, and why; those of renamed nodes are put to their new names."""
        orphans = {}
        for field, former in self._former:
            for old in former:
                if old not in lies:
                    continue
                if field in lies:
                    orphans[old] = f"{field.removeprefix(_NODE)}, which it became, has its own there"
                else:
                    lies[field] = lies.pop(old)
        for field in lies.keys() - self._codecs.keys() - orphans.keys():
            is_gone = field not in self._stateless and field != SHARED_FIELD
            orphans[field] = "is gone" if is_gone else "there is none now"
        return sorted(orphans.items())

    def _misfit(self, run: str, field: str, reason: str) -> None:
        found = self._misfits.get((field, reason))
        if found is None and len(self._misfits) >= _KINDS:
            (field, reason), found = next(reversed(self._misfits.items()))
        if found is None:
            self._misfits[field, reason] = Misfit(run=run, field=field, reason=reason)
        else:
            self._misfits[field, reason] = msgspec.structs.replace(found, count=found.count + 1)


def is_running(fields: Mapping[str, bytes]) -> bool:
    """Whether a run goes on: one that has ended is only read, and never by nodes."""
    return fields.get(STATUS_FIELD, RUNNING.encode()) == RUNNING.encode()


def _is_state(field: str) -> bool:
    return field == SHARED_FIELD or field.startswith(_NODE)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
