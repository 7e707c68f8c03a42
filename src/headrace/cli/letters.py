"""The newest dead letter of a workflow: most often it tells at once what is wrong with what was sent."""

from __future__ import annotations

import msgspec

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.commit import DeadLetter
from headrace.workflows.keyspace import PartitionKeys

_LONGEST = 300


async def newest_letter(url: str, workflow: str, partitions: int) -> DeadLetter | None:
    """The one that came last; None when there is none.

    Raises:
        StoreUnavailable: Ask again.
    """
    registry = Registry(url, connections=1)
    try:
        with store_errors(registry.address):
            pipe = registry.client.pipeline(transaction=False)
            for partition in range(partitions):
                pipe.xrevrange(PartitionKeys(workflow, partition).dead, count=1)
            found = await pipe.execute()
    finally:
        await registry.close()
    letters = [msgspec.msgpack.decode(fields[b"blob"], type=DeadLetter) for entries in found for _, fields in entries]
    return max(letters, key=lambda letter: letter.time, default=None)


def sentence_of(letter: DeadLetter) -> str:
    """Where it came from, where it stopped, and why; on one line."""
    key = f" of {letter.key}" if letter.key else ""
    place = f" at {letter.node}" if letter.node else ""
    text = " ".join(f"{letter.reason}: {letter.error}".split())
    return f"last dead letter: {letter.source}{key}{place}, {text[:_LONGEST]}"
