"""Events that are tried again soon: in memory, within the epoch that they came with.

An event that stands still is parked, durably: it is written to the store, and read from it when it is due. While a
backlog is worked off, that would be most of the work in a storm of retries. So an epoch of many events keeps those in
memory that are due again within `Limits.soon`, and those of their runs behind them before the same node.
Its commit waits for them: for so long once the epochs before it are done, and until four times as long after its first
failure while they are not. What is not done by then is parked like any other. If the process dies meanwhile, nothing of
it has happened: the events come again from their source, with their first attempt.

Epochs behind it go on, but without the runs of which something waits: those events wait as well, until the epoch
before has done with the run. So the states of a run are those of whole epochs in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec.structs import replace

from .calls import STAYING
from .plan import Plan
from .waves import goes_in_waves

if TYPE_CHECKING:
    from .calls import CallResult, Failed
    from .dispatch import Dispatch
    from .epoch import Epoch, Item, Place
    from .instructions import Limits
    from .program import UnitProgram
    from .runs import RunRecord

_BEHIND: Final = 4
"""Times `Limits.soon` that an epoch may last which waits for those before it as well."""
Name: TypeAlias = "tuple[int, RunRecord]"
"""Of a queue: node and run."""
_MORE_EPOCHS: Final = 9
"""That may be in flight while something waits: they are behind an epoch that has little to do."""
_MORE_OUTSIDE: Final = 2
_LARGER_OUTSIDE: Final = 3
"""The same where calls go to other processes, and how much larger epochs are then: a call is of one epoch and costs a
millisecond whatever it holds, and each epoch makes one for all that is due at a time."""
_MOST_LATER: Final = 0.5
"""Part of what waits that may do so for an epoch before, for that to be so. Where it is more, runs have many events
each: with more epochs their queues only get longer, until what is in them has waited too long and is parked."""


@dataclass(slots=True)
class Shortly:
    """What of one epoch waits in memory."""

    load: list[int]
    """By region: how many of the events there wait (or are tried again right now)."""
    until: int = 0
    """Until when they may: milliseconds since 1970 UTC; 0: none has failed yet."""
    is_first: bool = False
    """When something failed last, nothing was before the epoch any more."""
    queues: dict[Name, list[int]] = field(default_factory=dict)
    """By node and run: slots, in order; the first one is to be tried again, the others stand behind it."""
    tried: dict[Item, int] = field(default_factory=dict)
    """Failed attempts of those that have some."""
    runs: dict[RunRecord, int] = field(default_factory=dict)
    """How many of each run wait."""
    again: dict[Place, list[RunRecord]] = field(default_factory=dict)
    """Runs of those that are due and in `Epoch.ready`, an entry for each."""
    later: dict[RunRecord, list[tuple[int, Item]]] = field(default_factory=dict)
    """(region, item) of events whose run waits in an epoch before."""


class Soon:
    """All that waits in memory of one partition."""

    def __init__(self, plan: Plan, programs: Sequence[UnitProgram], limits: Limits) -> None:
        self._plan = plan
        self._limits = limits
        special = plan.scopes or any(node.may_end for node in plan.nodes) or any(row.serial for row in plan.regions)
        self._allowed = not (plan.serial or plan.timed or special)
        is_inside = all(unit.in_worker for unit in plan.units)
        self._most_more, self._larger = (_MORE_EPOCHS, 1) if is_inside else (_MORE_OUTSIDE, _LARGER_OUTSIDE)
        self._depths: dict[int, int] = {}
        """By node: how many nodes of its unit an event has passed with it, where hops are counted so."""
        for program in programs:
            if program.ways is not None and goes_in_waves(plan, program):
                self._depths.update(zip((node.index for node in program.nodes), program.ways[1], strict=True))
        self.count = 0
        """Events that wait."""
        self._later = 0
        """Those among them whose run waits in an epoch before."""
        self.saved = 0
        """Number of the last epoch that has nothing to do but to be committed, as have all before it."""
        self.kept = 0
        """Failed attempts whose events waited here."""
        self._due: dict[int, list[tuple[Epoch, list[Name]]]] = {}
        """When queues are due -> their epochs and names."""
        self._heap: list[int] = []
        """When something is due."""
        self._holders: dict[RunRecord, list[Epoch]] = {}
        """By run: the epochs in which something of it waits, in order."""

    @property
    def next_due(self) -> int | None:
        """When the next one is due: milliseconds since 1970 UTC."""
        return self._heap[0] if self._heap else None

    @property
    def more_epochs(self) -> int:
        """How many more may be in flight than otherwise."""
        return self._most_more if self.count and self._later <= _MOST_LATER * self.count else 0

    @property
    def larger(self) -> int:
        """Times that an epoch may be larger than otherwise."""
        return self._larger if self.count else 1

    def keep(self, dispatch: Dispatch, result: CallResult, now: int) -> CallResult:
        """Take from a result what is to wait here; and what was tried again has been.

        Args:
            dispatch: The call.
            result: Its result.
            now: Milliseconds since 1970 UTC.

        Returns:
            The result without what waits.
        """
        epoch, region = dispatch.epoch, self._plan.region_of[result.unit]
        here = epoch.soon
        if result.failed and (here is not None or self._may(epoch)):
            here = epoch.soon = here or Shortly([0] * len(epoch.load))
            rest = self._take(dispatch, here, result.failed, now)
            kept = len(result.failed) - len(rest)
            if kept:
                result = replace(result, failed=rest)
                here.load[region] += kept
                epoch.load[region] += kept
        if here is not None and dispatch.again:
            here.load[region] -= len(dispatch.again)
            self.count -= len(dispatch.again)
            runs = here.runs
            for run in dispatch.again:
                left = runs[run] - 1
                if left:
                    runs[run] = left
                else:
                    self._gone(epoch, run)
        return result

    def _may(self, epoch: Epoch) -> bool:
        return self._allowed and epoch.count >= self._limits.soon_from and not (epoch.tickets or epoch.firings)

    def _take(  # noqa: PLR0912  in one piece: in a storm three of ten events go through it
        self, dispatch: Dispatch, here: Shortly, rows: Sequence[Failed], now: int
    ) -> list[Failed]:
        """Keep what may wait here. Returns the others."""
        epoch, slots, queues, tried, runs = dispatch.epoch, dispatch.slots, here.queues, here.tried, here.runs
        of_slots, hops_of, depths, tick = epoch.runs, epoch.hops, self._depths, self._limits.soon_tick
        last, most = self._last(epoch, here, now), self._limits.waiting_soon
        rest: list[Failed] = []
        due_at: dict[int, list[Name]] = {}
        for row in rows:
            wait = row.wait
            if wait is None:
                rest.append(row)
                continue
            slot, node, attempts = slots[row.index], row.node, row.attempts
            run = of_slots[slot]
            assert run is not None
            name = (node, run)
            if attempts and row.reason not in STAYING:
                due = now + wait
                if due > last or len(tried) >= most:
                    rest.append(row)
                    continue
                due = -(-due // tick)
                if due in due_at:
                    due_at[due].append(name)
                else:
                    due_at[due] = [name]
                self.kept += 1
                queue = queues[name] = []
            elif name in queues:
                queue = queues[name]
            elif self._is_ready(dispatch, here, name):
                self._put_behind(dispatch, here, row, run)
                continue
            else:
                rest.append(row)
                continue
            if row.path or row.data is not None or hops_of or row.hops != depths.get(node, 1):
                slot = self._slot(epoch, slot, row)
            queue.append(slot)
            if attempts:  # of one that failed; or had failed before, and its node gets no events now
                tried[slot, node] = attempts
            self.count += 1
            if run in runs:
                runs[run] += 1
            else:
                runs[run] = 1
                self._held(epoch, run)
        for due, names in due_at.items():
            self._at(due * tick).append((epoch, names))
        return rest

    def _last(self, epoch: Epoch, here: Shortly, now: int) -> int:
        """Until when what fails now may wait."""
        soon = self._limits.soon
        if not here.until:
            here.until = now + _BEHIND * soon
        if not here.is_first and epoch.number <= self.saved + 1:
            here.is_first, here.until = True, min(here.until, now + soon)
        return min(here.until, now + soon)

    @staticmethod
    def _is_ready(dispatch: Dispatch, here: Shortly, name: tuple[int, RunRecord]) -> bool:
        """One that waited before this node has become due meanwhile, and goes with the next call."""
        node, run = name
        if run not in here.runs:  # nearly all: there is nothing to search for
            return False
        epoch, place = dispatch.epoch, (dispatch.call.unit, dispatch.call.replica)
        again = here.again.get(place, ())
        return run in again and any(
            other == node and epoch.runs[slot] is run for slot, other in epoch.ready[place][: len(again)]
        )

    def _put_behind(self, dispatch: Dispatch, here: Shortly, row: Failed, run: RunRecord) -> None:
        """It goes with that one, behind it."""
        epoch, place = dispatch.epoch, (dispatch.call.unit, dispatch.call.replica)
        item = (self._slot(epoch, dispatch.slots[row.index], row), row.node)
        again, ready = here.again[place], epoch.ready[place]
        ready[len(again) : len(again)] = [item]
        again.append(run)
        if row.attempts:
            here.tried[item] = row.attempts
        self._more(epoch, here, run)

    def _at(self, due: int) -> list[tuple[Epoch, list[Name]]]:
        """What goes on then."""
        found = self._due.get(due)
        if found is None:
            found = self._due[due] = []
            heappush(self._heap, due)
        return found

    def _slot(self, epoch: Epoch, slot: int, row: Failed) -> int:
        """Where the event is, as it came to its node."""
        hops = max(0, row.hops - self._depths.get(row.node, 1))
        if not row.path and row.data is None and epoch.hops.get(slot, 0) == hops:
            return slot
        return epoch.put(slot, row.path, row.type if row.data is not None else epoch.types[slot], row.data, hops)

    def _more(self, epoch: Epoch, here: Shortly, run: RunRecord) -> None:
        self.count += 1
        count = here.runs.get(run, 0)
        here.runs[run] = count + 1
        if not count:
            self._held(epoch, run)

    def _held(self, epoch: Epoch, run: RunRecord) -> None:
        """Something of the run waits in this epoch, and did not before."""
        holders = self._holders.get(run)
        if holders is None:
            self._holders[run] = [epoch]
        else:
            holders.append(epoch)
            holders.sort(key=_number)

    def _gone(self, epoch: Epoch, run: RunRecord) -> None:
        """Nothing of the run waits in this epoch any longer: those of the next epoch may go on."""
        here = epoch.soon
        assert here is not None
        del here.runs[run]
        holders = self._holders[run]
        if len(holders) == 1:
            del self._holders[run]
            return
        holders.remove(epoch)
        following = holders[0]
        waits = following.soon
        assert waits is not None
        items = waits.later.pop(run, [])
        for region, item in items:
            waits.load[region] -= 1
            following.waiting.setdefault(region, []).append(item)
        if items:
            self.count -= len(items)
            self._later -= len(items)
            waits.runs[run] -= len(items)
            if not waits.runs[run]:
                self._gone(following, run)

    def defer(self, epoch: Epoch, region: int, items: list[Item]) -> list[Item]:
        """Events before a region that may enter it; those whose run waits in an epoch before wait as well."""
        held, runs, number = self._holders, epoch.runs, epoch.number
        if not held:
            return items
        may: list[Item] = []
        for item in items:
            run = runs[item[0]]
            if run not in held or held[run][0].number >= number:  # None is not in it
                may.append(item)
                continue
            here = epoch.soon = epoch.soon or Shortly([0] * len(epoch.load))
            assert run is not None
            here.later.setdefault(run, []).append((region, item))
            here.load[region] += 1
            self._later += 1
            self._more(epoch, here, run)
        return may

    def release(self, now: int) -> None:
        """What is due by now gets ready."""
        heap = self._heap
        while heap and heap[0] <= now:
            for epoch, names in self._due.pop(heappop(heap)):
                self._release(epoch, names)

    def _release(self, epoch: Epoch, names: Sequence[Name]) -> None:
        here, units, unit_of = epoch.soon, self._plan.units, self._plan.unit_of
        assert here is not None
        queues = here.queues
        by_place: dict[Place, tuple[list[Item], list[RunRecord]]] = {}
        for name in names:
            node, run = name
            unit = unit_of[node]
            replicas = units[unit].replicas
            place = (unit, run.hash % replicas if replicas > 1 else 0)
            if place in by_place:
                items, runs = by_place[place]
            else:
                items, runs = by_place[place] = ([], [])
            for slot in queues.pop(name):
                items.append((slot, node))
                runs.append(run)
        for place, (items, runs) in by_place.items():
            again, ready = here.again.setdefault(place, []), epoch.ready.setdefault(place, [])
            ready[len(again) : len(again)] = items
            again += runs


def _number(epoch: Epoch) -> int:
    return epoch.number
