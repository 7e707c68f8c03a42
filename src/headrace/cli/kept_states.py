"""`run` and `dev` on a store in which the workflow has states: looked at before anything is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

from headrace.actors.cluster import AlreadyRunning
from headrace.actors.deployments import get_deployment
from headrace.actors.spec import Deployment
from headrace.actors.state_check import SAMPLE
from headrace.actors.states_kept import make_ready, refuse_loss
from headrace.actors.store_registry import Registry
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.workflows.plan import Plan
from headrace.workflows.state_review import forgotten_renames

_LAPSED_WITHIN: Final = 4.0
"""Seconds after which the lease of a process that died has lapsed."""
_PERIOD: Final = 0.2


class KeptStates:
    """The states that are in the store when a version starts.

    Args:
        url: Of the store.
        plan: The version.
        drop: Names of nodes whose states may go.
    """

    def __init__(self, url: str, plan: Plan, drop: Collection[str]) -> None:
        self._url = url
        self._plan = plan
        self._drop = drop
        self._before: Deployment | None = None

    def refuse_loss(self) -> None:
        """See that none would be lost; looks at the first `SAMPLE` runs that are found.

        Raises:
            StatesLost: Some would be.
        """
        asyncio.run(self._refuse_loss())

    def make_ready(self, screen: Screen) -> None:
        """Drop what may go, move what was renamed before. Does nothing where there is nothing of both.

        Raises:
            AlreadyRunning: A workflow of this name runs with the same store.
        """
        renames = {} if self._before is None else self._before.renames
        if not self._drop and not forgotten_renames(renames, self._plan):
            return
        dropped = asyncio.run(self._make_ready())
        if dropped:
            screen.say(f"{dropped} state{'' if dropped == 1 else 's'} dropped.", "yellow")

    async def _refuse_loss(self) -> None:
        async with Registry(self._url, connections=1) as registry:
            self._before = await get_deployment(registry, self._plan.name)
            await refuse_loss(registry, self._before, self._plan, drop=self._drop, limit=SAMPLE)

    async def _make_ready(self) -> int:
        deadline = time.monotonic() + _LAPSED_WITHIN
        async with Registry(self._url, connections=1) as registry:
            while await is_running(registry, self._plan.name):
                if time.monotonic() > deadline:
                    raise AlreadyRunning(self._plan.name, "elsewhere, with the same store")
                await asyncio.sleep(_PERIOD)
            return await make_ready(registry, self._before, self._plan, drop=self._drop)
