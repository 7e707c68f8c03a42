"""When a run is ended from outside: the calls of its partition that this waits for, and the run's own.

Commits are made in order, so the end of a run comes behind what was offered before it. Nodes that are `async` are told
at once: the run's calls are cancelled, those of others go on by themselves (see `slow`). A call that does not
return all the same is given up after a moment, as when its process is away (see `closing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .calls import UNAVAILABLE, Hasten
from .instructions import Tell

if TYPE_CHECKING:
    from .epoch import Epoch, Place
    from .partition import PartitionCore


class Haste:
    """Of one partition."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._waiting = [program.unit.index for program in core.programs if any(row.is_async for row in program.nodes)]
        """Units that wait for their nodes."""
        self._given_up: dict[Place, int] = {}
        """Number of the last call there that was given up, while its replica has not answered since."""
        self._spared: set[Place] = set()
        """Replicas that have answered what was given up: their next call is waited for, or nothing would ever be done
        there while runs are ended one after the other."""

    @property
    def due(self) -> int | None:
        """When calls are to be given up: milliseconds since 1970 UTC; None: no end of a run waits for any."""
        epoch = self._epoch
        if epoch is None:
            return None
        busy = self._core.dispatcher.busy
        return min((self._due_of(epoch, place) for place in busy if place not in self._spared), default=None)

    def _due_of(self, epoch: Epoch, place: Place) -> int:
        since = epoch.began
        if place not in self._given_up:  # else it has not even begun
            since = max(since, self._core.dispatcher.busy[place].call.now)
        return since + self._core.limits.patience

    @property
    def _epoch(self) -> Epoch | None:
        """The one that somebody waits for."""
        return next((epoch for epoch in self._core.epochs if epoch.hasty and not epoch.entered), None)

    def look(self, now: int) -> None:
        """Give up what has been waited for long enough."""
        epoch = self._epoch
        if epoch is None:
            return
        for place, dispatch in list(self._core.dispatcher.busy.items()):
            if place not in self._spared and self._due_of(epoch, place) <= now:
                self._given_up[place] = dispatch.call.number
                self._core.closing.give_up(dispatch, UNAVAILABLE, now)

    def finished(self, place: Place) -> None:
        """A replica has answered a call that was waited for."""
        self._spared.discard(place)
        self._given_up.pop(place, None)

    def late(self, place: Place, number: int) -> None:
        """A replica has answered a call that was not waited for any more."""
        if self._given_up.get(place) == number:
            del self._given_up[place]
            self._spared.add(place)

    def began(self) -> None:
        """Calls have begun: they are as urgent as what waits for them."""
        if self._waiting and self._core.dispatcher.busy and self._epoch is not None:
            self._tell((), self._core.dispatcher.calls)

    def void(self, runs: Iterable[tuple[str, int]]) -> None:
        """Runs end (key, and number; 0: whichever it has): their calls are cancelled."""
        if self._waiting:
            self._tell(runs, self._core.dispatcher.calls if self._epoch is not None else 0)

    def _tell(self, runs: Iterable[tuple[str, int]], through: int) -> None:
        core = self._core
        core.tell(
            Tell(
                self._waiting,
                Hasten(partition=core.partition, owner=core.owner, through=through, void=tuple(runs)),
            )
        )
