"""Ends runs from outside, and has keys forgotten: asks the owners of their partitions, by way of the store.

What is asked lies in the partition's stream `control` until its owner has done it, in a commit; so it is done once the
workflow runs, if it does not run now. Asking again, unchanged, does nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.actors.dead_letters import AT_ONCE
from headrace.actors.run_views import RunRow
from headrace.actors.store import Store
from headrace.sources.connection import Script, store_errors
from headrace.sources.durable import Durable
from headrace.workflows.control import ControlEvent, encode
from headrace.workflows.effects import Effect, effect
from headrace.workflows.keyspace import CONTROL, PartitionKeys
from headrace.workflows.store import DestinationEnded, StoreFull, StoreUnavailable

_CONTROL: Final = Script(Path(__file__).parent / "scripts" / "control.lua")
MOST: Final = 100_000
"""Entries that may lie in one control stream."""
_ASKED_AT_ONCE: Final = 500
_LOOK_AGAIN: Final = 0.02
_TRIES: Final = 5
_TRY_AGAIN: Final = 1.0


class Asking:
    """What is asked of the runs of one workflow, in the hands of who asks.

    Args:
        store: The workflow's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._durable = Durable(store.client, store.address, store.durable.durability)
        self._last: dict[int, str] = {}
        """By partition: entry of the last thing that was asked."""

    async def ask(self, events: Mapping[int, Iterable[ControlEvent]]) -> None:
        """Ask it of the partitions' owners; it is as durable as the store was opened for.

        Raises:
            StoreFull: So much has been asked, and not been done, that no more is taken. Does the workflow run?
            DestinationEnded: The run of an unkeyed workflow has ended.
            StoreUnavailable: Ask again.
        """
        for partition, rows in events.items():
            blobs = [encode(row) for row in rows]
            for start in range(0, len(blobs), _ASKED_AT_ONCE):
                await self._ask(partition, blobs[start : start + _ASKED_AT_ONCE])

    async def _ask(self, partition: int, blobs: list[bytes]) -> None:
        store = self._store
        head = PartitionKeys(store.workflow_name, partition).head
        answer = await self._written(head, secrets.token_hex(16), blobs)
        match answer[0]:
            case b"FULL":
                raise StoreFull(f"partition {partition} of {store.workflow_name}", f"{MOST} runs are to be ended there")
            case b"ENDED":
                raise DestinationEnded(store.workflow_name)
        self._last[partition] = answer[1].decode()

    async def _written(self, head: str, asked: str, blobs: list[bytes]) -> Any:
        """What the script answers; a lost answer is asked for again."""
        for _ in range(_TRIES - 1):
            try:
                return await self._durable.write(_CONTROL, Effect.CONTROL, head, asked, str(MOST), *blobs)
            except StoreUnavailable:
                await asyncio.sleep(_TRY_AGAIN)
        return await self._durable.write(_CONTROL, Effect.CONTROL, head, asked, str(MOST), *blobs)

    async def done(self, within: float) -> bool:
        """Wait until all that was asked is done; False if it is not within so many seconds.

        Raises:
            StoreUnavailable: Ask again.
        """
        deadline = asyncio.get_running_loop().time() + within
        left = dict(self._last)
        while True:
            for partition, entry in list(left.items()):
                if await self._is_done(partition, entry):
                    del left[partition]
            if not left or asyncio.get_running_loop().time() > deadline:
                return not left
            await asyncio.sleep(_LOOK_AGAIN)

    async def _is_done(self, partition: int, entry: str) -> bool:
        head = await self._store.head(partition)
        return bool(head.counters.get("ended")) or _order(head.positions.get(CONTROL, "0-0")) >= _order(entry)


def to_terminate(rows: Iterable[RunRow], reason: str | None) -> dict[int, list[ControlEvent]]:
    """What is to be asked so that these runs end; not those that take their keys over meanwhile.

    Args:
        rows: The runs, as they were listed.
        reason: Kept as their result.
    """
    events: dict[int, list[ControlEvent]] = defaultdict(list)
    text = msgspec.json.encode(reason).decode()
    for row in rows:
        events[row.partition].append(ControlEvent("terminate", row.key, row.number, text))
    return events


async def drop_letters_of(store: Store, keys: frozenset[str], partitions: int) -> int:
    """Take out all dead letters of some keys, wherever they lie. Returns how many there were.

    Args:
        store: The workflow's.
        keys: Of runs.
        partitions: How many the workflow has: a record that was no event is in the partition that it was read by.

    Raises:
        StoreUnavailable: Ask again.
    """
    dropped = 0
    for partition in range(partitions):
        after = "0"
        while found := await store.dead_letters(partition, after=after, limit=AT_ONCE):
            after = found[-1][0]
            entries = [entry for entry, letter in found if letter.key in keys]
            if entries:
                with store_errors(store.address), effect(Effect.DEAD_DROP):
                    answer: Any = store.client.xdel(store.keys(partition).dead, *entries)
                    dropped += await answer
    return dropped


def _order(entry: str) -> tuple[int, int]:
    time, _, number = entry.partition("-")
    return int(time), int(number)
