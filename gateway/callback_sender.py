"""Tells what is to be told: takes due callbacks of all workflows in hand, calls, and writes down what came of it.

Every gateway process has one, and they share the work by what each of them takes in hand. What a process that ended had
in hand falls due again. A receiver that is slow or broken holds up nobody else: calls to one are limited, and after
failures it is left alone for a while, as each process sees it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from headrace.actors.store_callbacks import Attempt, CallbackStore, Claimed, Outcome
from headrace.actors.store_requests import RequestStore
from headrace.gateway.callback_http import CallbackClient, Called
from headrace.gateway.callback_rules import Receivers, pause_before
from headrace.gateway.callback_targets import TargetRefused, TargetRules
from headrace.sources.standard_webhooks import FINAL, is_delivered, signed_headers
from headrace.workflows.durability import Durability
from headrace.workflows.store import StoreUnavailable, WorkflowDescriptor

_log = structlog.get_logger(__name__)

_PERIOD: Final = 0.25
"""Seconds between two looks."""
_LONGEST_PERIOD: Final = 5.0
_AT_ONCE: Final = 64
"""Calls of one process at the same time."""
_MARGIN: Final = 30.0
"""Seconds that a callback is in hand beyond those that a call may take."""
_ENDING: Final = 2.0
"""Seconds that calls under way have when the process ends."""
_TRIES: Final = 3
_KNOWN_FOR: Final = 10.0
"""Seconds that a workflow's descriptor is taken as it was read."""


class CallbackSender:
    """The sender of one process.

    Args:
        store: Connection to the store.
        rules: What may be called.
        secrets: That calls are signed with.
        within: Seconds for one call.
        first_pause: Seconds before the second attempt, at most.
        give_up: Seconds since it occurred (or was queued again) after which it is not tried any more.
        per_target: Calls to one receiver at the same time.
        client: Makes the calls; by default one of its own.
        chance: From 0 to 1.
    """

    def __init__(  # noqa: PLR0913  each is a setting
        self,
        store: RequestStore,
        rules: TargetRules,
        secrets: tuple[bytes, ...],
        *,
        within: float,
        first_pause: float,
        give_up: float,
        per_target: int,
        client: CallbackClient | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._callbacks = CallbackStore(store)
        self._rules = rules
        self._secrets = secrets
        self._within = within
        self._first_pause = first_pause
        self._give_up = give_up
        self._client = client or CallbackClient(rules, within=within)
        self._chance = chance
        self._receivers = Receivers(per_target)
        self._calls: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._known: dict[str, tuple[float, WorkflowDescriptor]] = {}

    async def open(self) -> None:
        """Begin. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._look_forever(), name="callback-sender")

    async def close(self) -> None:
        """Take nothing more in hand; calls under way get a moment. Idempotent."""
        self._stopping.set()
        task, self._task = self._task, None
        under_way = {*self._calls, *([] if task is None else [task])}
        if under_way:
            _, left = await asyncio.wait(under_way, timeout=_ENDING)
            for each in left:
                each.cancel()
            if left:
                await asyncio.wait(left, timeout=_ENDING)
        await self._client.close()

    async def _look_forever(self) -> None:
        pause = _PERIOD
        while not self._stopping.is_set():
            try:
                await self.look()
                pause = _PERIOD
            except StoreUnavailable as problem:
                if pause == _PERIOD:
                    _log.warning("callbacks_not_looked_at", reason=str(problem))
                pause = min(2 * pause, _LONGEST_PERIOD)
            except Exception:  # noqa: BLE001  a sender that ended would tell nobody anything
                _log.exception("callbacks_not_looked_at")
                pause = _LONGEST_PERIOD
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def look(self) -> None:
        """Take in hand what is due, as far as there is room, and begin to call.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        for name in await self._store.workflows():
            workflow = await self._workflow(name)
            if workflow is not None:
                await self._look_at(workflow)

    async def _workflow(self, name: str) -> WorkflowDescriptor | None:
        known = self._known.get(name)
        if known is None or time.monotonic() - known[0] > _KNOWN_FOR:
            found = await self._store.workflow(name)
            if found is None:
                self._known.pop(name, None)
                return None
            known = self._known[name] = (time.monotonic(), found)
        return known[1]

    async def _look_at(self, workflow: WorkflowDescriptor) -> None:
        firsts = await self._callbacks.first_due(workflow.name, workflow.partitions)
        there = [(due, partition) for partition, due in enumerate(firsts) if due is not None]
        if not there:
            return
        now = (time.time() + 1) * 1000  # which is due the store decides, by its own clock
        for due, partition in sorted(there):
            room = _AT_ONCE - len(self._calls)
            if due > now or room <= 0:
                return
            rows = await self._callbacks.claim(
                workflow.name, partition, room, lease=self._within + _MARGIN,
                durability=Durability.parse(workflow.durability),
            )  # fmt: skip
            for row in rows:
                call = asyncio.create_task(self._tell(row))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _tell(self, row: Claimed) -> None:
        try:
            target = self._rules.target(row.url).name
        except TargetRefused as error:
            await self._settle(row, "dead", 0, Attempt(at=_milliseconds(), milliseconds=0, error=error.reason))
            return
        wait = self._receivers.enter(target, time.monotonic())
        if wait:
            await self._settle(row, "postponed", wait * (1 + self._chance() / 10), None)
            return
        began, called, well = time.monotonic(), Called(error="broken off"), False
        attempt_at = _milliseconds()
        try:
            called = await self._client.post(row.url, self._headers(row), row.body)
            well = bool(called.refused or is_delivered(called.status) or called.status in FINAL)
        finally:
            self._receivers.leave(target, time.monotonic(), well=well, asked=called.retry_after)
        took = round((time.monotonic() - began) * 1000)
        outcome, after = self._outcome(row, called)
        attempt = Attempt(at=attempt_at, milliseconds=took, status=called.status, error=called.error)
        await self._settle(row, outcome, after, attempt)

    def _headers(self, row: Claimed) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "user-agent": "Headrace",
            "accept": "*/*",
            "connection": "close",
            **signed_headers(self._secrets, row.id, int(time.time()), row.body),
        }

    def _outcome(self, row: Claimed, called: Called) -> tuple[Outcome, float]:
        """What is to become of it, and in how many seconds."""
        if is_delivered(called.status):
            return "delivered", 0
        if called.refused or called.status in FINAL:
            return "dead", 0
        after = pause_before(row.tries + 1, self._first_pause, self._chance, called.retry_after)
        if time.time() + after > row.queued / 1000 + self._give_up:
            return "dead", 0
        return "retry", after

    async def _settle(self, row: Claimed, outcome: Outcome, after: float, attempt: Attempt | None) -> None:
        if outcome == "dead" and attempt is not None:
            _log.warning(
                "callback_given_up", workflow=row.workflow, run=row.run, callback=row.id, attempts=row.attempts + 1,
                status=attempt.status, reason=attempt.error,
            )  # fmt: skip
        for tries in range(1, _TRIES + 1):
            try:
                await self._callbacks.settle(row, outcome, after, attempt)
            except StoreUnavailable as problem:
                _log.info("callback_not_settled", callback=row.id, outcome=outcome, reason=problem.cause)
                await asyncio.sleep(_PERIOD * tries)
            else:
                return


def _milliseconds() -> int:
    return round(time.time() * 1000)
