"""Ends a workflow by way of the store: what `dev` and `run` run, and what was deployed."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Final

from headrace.actors.deployments import begin_change, end_change, get_deployment, is_stopped, mark_stopped
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns
from headrace.cli.screen import Screen
from headrace.cli.stops import ask_to_stop, asked_to_stop, is_running
from headrace.workflows.store import StoreUnavailable

STOP_WITHIN: Final = 45.0
"""Seconds: draining may take 20, ending the processes some more."""
_PERIOD: Final = 0.2


def stop(
    workflow: str, urls: list[str], screen: Screen, *, as_json: bool = False, within: float = STOP_WITHIN
) -> ExitCode:
    """Have a workflow stop, and wait until it has.

    Raises:
        NothingRuns: It does not run (and was not deployed), or does not stop in time.
    """
    ran = [asyncio.run(_stop(url, workflow, within)) for url in urls]
    if as_json:
        screen.json({"workflow": workflow, "stopped": True, "was_running": any(ran)})
    elif any(ran):
        screen.say(f"{workflow} has stopped.")
    else:
        screen.say(f"{workflow} was not running; it stays stopped until it is deployed again.")
    return ExitCode.OK


async def _stop(url: str, workflow: str, within: float) -> bool:
    """True: it was running."""
    async with Registry(url, connections=1) as registry:
        deployment, running = await get_deployment(registry, workflow), await is_running(registry, workflow)
        if deployment is not None and deployment.cluster:
            return await _stop_deployed(registry, deployment, within, running=running)
        if not running:
            raise NothingRuns(f"{workflow} is not running with the store at {registry.address}.")
        await _stop_local(registry, workflow, within)
        return True


async def _stop_local(registry: Registry, workflow: str, within: float) -> None:
    """Ask the process that runs it."""
    deadline = time.monotonic() + within
    await ask_to_stop(registry, workflow)
    while time.monotonic() < deadline:
        await asyncio.sleep(_PERIOD)
        try:
            if not await asked_to_stop(registry, workflow):
                return
        except StoreUnavailable:
            return  # an embedded store ends with the process that started it
    raise NothingRuns(
        f"{workflow} has not stopped within {within:.0f} s: the process that runs it (headrace dev or run) does not"
        " react. Press Ctrl-C there, or end it."
    )


async def _stop_deployed(registry: Registry, deployment: Deployment, within: float, *, running: bool) -> bool:
    """Say in the store that it is not to run: its supervisor ends it, and nobody brings it back."""
    workflow, who = deployment.workflow, f"{socket.gethostname()}, process {os.getpid()}"
    if not running and await is_stopped(registry, workflow):
        raise NothingRuns(f"{workflow} is stopped already.")
    await begin_change(registry, workflow, who)
    try:
        await mark_stopped(registry, workflow)
        deadline = time.monotonic() + within
        while await is_running(registry, workflow):
            if time.monotonic() > deadline:
                raise NothingRuns(
                    f"{workflow} has not stopped within {within:.0f} s: its supervisor on the Ray cluster at"
                    f" {deployment.address} does not react. It is not brought back once it has ended."
                )
            await asyncio.sleep(_PERIOD)
    finally:
        await end_change(registry, workflow, who)
    return running
