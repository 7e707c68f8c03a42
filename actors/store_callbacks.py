"""Callbacks of runs in the store: what is to be told, by when, who has it in hand, and what came of each attempt.

A commit puts them there. A sender takes some in hand for a while (a lease); if it ends before it has said what came of
them, they fall due again. So each is told at least once, and by one sender at a time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from headrace.actors.run_views import BadCursor, is_number
from headrace.actors.store_requests import RequestStore
from headrace.sources.connection import Script, store_errors
from headrace.sources.routing import is_cluster
from headrace.workflows.durability import Durability
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.tenants import DEFAULT_TENANT, MARK, key_for

_FOLDER: Final = Path(__file__).parent / "scripts"
_CLAIM: Final = Script(_FOLDER / "callback_claim.lua")
_SETTLE: Final = Script(_FOLDER / "callback_settle.lua")
_AGAIN: Final = Script(_FOLDER / "callback_again.lua")
_LIST: Final = Script(_FOLDER / "callback_list.lua")
_ATTEMPT: Final = "attempt:"

Outcome: TypeAlias = Literal["delivered", "dead", "retry", "postponed"]
"""What came of one that was in hand. `postponed`: nothing was sent."""
Queued: TypeAlias = Literal["QUEUED", "PENDING", "UNKNOWN"]


_Place: TypeAlias = tuple[int, int, str]
"""Of one that was given up, in the list of all: when, partition, id."""
LOOKED_AT_ONCE: Final = 100


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """One that a sender has in hand."""

    workflow: str
    partition: int
    token: str
    id: str
    run: str
    type: str
    url: str
    body: bytes
    queued: int
    """When it occurred, or was queued again: milliseconds since 1970 UTC."""
    tries: int
    """Attempts since it was queued."""
    attempts: int
    """Attempts of all time."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try to tell it."""

    at: int
    """Milliseconds since 1970 UTC."""
    milliseconds: int
    """How long it took."""
    status: int = 0
    """Of the answer; 0: there was none."""
    error: str = ""


class CallbackView(msgspec.Struct, frozen=True, kw_only=True):
    """One as people look at it."""

    id: str
    run: str
    type: str
    url: str
    status: str
    """`pending`, `delivered` or `dead`."""
    made: int
    due: int | None
    """When it is tried next; None: it isn't."""
    attempts: int
    log: list[Attempt]
    """The last fifty attempts, the first of them first."""


class StandingCallbacks(NamedTuple):
    """How the callbacks of a workflow stand."""

    pending: int
    oldest: int | None
    """Since when the oldest of them is to be told: milliseconds since 1970 UTC; None: there is none."""
    dead: int


def _first(client: Any, key: str) -> Any:
    return client.zrange(key, 0, 0, withscores=True)


class CallbackStore:
    """Callbacks of all workflows of a store.

    Args:
        store: Connection to it.
    """

    def __init__(self, store: RequestStore) -> None:
        self._store = store

    async def first_due(self, workflow: str, partitions: int) -> list[int | None]:
        """By partition, when its first callback is due: milliseconds since 1970 UTC; None: there is none.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        rows = await self._of_each(workflow, partitions, lambda client, base: [_first(client, f"{base}callbacks")])
        return [int(row[0][1]) if row else None for row in rows]

    async def standing(self, workflow: str, partitions: int) -> StandingCallbacks:
        """How many of a workflow are still to be told, since when, and how many were given up.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        rows = await self._of_each(workflow, partitions, lambda client, base: [
            client.zcard(f"{base}callbacks"), _first(client, f"{base}callbacks_since"),
            client.zcard(f"{base}callbacks_dead"),
        ])  # fmt: skip
        since = [int(row[0][1]) for row in rows[1::3] if row]
        return StandingCallbacks(sum(rows[::3]), min(since, default=None), sum(rows[2::3]))

    async def _of_each(self, workflow: str, partitions: int, ask: Callable[[Any, str], Sequence[Any]]) -> Sequence[Any]:
        """The answers to what is asked of each partition."""
        bases = [PartitionKeys(workflow, partition).prefix for partition in range(partitions)]
        client: Any = self._store.client
        with store_errors(self._store.address):
            if is_cluster(client):
                await client.initialize()
                return await asyncio.gather(*(each for base in bases for each in ask(client, base)))
            pipe = client.pipeline(transaction=False)
            for base in bases:
                ask(pipe, base)
            answers: list[Any] = await pipe.execute()
            return answers

    async def waiting(self, workflow: str, partition: int) -> int:
        """How many of a partition are still to be told.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        client: Any = self._store.client
        with store_errors(self._store.address):
            return int(await client.zcard(f"{PartitionKeys(workflow, partition).prefix}callbacks"))

    async def claim(
        self, workflow: str, partition: int, most: int, *, lease: float, durability: Durability
    ) -> list[Claimed]:
        """Take some in hand that are due; returns once all that they speak of is durable.

        Args:
            workflow: Name of the workflow.
            partition: Of it.
            most: How many.
            lease: Seconds that they are in hand.
            durability: Of the workflow.

        Raises:
            NotDurable, StoreUnavailable: None is in hand, or some are for as long as the lease.
        """
        token = secrets.token_hex(8)
        rows = await self._store.at(durability).write(
            _CLAIM, Effect.CALLBACK_CLAIM, PartitionKeys(workflow, partition).head,
            token, str(round(lease * 1000)), str(most),
        )  # fmt: skip
        return [
            Claimed(
                workflow=workflow, partition=partition, token=token, id=id_.decode(), run=run.decode(),
                type=kind.decode(), url=url.decode(), body=body, queued=int(queued), tries=int(tries),
                attempts=int(attempts),
            )
            for id_, run, kind, url, body, queued, tries, attempts in rows
        ]  # fmt: skip

    async def settle(self, row: Claimed, outcome: Outcome, after: float = 0, attempt: Attempt | None = None) -> bool:
        """Say what came of one that was in hand.

        Args:
            row: It.
            outcome: What came of it.
            after: Seconds until it is due again, if it is to be.
            attempt: For its log.

        Returns:
            Whether it was still in this hand.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        with store_errors(self._store.address):
            answer = await _SETTLE.write(
                self._store.client, Effect.CALLBACK_SETTLE, PartitionKeys(row.workflow, row.partition).head,
                row.id, row.token, outcome, str(round(after * 1000)),
                "" if attempt is None else msgspec.json.encode(attempt),
            )  # fmt: skip
        return bool(answer == b"DONE")

    async def again(self, workflow: str, partition: int, run: str, id: str, durability: Durability) -> Queued:
        """One is to be told once more, also if it was told before.

        Raises:
            NotDurable, StoreUnavailable: Ask again.
        """
        head = PartitionKeys(workflow, partition).head
        answer = await self._store.at(durability).write(_AGAIN, Effect.CALLBACK_AGAIN, head, id, run)
        queued: Queued = msgspec.convert(answer.decode(), Queued)
        return queued

    async def of_run(self, workflow: str, partition: int, run: str, most: int) -> list[CallbackView]:
        """Those of a key's runs, the newest first.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        _, rows = await self._list(workflow, partition, f"callbacks_of:{run}", "+inf", 0, most, ("", ""))
        return [view for _, view in rows]

    async def dead(
        self, workflow: str, partitions: int, tenant: str, *, limit: int, cursor: str = ""
    ) -> tuple[list[CallbackView], str | None]:
        """Those of a tenant's runs that were given up, the newest first, and where to go on; None: that was all.

        Args:
            workflow: Name of the workflow.
            partitions: How many it has.
            tenant: Whose runs are meant.
            limit: How many at most.
            cursor: Where the page before ended.

        Raises:
            BadCursor: That is none.
            StoreUnavailable: The store does not answer.
        """
        before = _place(cursor)
        found: list[tuple[_Place, CallbackView]] = []
        for partition in range(partitions):
            found += await self._dead_of(workflow, partition, tenant, limit + 1, before)
        found.sort(key=lambda row: row[0], reverse=True)
        page = found[:limit]
        more = "{}-{}.{}".format(*page[-1][0]) if len(found) > limit else None
        return [view for _, view in page], more

    async def _dead_of(
        self, workflow: str, partition: int, tenant: str, most: int, before: _Place | None
    ) -> list[tuple[_Place, CallbackView]]:
        """As many of one partition, at most, behind a place."""
        whose = (key_for(tenant, ""), MARK if tenant == DEFAULT_TENANT else "")
        latest = "+inf" if before is None else str(before[0])
        found: list[tuple[_Place, CallbackView]] = []
        looked, skip = LOOKED_AT_ONCE, 0
        while looked == LOOKED_AT_ONCE and len(found) < most:
            looked, rows = await self._list(
                workflow, partition, "callbacks_dead", latest, skip, LOOKED_AT_ONCE, whose
            )  # fmt: skip
            skip += looked
            places = [((time, partition, view.id), view) for time, view in rows]
            found += [row for row in places if before is None or row[0] < before]
        return found[:most]

    async def _list(
        self, workflow: str, partition: int, name: str, latest: str, skip: int, count: int, whose: tuple[str, str]
    ) -> tuple[int, list[tuple[int, CallbackView]]]:
        """How many were looked at, and those that fit, each with its time in the set."""
        head = PartitionKeys(workflow, partition).head
        with store_errors(self._store.address):
            looked, *rows = await _LIST.ask(self._store.client, head, name, latest, str(skip), str(count), *whose)
        return looked, [(int(float(time)), _view(id_.decode(), due, flat)) for id_, time, due, flat in rows]


def _place(cursor: str) -> _Place | None:
    if not cursor:
        return None
    time, _, rest = cursor.partition("-")
    partition, _, id_ = rest.partition(".")
    if not (is_number(time) and is_number(partition) and id_):
        raise BadCursor(cursor)
    return int(time), int(partition), id_


def _view(id: str, due: bytes, flat: Sequence[bytes]) -> CallbackView:
    fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    numbered = {int(name.removeprefix(_ATTEMPT)): value for name, value in fields.items() if name.startswith(_ATTEMPT)}
    status = fields["status"].decode()
    return CallbackView(
        id=id, run=fields["run"].decode(), type=fields["type"].decode(), url=fields["url"].decode(), status=status,
        made=int(fields["made"]), due=int(float(due)) if due and status == "pending" else None,
        attempts=int(fields["attempts"]),
        log=[msgspec.json.decode(numbered[number], type=Attempt) for number in sorted(numbered)],
    )  # fmt: skip
