"""A process that dies right before or right after it made something durable: the store shows which."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from headrace.actors.store import Store
from headrace.workflows.commit import Answer, Commit, Output

PROGRAM = """
import asyncio, sys
from headrace.actors.store import Store
from headrace.sources.channel import ChannelSender
from headrace.workflows.commit import Commit, Output

async def main(url):
    async with Store(url, "w", channels={"lines": 9}) as store:
        owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
        sender = ChannelSender(url, "w", "lines", partitions=1, capacity=9)
        for sequence in range(1, 5):
            await sender.send(sequence)
            await store.commit(0, owner, Commit(sequence=sequence, outputs=[Output(0, str(sequence), "k", 0, b"1")]))
            await store.trim_outbox(0, owner, sequence)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("crash_at", "sent", "sequence", "outbox"),
    [
        ("before:acquire", 0, 0, []),
        ("after:acquire", 0, 0, []),
        ("before:channel-append:2", 1, 1, []),
        ("after:channel-append:2", 2, 1, []),
        ("before:commit:2", 2, 1, []),
        ("after:commit:2", 2, 2, ["2"]),
        ("before:outbox-trim:2", 2, 2, ["2"]),
        ("after:outbox-trim:2", 2, 2, []),
    ],
)
async def test_what_was_durable_before_the_crash_is_there_and_nothing_else(
    redis_url: str, crash_at: str, sent: int, sequence: int, outbox: list[str]
) -> None:
    environment = {**os.environ, "HEADRACE_CRASH_AT": crash_at}
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, redis_url, env=environment)
    assert await asyncio.wait_for(program.wait(), 60) == -signal.SIGKILL

    async with Store(redis_url, "w") as store:
        assert await store.client.xlen(store.keys(0).stream("channel:lines")) == sent
        found = await store.outbox(0, 0, 10)
        assert [output.id for _, outputs in found for output in outputs] == outbox

        head = await store.acquire(0, term=1, placement=2, worker="worker/1")
        assert head.sequence == sequence
        follower = Commit(sequence=sequence + 1, outputs=[Output(0, "next", "k", 0, b"1")])
        assert await store.commit(0, head.owner, follower) is Answer.APPLIED
        assert (await store.outbox(0, sequence, 10))[0][0] == sequence + 1
