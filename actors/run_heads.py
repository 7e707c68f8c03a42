"""What of a run changes as it goes on: looked at again and again, of many runs at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.actors.run_beginning import ACCEPTED, are_beginning
from headrace.actors.run_views import RunView
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.inner_places import stands_of
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.runs import ENDED_FIELD, NUMBER_FIELD, RUNNING, STATUS_FIELD, WAIT_FIELD
from headrace.workflows.timers import TIMERS

_FIELDS = (STATUS_FIELD, NUMBER_FIELD, WAIT_FIELD, TIMERS, ENDED_FIELD)


class RunPlace(NamedTuple):
    """Where a run lies."""

    workflow: str
    partition: int
    key: str


class RunHead(NamedTuple):
    """How far a run has come, as others see it."""

    status: str
    number: int
    stands: tuple[tuple[str, int], ...]
    """The waits that it stands at, and how often it has come to one."""
    ended: int | None

    @property
    def version(self) -> str:
        """A short text that is another one once any of it is."""
        text = "\n".join(map(str, self)).encode()
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def head_of(view: RunView) -> RunHead:
    """The head of a run that has been read wholly."""
    names = [row.name for row in view.waits]
    return RunHead(view.status, view.number, tuple(zip(names, view.generations, strict=True)), view.ended)


async def run_heads(registry: Registry, places: Sequence[RunPlace]) -> list[RunHead | None]:
    """Heads of runs, in order; None where there is none.

    Raises:
        StoreUnavailable: Ask again.
    """
    if not places:
        return []
    pipe = registry.client.pipeline(transaction=False)
    for workflow, partition, key in places:
        pipe.hmget(PartitionKeys(workflow, partition).run(key), _FIELDS)
    with store_errors(registry.address):
        answers: list[Any] = await pipe.execute()
    heads = [_head(answer) for answer in answers]
    others = [index for index, head in enumerate(heads) if head is None or head.status != RUNNING]
    for index, begins in zip(others, await are_beginning(registry, [places[each] for each in others]), strict=True):
        if begins:
            heads[index] = RunHead(ACCEPTED, 0, (), None)
    return heads


def _head(answer: Sequence[bytes | None]) -> RunHead | None:
    fields = {name: value for name, value in zip(_FIELDS, answer, strict=True) if value is not None}
    if STATUS_FIELD not in fields or NUMBER_FIELD not in fields:
        return None
    status = fields[STATUS_FIELD].decode()
    found = stands_of(fields) if status == RUNNING else []
    ended = fields.get(ENDED_FIELD)
    return RunHead(
        status, int(fields[NUMBER_FIELD]), tuple((stand.wait, stand.generation) for stand in found),
        None if ended is None else int(ended),
    )  # fmt: skip
