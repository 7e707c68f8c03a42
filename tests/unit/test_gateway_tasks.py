"""Tasks of the gateway end when it does."""

from __future__ import annotations

import asyncio

from headrace.gateway.tasks import end


async def test_a_task_that_loses_a_cancellation_is_told_again() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)

    await asyncio.wait_for(end([task]), 10)

    assert task.cancelled()


async def test_what_has_ended_already_is_no_matter() -> None:
    async def fail() -> None:
        raise ValueError("before")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])

    await end([task])
    await end([])
