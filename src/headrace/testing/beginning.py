"""How a harness begins: with nothing, or where one of an earlier version of the workflow is.

The latter has the checks of a deployment, and works on a copy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from headrace.settings.masking import sounds_secret
from headrace.testing.engine import Deliver, Engine
from headrace.testing.problems import HarnessError
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import Plan
from headrace.workflows.settings import Scalar, Settings
from headrace.workflows.state_review import StateReview, forgotten_renames, renames_of

DEFAULT_PARTITIONS: Final = 4
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Beginning:
    """Makes the engine of a harness.

    Args:
        plan: What it runs.
        deliver: Takes outputs to their sinks.
        settings: What nodes see.
        partitions: As its user asked for.
        start: The virtual time at which it begins.

    Raises:
        HarnessError: The time has no time zone.
    """

    def __init__(
        self,
        plan: Plan,
        deliver: Deliver,
        settings: Mapping[str, Scalar] | None,
        partitions: int | None,
        start: datetime,
    ) -> None:
        if start.tzinfo is None:
            raise HarnessError("start= has no time zone: write datetime(2026, 1, 1, tzinfo=UTC)")
        given = settings or {}
        self._plan = plan
        self._deliver = deliver
        self._settings = Settings(given, secrets={name for name in given if sounds_secret(name)})
        self._asked = partitions or plan.partitions
        self._start = start

    def anew(self) -> Engine:
        """With nothing."""
        partitions = (self._asked or DEFAULT_PARTITIONS) if self._plan.keyed else 1
        now = (self._start - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
        return Engine(self._plan, partitions, now, self._deliver, self._settings)

    def on(self, before: Engine, drop: Collection[str]) -> Engine:
        """On a copy of all that another engine has.

        Args:
            before: It; its version of the workflow is an earlier one.
            drop: Nodes whose states go.

        Raises:
            HarnessError: It is another workflow, or has another key space; or there is a time of its own.
            StatesLost: The plan has no place for states of it, or can't read them.
        """
        plan = self._plan
        self._refuse_another(before)
        review = StateReview(plan, forgotten_renames(renames_of(before.plan), plan))
        for partition in range(before.partitions):
            for key in before.store.run_keys(partition):
                review.look(key, before.store.run(partition, key))
        lost = review.lost(besides=drop)
        if lost is not None:
            raise lost
        engine = Engine(
            plan, before.partitions, before.now, self._deliver, self._settings, _store_of(before, plan, review, drop)
        )
        engine.inputs.take_over(before.inputs)
        closed = {before.plan.sources[index].name for index in before.closed}
        engine.closed |= {source.index for source in plan.sources if source.name in closed}
        return engine

    def _refuse_another(self, before: Engine) -> None:
        plan, old = self._plan, before.plan
        if plan.name != old.name:
            raise HarnessError(f"on= is a harness of workflow {old.name}: {plan.name} can't go on from there")
        if plan.keyed != old.keyed:
            raise HarnessError(f"{plan.name} is keyed in one version and not in the other: its runs are others")
        if plan.keyed and self._asked not in (None, before.partitions):
            raise HarnessError(f"{plan.name} has {before.partitions} partitions since its start, not {self._asked}")
        if self._start is not START:
            raise HarnessError("start= with on=: it goes on at the time of that harness. Use advance or outage")


def _store_of(before: Engine, plan: Plan, review: StateReview, drop: Collection[str]) -> MemoryStore:
    def edit(run: str, fields: dict[str, bytes]) -> dict[str, bytes]:
        ready = review.ready(run, fields, drop)
        gone = {*ready.dropped, *ready.moves, *ready.marks}
        moved = {new: fields[old] for old, new in ready.moves.items()}
        return {name: value for name, value in fields.items() if name not in gone} | moved | ready.writes

    channels = {source.name: source.source.capacity for source in plan.sources if source.source.kind == "channel"}
    return before.store.taken_over(channels, plan.letters_kept, edit)
