"""Forgets what callers of the gateway have left of keys: answers, ids of requests, claims, callbacks, tickets.

The owner of a partition forgets what it holds of a key, and with it what is told of its runs. The rest lies under ids
of its own, and would go after a while: each of it says whose it is, and is looked for among all keys of the store, as
an index would cost every request something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.actors.store import Store
from headrace.sources.connection import Script, store_errors
from headrace.sources.routing import scan
from headrace.workflows.effects import Effect, effect
from headrace.workflows.envelope import run_of
from headrace.workflows.keyspace import PartitionKeys

_FORGET: Final = Script(Path(__file__).parent / "scripts" / "forget.lua")
_LOOKED_AT_ONCE: Final = 1000
_FORGOTTEN_AT_ONCE: Final = 500
_READ: Final = ("reply", "request", "callback")
_WAIT: Final = re.compile(r"[0-9]+\.[0-9]+(\.[0-9a-f]+)?")
"""Id of a wait, as in the name of its claim."""


class _OfTicket(msgspec.Struct):
    workflow: str = ""
    run: str = ""


async def forget_requests(store: Store, keys: Mapping[int, frozenset[str]]) -> int:
    """Take out all of it. Returns how much there was. May be repeated.

    Args:
        store: The workflow's.
        keys: Of runs, by partition; what these hold of them is forgotten.

    Raises:
        StoreUnavailable, NotDurable: Do it again.
    """
    gone = await _forget_tickets(store, frozenset().union(*keys.values()))
    found: dict[tuple[int, str], list[str]] = {(partition, key): [] for partition in keys for key in keys[partition]}
    match, place = f"hr:{{{store.workflow_name}/*}}:*", 0
    while True:
        with store_errors(store.address):
            place, names = await scan(store.client, place, match, _LOOKED_AT_ONCE)
        for owner, name in await _owned(store, keys, names):
            found[owner].append(name)
        if not place:
            break
    for (partition, key), names_of_key in found.items():
        for first in range(0, max(1, len(names_of_key)), _FORGOTTEN_AT_ONCE):
            some = names_of_key[first : first + _FORGOTTEN_AT_ONCE]
            head = PartitionKeys(store.workflow_name, partition).head
            gone += int(await store.durable.write(_FORGET, Effect.FORGET, head, key, *some))
    return gone


async def _owned(
    store: Store, keys: Mapping[int, frozenset[str]], names: Sequence[bytes]
) -> list[tuple[tuple[int, str], str]]:
    """Those of these keys of the store that are of somebody who is to be forgotten: whose, and their names."""
    start = len(f"hr:{{{store.workflow_name}/")
    owned: list[tuple[tuple[int, str], str]] = []
    read: list[tuple[bytes, int, str]] = []
    for name in names:
        number, _, rest = name[start:].decode().partition("}:")
        partition, kind = int(number), rest.partition(":")[0]
        if partition not in keys:
            continue
        if kind in _READ:
            read.append((name, partition, rest))
        elif kind == "claimed":
            key, _, wait = rest.removeprefix("claimed:").rpartition(":")
            if key in keys[partition] and _WAIT.fullmatch(wait):
                owned.append(((partition, key), rest))
    if read:
        pipe = store.client.pipeline(transaction=False)
        for name, _, rest in read:
            if rest.startswith("callback:"):
                pipe.hget(name, "run")
            else:
                pipe.get(name)
        with store_errors(store.address):
            values: list[bytes | None] = await pipe.execute()
        for (_, partition, rest), value in zip(read, values, strict=True):
            key = "" if value is None else _key_in(rest, value)
            if key in keys[partition]:
                owned.append(((partition, key), rest))
    return owned


def _key_in(name: str, value: bytes) -> str:
    if name.startswith("reply:"):
        return run_of(value)
    return value.decode() if name.startswith("callback:") else value.partition(b" ")[2].decode()


async def _forget_tickets(store: Store, keys: frozenset[str]) -> int:
    """Tickets to what their runs tell."""
    client: Any = store.client
    gone, place = 0, 0
    while True:
        with store_errors(store.address):
            place, names = await scan(store.client, place, "hr:ticket:*", _LOOKED_AT_ONCE)
            for name in names:
                value = await client.get(name)
                ticket = _OfTicket() if value is None else msgspec.json.decode(value, type=_OfTicket)
                if ticket.workflow == store.workflow_name and ticket.run in keys:
                    with effect(Effect.FORGET):
                        gone += await client.delete(name)
        if not place:
            return gone
