"""Channels: bounded, fair, closable sources that any process of the cluster can send to."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic

import msgspec
from typing_extensions import TypeVar

from headrace.sources.channel_lane import Lane
from headrace.sources.connection import Client, address_of, connect, store_errors
from headrace.sources.durable import Durable
from headrace.workflows.codec import encode_json, json_codec
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.fields import field_of
from headrace.workflows.keyspace import PartitionKeys, partition_of, workflow_key
from headrace.workflows.ports import Source
from headrace.workflows.store import WorkflowDescriptor

D = TypeVar("D")

REDIS_URL: Final = "HEADRACE_REDIS_URL"
"""Environment variable with the store's address, for processes that only send."""


class ChannelUnbound(HeadraceError):
    """A channel was sent to in a process that does not know where its workflow runs."""

    def __init__(self, channel: str, missing: str) -> None:
        super().__init__(channel, missing)
        self.channel = channel
        self.missing = missing

    def __str__(self) -> str:
        return f"channel {self.channel!r} can't be reached from this process: {self.missing}"


class ChannelSender(Generic[D]):
    """A small handle to a channel: may be pickled, and used in any process that reaches the store.

    Args:
        url: Address of the store.
        workflow: Name of the workflow.
        channel: Name of the channel source.
        partitions: How many partitions the workflow has.
        capacity: Places of the channel in each partition.
        key: Field or function of the data that is the run's key; None in an unkeyed workflow.
        durability: What an event has to reach before `send` returns.
    """

    def __init__(
        self,
        url: str,
        workflow: str,
        channel: str,
        *,
        partitions: int,
        capacity: int,
        key: str | Callable[[D], str] | None = None,
        durability: Durability = FAST,
    ) -> None:
        self._made_of = (url, workflow, channel, partitions, capacity, key, durability)
        self._url = url
        self._workflow = workflow
        self._channel = channel
        self._partitions = partitions
        self._capacity = capacity
        self._key = key
        self._durability = durability
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: tuple[Client, Client] | None = None
        self._lanes: dict[int, Lane] = {}

    def __reduce__(self) -> tuple[Callable[..., ChannelSender[Any]], tuple[Any, ...]]:
        return _sender, self._made_of

    async def send(self, data: D) -> None:
        """Put one event into the channel; waits while it is full, in the order in which senders came.

        What one handle sends for a key is processed in the order of its calls. When this returns, the
        event is in the store, as durable as the workflow's level says, and outlives any process of Headrace.

        Raises:
            SourceClosed: The channel is closed, or its workflow has ended.
            StoreUnavailable: The store was away for half a minute; the event may be in it or not. As `NotDurable`:
                it is, but not durable.
            CodecError: JSON can't carry the data.
        """
        body = encode_json(data)
        key = self._key_of(data)
        await self._lane(partition_of(key, self._partitions) if key else 0).send(key, body)

    async def close(self) -> None:
        """Close the channel for everybody: what is in it is still processed, every sender gets `SourceClosed`."""
        for partition in range(self._partitions):
            await self._lane(partition).close_channel()

    async def remainder(self) -> list[bytes]:
        """What lies in the channel and is not processed (JSON), in order within each partition."""
        found: list[bytes] = []
        for partition in range(self._partitions):
            found += await self._lane(partition).remainder()
        return found

    async def disconnect(self) -> None:
        """Let go of the connections; the channel stays as it is, and the next `send` connects again."""
        if self._loop is asyncio.get_running_loop():
            for client in self._clients or ():
                await client.aclose()

    def _key_of(self, data: D) -> str:
        if self._key is None:
            return ""
        if callable(self._key):
            return self._key(data)
        return str(field_of(data, self._key))

    def _lane(self, partition: int) -> Lane:
        loop = asyncio.get_running_loop()
        if self._clients is None or loop is not self._loop:
            self._loop = loop
            client = connect(self._url)
            waiting = connect(self._url, connections=self._partitions, blocking=True)
            self._clients = (client, waiting)
            self._durable = Durable(client, address_of(self._url), self._durability)
            self._lanes = {}
        lane = self._lanes.get(partition)
        if lane is None:
            keys = PartitionKeys(self._workflow, partition)
            lane = Lane(*self._clients, self._durable, address_of(self._url), keys, self._channel, self._capacity)
            self._lanes[partition] = lane
        return lane


def _sender(
    url: str,
    workflow: str,
    channel: str,
    partitions: int,
    capacity: int,
    key: str | Callable[[Any], str] | None,
    durability: Durability,
) -> ChannelSender[Any]:
    return ChannelSender(
        url, workflow, channel, partitions=partitions, capacity=capacity, key=key, durability=durability
    )


class ChannelSource(Source[D], Generic[D]):
    """Events sent by your own code, from any process.

    Bounded (`send` waits while the channel is full), fair (who waits longest goes first) and closable. Events lie
    in the store until they are processed, so they survive the loss of any process of Headrace; but there is no log
    behind them: they are as safe as the store is, and an event that is done can't be read again.

    Args:
        type: What its data are: a Struct, a dataclass, or whatever JSON can carry.
        capacity: Events that may wait in each partition.
        key: Field or function of the data that is the run's key; None in an unkeyed workflow.
        name: Unique within the workflow; default: the type's name in small letters.

    Examples:
        >>> ChannelSource(int, capacity=2, name="celsius").name
        'celsius'
    """

    kind: ClassVar[str] = "channel"
    feeder: ClassVar[str] = "headrace.sources.streams:make_readers"
    urgent: ClassVar[bool] = True

    def __init__(
        self,
        type: builtins.type[D],
        *,
        capacity: int,
        key: str | Callable[[D], str] | None = None,
        name: str = "",
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: a channel needs room for one event at least")
        self.type = type
        self.capacity = capacity
        self.key = key
        self.name = name or getattr(type, "__name__", "channel").lower()
        self._workflow: str | None = None
        self._url: str | None = None
        self._sender: ChannelSender[D] | None = None

    def bind(self, workflow: str, url: str | None = None) -> None:
        """Say which workflow this is a source of, and where its store is (else: `HEADRACE_REDIS_URL`)."""
        self._workflow = workflow
        self._url = url or self._url
        self._sender = None

    async def sender(self) -> ChannelSender[D]:
        """A handle to send by, which may be pickled and given to other processes.

        Raises:
            ChannelUnbound: This process knows no store, or the workflow was never started there.
        """
        if self._sender is None:
            url = self._url or os.environ.get(REDIS_URL)
            if self._workflow is None:
                raise ChannelUnbound(self.name, "it is no workflow's source. Call workflow.source(channel) first")
            if not url:
                raise ChannelUnbound(self.name, f"set {REDIS_URL} to the address of the workflow's store")
            found = await _descriptor(url, self._workflow, self.name)
            self._sender = ChannelSender(
                url, self._workflow, self.name, partitions=found.partitions, capacity=self.capacity, key=self.key,
                durability=Durability.parse(found.durability),
            )  # fmt: skip
        return self._sender

    async def send(self, data: D) -> None:
        """Put one event into the channel; see `ChannelSender.send`."""
        await (await self.sender()).send(data)

    async def close(self) -> None:
        """Close the channel for everybody; see `ChannelSender.close`."""
        await (await self.sender()).close()

    async def remainder(self) -> list[D]:
        """What lies in the channel and is not processed, in order within each partition."""
        decode = json_codec(self.type).decode
        return [decode(blob) for blob in await (await self.sender()).remainder()]


async def _descriptor(url: str, workflow: str, channel: str) -> WorkflowDescriptor:
    address = address_of(url)
    client = connect(url, connections=1)
    try:
        with store_errors(address):
            blob: Any = await client.get(workflow_key(workflow))
    finally:
        await client.aclose()
    if blob is None:
        raise ChannelUnbound(channel, f"the store at {address} knows no workflow {workflow!r}. Start it first")
    return msgspec.json.decode(blob, type=WorkflowDescriptor)
