"""Values of runs, as readers ask for them."""

from __future__ import annotations

from typing import Any, NamedTuple

from headrace.actors.run_beginning import ACCEPTED, are_beginning
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.runs import NUMBER_FIELD, RUNNING, STATUS_FIELD
from headrace.workflows.values import PREFIX, RunValue, value_of


class RunValues(NamedTuple):
    """What there is of a run's values at one moment."""

    status: str | None
    """Of the run; `accepted`: it is about to begin; None: there is no such run."""
    number: int
    """Of the run."""
    values: dict[str, RunValue]
    """By name; those that were asked for and are set."""


class ValueReader:
    """Reads the values of any workflow's runs.

    A value that is read here was committed; where commits have to be durable, it may not yet be. Readers who wait
    listen to `PartitionKeys.changes` and read after they have subscribed, and again whenever they are told, or their
    connection has been away: who is told, and finds the version that it had, waits on.

    Args:
        registry: Connection to the store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def value(self, workflow: str, partition: int, key: str, name: str) -> RunValues:
        """One value of a run, by name.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        run = PartitionKeys(workflow, partition).run(key)
        with store_errors(self._registry.address):
            found: Any = await self._registry.client.hmget(run, [STATUS_FIELD, NUMBER_FIELD, PREFIX + name])
        status, number, blob = found
        values = {} if blob is None else {name: value_of(blob)}
        return await self._newest((workflow, partition, key), status, number, values)

    async def values(self, workflow: str, partition: int, key: str) -> RunValues:
        """All values of a run.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        run = PartitionKeys(workflow, partition).run(key)
        with store_errors(self._registry.address):
            pipe: Any = self._registry.client.pipeline(transaction=True)
            pipe.hmget(run, [STATUS_FIELD, NUMBER_FIELD])
            pipe.hgetall(run)
            (status, number), fields = await pipe.execute()
        named = {field.decode(): blob for field, blob in fields.items() if field.startswith(PREFIX.encode())}
        values = {field.removeprefix(PREFIX): value_of(blob) for field, blob in named.items()}
        return await self._newest((workflow, partition, key), status, number, values)

    async def _newest(
        self, place: tuple[str, int, str], status: bytes | None, number: bytes | None, values: dict[str, RunValue]
    ) -> RunValues:
        """What was read, unless another run is about to begin with that key: it has no values yet."""
        if status != RUNNING.encode() and (await are_beginning(self._registry, [place]))[0]:
            return RunValues(ACCEPTED, 0, {})
        return RunValues(None if status is None else status.decode(), int(number or 0), values)
