"""A stream for a session: through the runs of its key, one after the other, also before there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from headrace.actors.store_followed import FIRST
from headrace.gateway.following import KEEP_ALIVE, NEVER_WRITTEN, StreamPlace, Told
from headrace.gateway.gateway import Gateway
from headrace.gateway.listening import Topic
from headrace.workflows.keyspace import PartitionKeys


async def through_runs(gateway: Gateway, place: StreamPlace, last: str) -> AsyncGenerator[Told, None]:
    """Values, resets and ends of a stream, until this process ends.

    Args:
        gateway: Of this process.
        place: Of the stream.
        last: Id of the last that the client has had; empty: none.
    """
    ended = last if last.startswith(NEVER_WRITTEN) else ""
    after = FIRST if ended or not last else last
    ear = asyncio.Event()
    with gateway.listener.listen(Topic.run(PartitionKeys(place.workflow, place.partition), place.key), ear=ear):
        while not gateway.stopping:
            ear.clear()
            async with aclosing(gateway.follower.follow(place, after)) as tellings:
                async for told in tellings:
                    if told.kind == "gone":
                        break
                    if told.kind == "alive" or (told.kind == "end" and told.id == ended):
                        continue
                    yield told
                    if told.kind == "end" and told.id.startswith(NEVER_WRITTEN):
                        ended = told.id  # it has no entry to go on after
                    else:
                        after = told.id or FIRST
            if not gateway.stopping:
                await _heard(ear)


async def _heard(ear: asyncio.Event) -> None:
    """The run has gone a step on, or it is time to look."""
    try:
        async with asyncio.timeout(KEEP_ALIVE):
            await ear.wait()
    except TimeoutError:
        return
