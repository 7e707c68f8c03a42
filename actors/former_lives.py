"""Ways between workflows across a restore: which numbers of a former life a restored workflow shares with it.

Where events come in from other partitions or workflows, the last number of each way is known (`from`); a way is named
by the incarnation of who sends. A restored workflow has a new one, so that nothing of its former life is met by
mistake, but what lies in its outbox may have arrived in the former life. It must not arrive twice; what the former life
has sent after the backup is something else, and its numbers are given again.

So a restored workflow leaves in `hr:{workflow}:former` for each way of former lives the number up to which they are the
same, and where events come in the new way is entered with what is known of the old one, up to there. A workflow that is
restored itself may have lost what others sent after its backup: a `+` behind the number says that the next may be any
higher one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.key_format import KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.keyspace import PartitionKeys, incarnation_key

_OPEN: Final = "+"
_WAY: Final = "to:"


def former_key(workflow: str) -> str:
    """Hash: way of a former life -> last number that the present life shares with it."""
    return f"hr:{{{workflow}}}:former"


def incoming(fields: Iterable[tuple[str, str]], workflow: str, before: str, after: str) -> list[tuple[str, str]]:
    """`from` of a partition that is restored: its own ways go on in the new life, others may have gone on without it.

    Args:
        fields: Way and number of each.
        workflow: The one that is restored.
        before: Incarnation that the backup is of.
        after: The new one.
    """
    own = f"{before}/{workflow}/"
    return [
        (f"{after}/{workflow}/{way.removeprefix(own)}", last)
        if way.startswith(own)
        else (way, last.removesuffix(_OPEN) + _OPEN)
        for way, last in fields
    ]


def outgoing(head: Mapping[str, str], workflow: str, partition: int, incarnation: str) -> dict[str, str]:
    """Ways to other workflows on which a partition has sent, and their last numbers, from its head.

    Args:
        head: Its fields.
        workflow: Who sends.
        partition: Number of the partition.
        incarnation: Its life.
    """
    return {
        f"{incarnation}/{workflow}/{partition}/{name.removeprefix(_WAY).removesuffix(':')}": last
        for name, last in head.items()
        if name.startswith(_WAY) and name.endswith(":")
    }


async def rejoin(registry: Registry, workflow: str, partitions: int) -> None:
    """Enter the ways of present lives wherever a restored workflow sends to, or is sent to.

    Args:
        registry: The store.
        workflow: The one that is restored; nobody runs it yet.
        partitions: How many it has.

    Raises:
        StoreUnavailable: Ask again.
    """
    for other in await registry.workflows():
        if other == workflow:
            continue
        with suppress(RestoreUnfinished, KeyFormatUnknown):  # the one does it itself, the other is not to be touched
            found = await registry.workflow(other)
            if found is not None:
                await _enter(registry, workflow, other, found.partitions)
                await _enter(registry, other, workflow, partitions)


async def _enter(registry: Registry, sender: str, receiver: str, partitions: int) -> None:
    with store_errors(registry.address):
        shared = _texts(await _wait(registry.client.hgetall(former_key(sender))))
        life: Any = await registry.client.get(incarnation_key(sender))
    if not shared or life is None:
        return
    for number in range(partitions):
        key = f"{PartitionKeys(receiver, number).prefix}from"
        with store_errors(registry.address):
            known = _texts(await _wait(registry.client.hgetall(key)))
        for way, last in present(known, shared, life.decode()).items():
            # If it is there, the sender has gone on in this life already, and it is no news.
            with store_errors(registry.address), effect(Effect.RESTORE):
                await _wait(registry.client.hsetnx(key, way, last))


def present(known: Mapping[str, str], shared: Mapping[str, str], life: str) -> dict[str, str]:
    """The ways of a sender's present life, from what a receiver knows of its former ones.

    Args:
        known: The receiver's ways, and last numbers.
        shared: See `former_key`, of the sender.
        life: The sender's incarnation.
    """
    found: dict[str, tuple[int, str]] = {}
    for way, last in known.items():
        if way in shared:
            new = f"{life}/{way.partition('/')[2]}"
            number = min(int(last.removesuffix(_OPEN)), int(shared[way]))
            found[new] = max(found.get(new, (-1, "")), (number, _OPEN if last.endswith(_OPEN) else ""))
    return {way: f"{number}{mark}" for way, (number, mark) in found.items()}


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


async def _wait(answer: Any) -> Any:
    return await answer
