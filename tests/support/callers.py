"""Callers of a workflow with requests, and what they were promised."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading

from headrace.actors.store_requests import Admission, RequestStore
from headrace.gateway.bridge import Bridge
from headrace.workflows.durability import Durability
from headrace.workflows.keyspace import partition_of
from headrace.workflows.store import StoreUnavailable

KEYS = 8
CALLERS = 4
"""Requests that are under way at a time."""


class Callers:
    """A gateway's bridge and callers of it, in a thread of their own, from `with` to its end.

    Args:
        url: The store.
        workflow: Its name; it has 4 partitions.
        durability: The workflow's.
    """

    def __init__(self, url: str, workflow: str, durability: Durability) -> None:
        self._url, self._workflow, self._durability = url, workflow, durability
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.accepted: dict[str, int] = {}
        """Requests that were answered by a 2xx, and their partitions."""
        self.answers: dict[str, bytes] = {}
        """Replies that callers got."""
        self.refused = 0
        """Requests of which nobody was told that they are safe."""

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        store = RequestStore(self._url)
        bridge = Bridge(self._url, store)
        await bridge.open()
        await asyncio.gather(*(self._call_again_and_again(bridge) for _ in range(CALLERS)))
        await bridge.close()
        await store.close()

    async def _call_again_and_again(self, bridge: Bridge) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            key, request = f"c{number % KEYS}", f"request-{number}"
            partition = partition_of(key, 4)
            body = json.dumps({"sensor": key}).encode()
            try:
                admission, reply = await bridge.ask(
                    self._workflow, partition, key, "asks", body, request=request, wait=0.5,
                    durability=self._durability,
                )  # fmt: skip
            except StoreUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            if admission is not Admission.FULL:
                self.accepted[request] = partition
            if reply is not None:
                self.answers[request] = reply
            await asyncio.sleep(0.01)

    async def broken(self) -> list[str]:
        """Promises that the store, as it is now, does not keep."""
        wrong = []
        async with RequestStore(self._url) as store:
            for request, partition in self.accepted.items():
                stored = (await store.replies([(self._workflow, partition, request)]))[0]
                if stored is None:
                    wrong.append(f"{request} was accepted and never processed")
                elif self.answers.get(request, stored) != stored:
                    wrong.append(f"{request} was answered {self.answers[request]!r}, the store has {stored!r}")
        return wrong
