"""Runs of a workflow as people look at them: listed page by page, or one with all of its states. Reads only.

There is no index: a list walks through the store by SCAN, a thousand keys at a time, so that the server never
stands still, however many there are. A page ends after so many keys, also if it has found less than it may: so it is
there in bounded time. See `docs/decisions/no-index-of-runs.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.actors.run_beginning import ACCEPTED, are_beginning
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.sources.routing import scan
from headrace.workflows.errors import HeadraceError
from headrace.workflows.inner_places import stands_of
from headrace.workflows.keyspace import PartitionKeys, partition_of
from headrace.workflows.runs import (
    BEGAN_FIELD,
    ENDED_BY_FIELD,
    ENDED_FIELD,
    NUMBER_FIELD,
    RESULT_FIELD,
    RUNNING,
    SHARED_FIELD,
    STATUS_FIELD,
    VOID_FIELD,
)  # fmt: skip
from headrace.workflows.state_versions import split_version
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import tenant_of
from headrace.workflows.wait_claims import wait_ids

AT_ONCE: Final = 1000
"""Keys of the server that one step looks at: about a millisecond."""
_NODE: Final = "node:"
_HEAD: Final = (STATUS_FIELD, NUMBER_FIELD, ENDED_FIELD, BEGAN_FIELD)
_DIGITS: Final = 20
"""Of the largest number of 64 bits."""
MOST_LOOKED_AT: Final = 100_000
"""Keys of the server that one page looks at: about half a second."""


class BadCursor(HeadraceError):
    """A cursor that no list has given."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"{cursor!r} is no cursor of this list. Begin without one.")
        self.cursor = cursor


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a list."""

    workflow: str
    key: str
    partition: int
    status: str
    """`running`, `completed`, `terminated`, `source closed`, ..."""
    number: int
    """Counts the runs of the partition: a key that is used again is another run."""
    ended: int | None = None
    """Milliseconds since 1970 UTC."""
    began: int | None = None
    """The same; None: an earlier Headrace has begun it."""

    @property
    def address(self) -> str:
        """How it is named: `workflow/key`."""
        return f"{self.workflow}/{self.key}"


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are meant; what is None, or empty, does not matter. Times are milliseconds since 1970 UTC."""

    status: str | None = None
    key_prefix: str = ""
    began_before: int | None = None
    ended_after: int | None = None
    tenant: str | None = None
    """Whose."""

    def fits(self, row: RunRow) -> bool:
        """Whether it is one of them."""
        if self.status not in (None, row.status) or self.tenant not in (None, tenant_of(row.key)):
            return False
        if self.began_before is not None and not (row.began is not None and row.began < self.began_before):
            return False
        return self.ended_after is None or (row.ended is not None and row.ended >= self.ended_after)


_ALL: Final = RunFilter()


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list."""

    runs: list[RunRow]
    cursor: str | None
    """Where to go on, also where the page has no run; None: that was all. Runs that begin or end meanwhile may be
    missed, or told twice."""


class WaitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A wait that a run stands at."""

    name: str
    until: int | None
    """When it has stood there for too long: milliseconds since 1970 UTC; None: never."""
    id: str = ""
    """Which time it stands there; see `wait_claims`."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """All of one run."""

    workflow: str
    key: str
    partition: int
    status: str
    """As in `RunRow`; `accepted`: it is about to begin, and nothing else of it is there."""
    number: int
    began: int | None
    ended: int | None
    ended_by: str | None
    """Name of the node that ended it; None: it runs, or was ended from outside or by its sources."""
    void: int
    """How many of its events stood still when it was ended from outside: they are no more."""
    state: msgspec.Raw | None
    """JSON: the state that its nodes share."""
    nodes: dict[str, msgspec.Raw]
    """JSON: the state of each node, by the name under which it lies; without its version."""
    result: msgspec.Raw | None
    """JSON: result of a completed run, reason of a terminated one."""
    waits_at: str | None = None
    """The wait that it stands at, the first of `waits`; None: at none."""
    waits_until: int | None = None
    """When it has stood there for too long: milliseconds since 1970 UTC."""
    waits: list[WaitRow] = []
    """All waits that it stands at: its own one, and those of workflows that are nodes, `pay/approval`."""
    generations: list[int] = []
    """Of each of `waits`: how often it has come to one, that time included."""


async def list_runs(
    registry: Registry,
    workflow: str,
    wanted: RunFilter = _ALL,
    *,
    limit: int = 50,
    cursor: str = "",
    most: int = MOST_LOOKED_AT,
) -> RunPage:
    """Runs of a workflow, in no order.

    Args:
        registry: The store.
        workflow: Name of the workflow.
        wanted: Which.
        limit: How many at most.
        cursor: Where the page before ended.
        most: Keys to look at, about: then the page ends, whatever it has found.

    Raises:
        BadCursor: That is none.
        StoreUnavailable: Ask again.
    """
    place, skip = _parse(cursor)
    found: list[RunRow] = []
    looked = 0
    match = f"hr:{{{workflow}/*}}:run:{_literally(wanted.key_prefix)}*"
    while True:
        with store_errors(registry.address):
            following, keys = await scan(registry.client, place, match, AT_ONCE)
        rows = await _rows(registry, workflow, keys[skip:])
        for index, row in enumerate(rows, start=skip + 1):
            if row is not None and wanted.fits(row):
                found.append(row)
                if len(found) == limit:
                    is_last = index == len(keys)
                    rest = f"{following}.0" if is_last else f"{place}.{index}"
                    return RunPage(runs=found, cursor=None if is_last and not following else rest)
        looked += AT_ONCE
        if not following or looked >= most:
            return RunPage(runs=found, cursor=f"{following}.0" if following else None)
        place, skip = following, 0


def _literally(text: str) -> str:
    """A text as a pattern that matches nothing else."""
    return "".join(f"\\{each}" if each in "*?[]^\\" else each for each in text)


def _parse(cursor: str) -> tuple[int, int]:
    place, _, skip = (cursor or "0.0").partition(".")
    if not (is_number(place) and is_number(skip)):
        raise BadCursor(cursor)
    return int(place), int(skip)


def is_number(text: str) -> bool:
    """Whether it is a number that a server can have in cursors and ids: of 64 bits."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) < 1 << 64


async def _rows(registry: Registry, workflow: str, keys: Sequence[bytes]) -> list[RunRow | None]:
    """A row for each key; None where the run has gone meanwhile."""
    if not keys:
        return []
    pipe = registry.client.pipeline(transaction=False)
    for key in keys:
        pipe.hmget(key, _HEAD)
    with store_errors(registry.address):
        answers: list[Any] = await pipe.execute()
    return [_row(workflow, key.decode(), fields) for key, fields in zip(keys, answers, strict=True)]


def _row(workflow: str, name: str, fields: Sequence[bytes | None]) -> RunRow | None:
    status, number, ended, began = fields
    if status is None or number is None:
        return None
    tag, _, key = name.removeprefix(f"hr:{{{workflow}/").partition("}:run:")
    return RunRow(
        workflow=workflow, key=key, partition=int(tag), status=status.decode(), number=int(number),
        ended=None if ended is None else int(ended), began=None if began is None else int(began),
    )  # fmt: skip


async def get_run(registry: Registry, descriptor: WorkflowDescriptor, key: str) -> RunView | None:
    """All of one run; None where there is none with that key.

    Raises:
        StoreUnavailable: Ask again.
    """
    partition = partition_of(key, descriptor.partitions) if descriptor.keyed else 0
    place = descriptor.name, partition, key
    fields = await _fields_of(registry, *place)
    if fields.get(STATUS_FIELD) != RUNNING.encode():
        if (await are_beginning(registry, [place]))[0]:
            return _accepted(*place)
        if not fields:  # it may have begun between the two looks
            fields = await _fields_of(registry, *place)
    if not fields:
        return None
    stands = stands_of(fields) if fields[STATUS_FIELD] == RUNNING.encode() else []
    ids = wait_ids(fields, stands)
    waits = [WaitRow(name=stand.wait, until=stand.due or None, id=id_) for stand, id_ in zip(stands, ids, strict=True)]
    began, ended, by = (fields.get(name) for name in (BEGAN_FIELD, ENDED_FIELD, ENDED_BY_FIELD))
    return RunView(
        workflow=descriptor.name,
        key=key,
        partition=partition,
        status=fields[STATUS_FIELD].decode(),
        number=int(fields[NUMBER_FIELD]),
        began=None if began is None else int(began),
        ended=None if ended is None else int(ended),
        ended_by=None if by is None else by.decode(),
        void=int(fields.get(VOID_FIELD, b"0")),
        state=_raw(split_version(fields.get(SHARED_FIELD, b""))[1]),
        nodes={
            name.removeprefix(_NODE): msgspec.Raw(split_version(value)[1])
            for name, value in sorted(fields.items())
            if name.startswith(_NODE) and value
        },
        result=_raw(fields.get(RESULT_FIELD)),
        waits_at=waits[0].name if waits else None,
        waits_until=waits[0].until if waits else None,
        waits=waits,
        generations=[stand.generation for stand in stands],
    )


async def _fields_of(registry: Registry, workflow: str, partition: int, key: str) -> dict[str, bytes]:
    with store_errors(registry.address):
        answer: Any = registry.client.hgetall(PartitionKeys(workflow, partition).run(key))
        found: dict[bytes, bytes] = await answer
    return {name.decode(): value for name, value in found.items()}


def _accepted(workflow: str, partition: int, key: str) -> RunView:
    """A run of which nothing is there but the request that it begins with."""
    return RunView(
        workflow=workflow, key=key, partition=partition, status=ACCEPTED, number=0, began=None, ended=None,
        ended_by=None, void=0, state=None, nodes={}, result=None,
    )  # fmt: skip


def _raw(text: bytes | None) -> msgspec.Raw | None:
    return msgspec.Raw(text) if text else None
