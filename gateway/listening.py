"""What is published of partitions: one connection of this process, however many listen to it.

What is published gets lost whenever the connection breaks. So whoever listens reads first, and again each time that
it is told; all are told, too, as soon as their channels are subscribed to, again and again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from headrace.gateway.hearing import Hearing
from headrace.gateway.tasks import end
from headrace.sources.connection import connect, store_errors
from headrace.sources.ear import Heard
from headrace.sources.routing import subscription
from headrace.workflows.keyspace import PartitionKeys


class Topic(NamedTuple):
    """What one listens to: a channel, and what of it."""

    channel: str
    about: tuple[str, ...]
    """Key of a run; or that, and one of its streams."""

    @classmethod
    def run(cls, keys: PartitionKeys, key: str) -> Topic:
        """A run's values, status and wait."""
        return cls(keys.changes, (key,))

    @classmethod
    def streams(cls, keys: PartitionKeys, key: str, *name: str) -> Topic:
        """All streams of a run, or one."""
        return cls(keys.streamed, (key, *name))


class Listener(Hearing):
    """Tells who listens; one for each gateway process and event loop.

    Args:
        url: Address of the store.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, "changes_interrupted")
        self._client = connect(url, connections=2, blocking=True)
        self._own = f"hr:listener:{secrets.token_hex(8)}"
        """A channel on which nothing comes, so that there always is one."""
        self._ears: dict[str, dict[tuple[str, ...], set[asyncio.Event]]] = {}
        """By channel, and what about."""
        self._subscribed: set[str] = set()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.connections = 0
        """How often it has connected."""

    @property
    def topics(self) -> int:
        """How many topics somebody listens to."""
        return sum(map(len, self._ears.values()))

    @contextmanager
    def listen(self, *topics: Topic, ear: asyncio.Event) -> Iterator[None]:
        """Set `ear` whenever there may be something new of a topic; clear it, then read."""
        for topic in topics:
            self._ears.setdefault(topic.channel, {}).setdefault(topic.about, set()).add(ear)
        self._more.set()
        if self._task is None:
            self._task = asyncio.create_task(self._hear_forever(), name="change-listener")
        try:
            yield
        finally:
            for topic in topics:
                self._drop(topic, ear)
            self._more.set()

    def _drop(self, topic: Topic, ear: asyncio.Event) -> None:
        by_topic = self._ears[topic.channel]
        by_topic[topic.about].discard(ear)
        if not by_topic[topic.about]:
            del by_topic[topic.about]
        if not by_topic:
            del self._ears[topic.channel]

    def tell_all(self) -> None:
        """All may have missed something, or are to look what else has changed."""
        for channel in self._ears:
            self._tell_channel(channel)

    async def close(self) -> None:
        """Hear no more; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await end([task])
        await self._client.aclose()

    async def _hear_once(self) -> None:
        """Tell until the connection breaks; always ends by an error."""
        with store_errors(self._address):
            async with subscription(self._client) as heard:
                self._subscribed = set(self._ears)
                await heard.subscribe(self._own, *self._subscribed)
                self.connections += 1
                tasks = [asyncio.create_task(self._hear(heard)), asyncio.create_task(self._keep_subscribed(heard))]
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    await end(tasks)

    async def _keep_subscribed(self, heard: Heard) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            wanted = set(self._ears)
            fresh, gone = wanted - self._subscribed, self._subscribed - wanted
            self._subscribed = wanted
            if fresh:
                await heard.subscribe(*fresh)
            if gone:
                await heard.unsubscribe(*gone)

    async def _hear(self, heard: Heard) -> None:
        while True:
            self._take(await self._message(heard))

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.listening = True
            self._tell_channel(message["channel"].decode())
        elif message["type"] == "message":
            by_topic = self._ears.get(message["channel"].decode(), {})
            for about in _topics(message["channel"], message["data"]) if by_topic else ():
                self._tell(by_topic.get(about, ()))

    def _tell_channel(self, channel: str) -> None:
        for ears in self._ears.get(channel, {}).values():
            self._tell(ears)

    def _tell(self, ears: Iterable[asyncio.Event]) -> None:
        for ear in ears:
            ear.set()


def _topics(channel: bytes, data: bytes) -> list[tuple[str, ...]]:
    """What a message is about: some runs; or a run, and a stream of it."""
    names: list[str] = msgspec.json.decode(data)
    if channel.endswith(b":streamed"):
        return [(names[0],), (names[0], names[1])]
    return [(name,) for name in names]
