"""The end of the demo: an unkeyed workflow fed by a channel, which a critical temperature terminates."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from temperature_channel import Celsius, measurements
from temperature_cluster import Servers, prepare, running

from headrace import SourceClosed
from headrace.actors.store import Store

SENT = (20.0, 31.0, 9.0, 45.0, 22.0)
"""Degrees Celsius; the fourth ends the run."""


@dataclass(frozen=True)
class Ending:
    """What was seen."""

    status: str
    reason: str
    classified: list[float]
    warned: list[float]
    remainder: list[float]
    """Sent, but behind the end."""
    senders_are_told: bool

    @property
    def as_expected(self) -> bool:
        """Whether it ended by the fourth measurement, and how it must."""
        return self == Ending("terminated", "45.0 degrees", [20.0, 31.0, 9.0, 45.0], [31.0, 9.0], [22.0], True)


def run_to_its_end(where: Servers) -> Ending:
    """Fill the channel, then start the workflow and wait until it has ended itself."""
    deployment = prepare("temperature_channel.py", where, fuse=True, spares=0)
    measurements.bind(deployment.workflow, where.redis_url)
    asyncio.run(_send())
    with running(deployment):
        return asyncio.run(_see(where, deployment.workflow))


async def _send() -> None:
    sender = await measurements.sender()
    for value in SENT:
        await sender.send(Celsius(value))
    await sender.disconnect()


async def _see(where: Servers, workflow: str) -> Ending:
    async with Store(where.redis_url, workflow) as store, asyncio.timeout(30):
        run = await store.run(0, "")
        while run.get("status", b"running") == b"running":
            await asyncio.sleep(0.02)
            run = await store.run(0, "")
    sender = await measurements.sender()
    remainder = [celsius.value for celsius in await measurements.remainder()]
    try:
        await sender.send(Celsius(20.0))
    except SourceClosed:
        told = True
    else:
        told = False
    await sender.disconnect()
    state: dict[str, Any] = {node: json.loads(run[f"node:{node}"]) for node in ("classify", "warn")}
    return Ending(
        status=run["status"].decode(),
        reason=json.loads(run["result"]),
        classified=state["classify"]["values"],
        warned=state["warn"]["values"],
        remainder=remainder,
        senders_are_told=told,
    )
