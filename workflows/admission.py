"""Records become events: with their runs, and where they enter the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .epoch import Epoch
from .intake import SourceIntake, Taken
from .keyspace import partition_of
from .parking import Parked, Ticket
from .plan import SINK, Target
from .program import is_sink
from .records import Records
from .reentry import no_events, roots_and_paths, taken_back, way_of
from .runs import RunRecord
from .traced_epoch import begin_traces
from .transfers import MOST_HOPS, Misplaced

if TYPE_CHECKING:
    from .partition import PartitionCore


class Admission:
    """Takes records in for one partition."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._plan = plan = core.plan
        self._intakes = [SourceIntake(plan, source, event_cap=core.limits.event_cap) for source in plan.sources]

    def take(self, epoch: Epoch, records: Records, now: int) -> None:
        """Records become events of an epoch (or dead letters, or something for another partition)."""
        core, plan = self._core, self._plan
        name = records.unknown or plan.sources[records.source].name
        first = len(epoch.runs)
        taken, targets, type = self._entering(epoch, records, first)
        epoch.records.append(records)
        executes = records.entry is not None and records.entry.execute
        if executes:
            core.executing.note(epoch, records, first)
        else:
            epoch.targets.append((first, first + len(records), name, targets))
        runs = {key: None if key is None else self._run_of(key) for key in dict.fromkeys(taken.keys)}
        epoch.runs += map(runs.__getitem__, taken.keys)
        touched = [run for run in runs.values() if run is not None]
        epoch.missing.update(run.key for run in touched if run.loading)
        if plan.timed and not executes:
            core.time.touch(touched, records, now)
        epoch.touched.update(touched)
        if len(touched) < len(runs):
            for index, key in enumerate(taken.keys):
                if key is not None and runs[key] is None:
                    self._send_on(epoch, taken, index)
        for index, reason, error in taken.bad:
            core.router.dead(epoch, first + index, (), taken.letter(name, index, reason, error, now))
        self._columns(epoch, taken, type)
        if records.standing is not None:
            self._goes_on(epoch, first, records.standing, taken, now)
        if core.tracer is not None:
            begin_traces(core.tracer, epoch, taken, name)
        if records.entry is not None and records.entry.sink and is_sink(targets):
            core.router.emitter.resend(epoch, first, records, targets[0] - SINK)

    def _entering(self, epoch: Epoch, records: Records, first: int) -> tuple[Taken, tuple[Target, ...], int]:
        """Records as columns, where they enter, and the number of their type."""
        core, plan = self._core, self._plan
        if records.firings is not None:
            epoch.firings.update(enumerate(records.firings, first))
            way = core.time.enter(records)
            return taken_back(records, way), way.targets, way.type
        if records.entry is not None:
            way = way_of(plan, core.programs, records, records.entry)
            if way.hops:
                epoch.hops.update(dict.fromkeys(range(first, first + len(records)), way.hops))
            taken = no_events(records) if records.entry.sink and way.targets else taken_back(records, way)
            return taken, way.targets, way.type
        if records.source >= 0:
            source = plan.sources[records.source]
            return self._intakes[records.source].take(records), plan.entrance(source.index), source.type
        return Taken.unknown(records), (), -1

    def _goes_on(
        self, epoch: Epoch, first: int, standing: Sequence[tuple[Ticket, Parked]], taken: Taken, now: int
    ) -> None:
        """Events from the slot `first` on stood still until now."""
        for index, (ticket, parked) in enumerate(standing):
            epoch.tickets[ticket] = parked
            epoch.standing[first + index] = epoch.roots_of[first + index] = ticket
        self._core.standing.gone_on(epoch, [first + index for index, *_ in taken.bad], now)

    def _run_of(self, key: str) -> RunRecord | None:
        core = self._core
        run = core.runs.get(key)
        if run is None and (not self._plan.keyed or partition_of(key, core.partitions) == core.partition):
            run = core.runs.add(key)
        return run

    def _send_on(self, epoch: Epoch, taken: Taken, index: int) -> None:
        """A record's key belongs to another partition: it goes there with this epoch's commit."""
        records, key = taken.records, taken.keys[index]
        assert key is not None
        if records.hops is not None and records.hops[index] >= MOST_HOPS:
            error = f"its key is another one each time that it is taken from the data, now {key!r}"
            taken.bad.append((index, "key", error))
            return
        name = records.unknown or self._plan.sources[records.source].name
        epoch.pending.misplaced.append(Misplaced(records, index, name, key, partition_of(key, self._core.partitions)))

    def _columns(self, epoch: Epoch, taken: Taken, type: int) -> None:
        records, data = taken.records, taken.data if taken.decoded else None
        count = len(records)
        before = len(epoch.blobs)
        epoch.types += [type] * count
        epoch.blobs += taken.values  # type: ignore[arg-type]  # None only where the record was bad
        epoch.times += taken.times
        epoch.origins.append("" if records.ids else records.identity)
        epoch.origin_of += [len(epoch.origins) - 1] * count
        if records.entry is not None and records.entry.depth and records.ids:
            roots, paths = roots_and_paths(records.ids, records.entry.depth)
            epoch.offsets += roots
            epoch.paths.update(enumerate(paths, before))
        else:
            epoch.offsets += records.ids or records.offsets
        if records.headers is not None or epoch.headers is not None:
            epoch.headers = (epoch.headers or [()] * before) + (records.headers or [()] * count)
        if records.replies is not None:
            ids = records.ids or records.offsets
            epoch.replies.update(
                {before + index: (str(ids[index]), channel) for index, channel in enumerate(records.replies) if channel}
            )
        if records.requests is not None:
            epoch.replies.update({before + index: asked for index, asked in enumerate(records.requests) if asked})
        if before == 0:
            epoch.data = list(data) if data is not None else None
        elif epoch.data is not None:
            epoch.data = [*epoch.data, *data] if data is not None else None
