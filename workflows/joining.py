"""What a join runs: the branches of one source's event are kept until enough of them are there, then it goes on, once.

A join is a node with state, fed by small nodes of its own: a *port* for each branch marks what comes of it, a *loss*
says that nothing will. `join_routes` puts them into the graph, so that each branch of each event is heard of once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.actions import Failure
from headrace.workflows.codec import encode_json
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.suspicion import passing_of

R_co = TypeVar("R_co", covariant=True)

CLOSED: Final = 100
"""Groups of a run that are remembered when something of them might still come: by a dead letter that goes back."""
SIZE: Final = 512 * 1024
"""Bytes of results that the open groups of a run may have; the state of a node may have twice as much."""
NOTHING_CAME: Final = "nothing came of it"


class Joined(msgspec.Struct, Generic[R_co], frozen=True):
    """Data of the event that a join gives: what came of the branches of one source's event.

    Examples:
        >>> joined = Joined((7, None), {"stock": "OSError: no answer"})
        >>> score, stock = joined.results
        >>> joined.failed["stock"]
        'OSError: no answer'
    """

    results: R_co
    """A tuple: what each branch gave, in the order in which `workflow.join` names them. None: the branch has failed, or
    (with `when="any"` or a number) nothing has come of it yet."""
    failed: dict[str, str] = {}
    """Branches that failed: name -> why."""


class JoinArrived(msgspec.Struct, frozen=True):
    """A branch has given something."""

    branch: str
    data: msgspec.Raw


class JoinLost(msgspec.Struct, frozen=True):
    """Branches will give nothing."""

    branches: tuple[str, ...]
    error: str
    stopped: bool
    """Something failed: what is a dead letter may come back."""


class JoinGroup(msgspec.Struct, omit_defaults=True):
    """The branches of one source's event, as far as they have been heard of."""

    results: dict[str, msgspec.Raw] = {}
    failed: dict[str, str] = {}
    fired: bool = False
    stopped: bool = False


class JoinState(msgspec.Struct, omit_defaults=True):
    """What a join keeps of a run."""

    open: dict[str, JoinGroup] = {}
    """By id of the source's event, or of what came to the workflow that is a node; the oldest first."""
    closed: dict[str, bool] = {}
    """Ids of groups that are done, and of which something might still come."""
    size: int = 0
    """Bytes of the results in `open`."""
    branches: list[str] = []
    """Those that the join had when this was written: another version may have others."""


@dataclass(frozen=True, slots=True)
class Port:
    """Feeds one branch into its join."""

    branch: str

    def __call__(self, event: Event[Any], ctx: Context) -> JoinArrived:
        """Whatever comes is the branch's result."""
        return JoinArrived(self.branch, msgspec.Raw(encode_json(event.data)))


@dataclass(frozen=True, slots=True)
class Loss:
    """Tells a join of branches that will give nothing."""

    branches: tuple[str, ...]

    def __call__(self, event: Event[Any], ctx: Context) -> JoinLost:
        """Whatever comes, it is not what the branches were to give."""
        if isinstance(event.data, Failure):
            return JoinLost(self.branches, event.data.error, stopped=True)
        return JoinLost(self.branches, NOTHING_CAME, stopped=False)


@dataclass(frozen=True, slots=True)
class JoinProcess:
    """The `process` of a join."""

    name: str
    branches: tuple[str, ...]
    decoders: Sequence[Callable[[bytes], Any]]
    """Of their results."""
    need: int | None
    """How many of them are enough; None: all are heard of first, whether they failed or not."""
    limit: int
    """Groups of a run that may be open."""

    def __call__(self, event: Event[JoinArrived | JoinLost], ctx: Context[JoinState]) -> list[Joined[Any] | Failure]:
        """One branch, or several that failed, of one source's event."""
        state, root = ctx.state, passing_of(event)
        given = [] if tuple(state.branches) == self.branches else self._adapt(state)
        group = state.open.get(root)
        if group is None:
            if root in state.closed:
                return given
            group = state.open[root] = JoinGroup()
        self._note(state, group, event.data)
        given += self._look(state, root, group)
        while len(state.open) > self.limit or (state.size > SIZE and len(state.open) > 1):
            oldest = next(iter(state.open))
            group = state.open[oldest]
            if not group.fired:
                given.append(self._given_up(group, len(state.open)))
            self._close(state, oldest, remember=True)
        return given

    def left(self, state: JoinState) -> JoinState | None:
        """What is kept when an inner run has ended: of which groups something may still come, too late for them."""
        late = state.closed | {root: True for root, group in state.open.items() if group.stopped}
        if not late:
            return None
        return JoinState(closed=dict.fromkeys(list(late)[-CLOSED:], True), branches=state.branches)

    def _adapt(self, state: JoinState) -> list[Joined[Any] | Failure]:
        """Another version had other branches: nothing comes of new ones for its groups, and old ones count no more."""
        before, given = state.branches, list[Joined[Any] | Failure]()
        state.branches = list(self.branches)
        for root, group in list(state.open.items()):
            for name in before:
                if name not in self.branches:
                    state.size -= len(memoryview(group.results.pop(name, msgspec.Raw())))
                    group.failed.pop(name, None)
            for name in self.branches:
                if name not in before:
                    group.failed[name] = "was no branch of the join when its event came"
            given += self._look(state, root, group)
        return given

    def _look(self, state: JoinState, root: str, group: JoinGroup) -> list[Joined[Any] | Failure]:
        """What a group has come to, if it is enough; one of which nothing more can come is done."""
        given: list[Joined[Any] | Failure] = []
        if not group.fired and (outcome := self._outcome(group)) is not None:
            group.fired = True
            given.append(outcome)
        if len(group.results) + len(group.failed) >= len(self.branches):
            self._close(state, root, remember=group.stopped)
        return given

    @staticmethod
    def _note(state: JoinState, group: JoinGroup, news: JoinArrived | JoinLost) -> None:
        """Each branch is heard of once; what comes later is a dead letter that was sent back."""
        if isinstance(news, JoinArrived):
            if news.branch not in group.results and news.branch not in group.failed:
                group.results[news.branch] = news.data
                state.size += len(memoryview(news.data))
            return
        group.stopped = group.stopped or news.stopped
        for branch in news.branches:
            if branch not in group.results:
                group.failed.setdefault(branch, news.error)

    def _outcome(self, group: JoinGroup) -> Joined[Any] | Failure | None:
        have, failed, count = len(group.results), len(group.failed), len(self.branches)
        if self.need is None:
            return self._joined(group) if have + failed >= count else None
        if have >= self.need:
            return self._joined(group)
        return self._failure(group) if failed > count - self.need else None

    def _joined(self, group: JoinGroup) -> Joined[Any]:
        results: list[Any] = []
        for name, decode in zip(self.branches, self.decoders, strict=True):
            data = group.results.get(name)
            try:
                results.append(None if data is None else decode(bytes(data)))
            except msgspec.DecodeError as error:  # an object that does not fit its own type was given
                results.append(None)
                group.failed[name] = str(error)
        return Joined(tuple(results), dict(group.failed))

    def _failure(self, group: JoinGroup) -> Failure:
        why = "; ".join(f"{name}: {error}" for name, error in group.failed.items())
        error = f"{len(group.failed)} of {len(self.branches)} branches failed, and {self.need} are needed: {why}"
        data = {"results": group.results, "failed": group.failed}
        return Failure(error, "join", self.name, data=msgspec.json.decode(msgspec.json.encode(data)))

    def _given_up(self, group: JoinGroup, count: int) -> Joined[Any] | Failure:
        """There are too many groups: this one is not waited for any longer."""
        for name in self.branches:
            if name not in group.results:
                group.failed.setdefault(name, f"not there yet, and its run has {count} open groups")
        return self._joined(group) if self.need is None else self._failure(group)

    @staticmethod
    def _close(state: JoinState, root: str, *, remember: bool) -> None:
        group = state.open.pop(root)
        state.size -= sum(len(memoryview(data)) for data in group.results.values())
        if remember:
            state.closed[root] = True
            if len(state.closed) > CLOSED:
                del state.closed[next(iter(state.closed))]
