"""One partition of a workflow behind a gateway that listens at a port: tests say what its nodes write and commit."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import msgspec

from headrace.actors.store import Store
from headrace.actors.store_streams import StreamWriter
from headrace.gateway.gateway import Gateway
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.workflows.commit import Answer, Commit, Reply
from headrace.workflows.envelope import RequestAnswer, encode
from headrace.workflows.run_streams import order_of
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from headrace.workflows.streaming import StreamPlace

WORKFLOW = "talk"


class Sent(NamedTuple):
    """A server-sent event."""

    kind: str
    data: Any
    id: str = ""


def events_in(text: bytes) -> list[Sent]:
    """All that are whole, as a client takes them."""
    found = []
    for part in text.split(b"\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in part.decode().splitlines():
            name, _, value = line.partition(": ")
            fields[name] = value
        if "event" in fields:
            found.append(Sent(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id", "")))
    return found


def values_in(events: list[Sent]) -> list[Any]:
    """The values that count, as a client has them that drops what resets name."""
    values: list[Sent] = []
    for event in events:
        if event.kind == "value":
            values.append(event)
        elif event.kind == "reset":
            values = [row for row in values if order_of(row.id) < order_of(event.data["from"])]
    return [row.data for row in values]


class Rig:
    """The owner of partition 0, and a client of the gateway."""

    def __init__(self, store: Store, writer: StreamWriter, http: httpx.AsyncClient, thread: GatewayThread) -> None:
        self.store, self.http, self.thread = store, http, thread
        self._writer = writer
        self._numbers = itertools.count(1)
        self._sequence = 0

    @property
    def gateway(self) -> Gateway:
        """Of the thread."""
        gateway: Gateway = self.thread.app.state.gateway
        return gateway

    async def own(self) -> None:
        """Take the partition over."""
        head = await self.store.acquire(0, term=1, placement=1, worker="worker/0")
        self.owner, self._sequence = head.owner, head.sequence

    async def commit(self, **parts: Any) -> None:
        """Commit an epoch."""
        self._sequence += 1
        assert await self.store.commit(0, self.owner, Commit(self._sequence, **parts)) is Answer.APPLIED

    async def begin(self, key: str = "a", *, number: int = 1, **values: tuple[int, Any]) -> None:
        """A run begins, or sets values: (version, value)."""
        fields = ["status", "running", "number", str(number)]
        for name, (version, value) in values.items():
            fields += [f"value:{name}", f"{version} {msgspec.json.encode(value).decode()}"]
        await self.commit(runs={key: fields}, changed=[key])

    async def end(self, key: str = "a", *, number: int = 1) -> None:
        """A run ends, and with it its streams."""
        fields = ["status", "completed", "number", str(number), "ended", "1"]
        await self.commit(runs={key: fields}, ended_runs={key: number}, ended={key: 60_000}, changed=[key])

    async def write(
        self, *values: Any, event: str = "e", token: str = "t", stream: str = "s", key: str = "a", first: int = 1
    ) -> StreamPlace:
        """A node writes."""
        place = StreamPlace(key, 1, stream, "node", f"{event}/0")
        for number, value in enumerate(values, first):
            await self._writer.append(0, self.owner, place, token, number, msgspec.json.encode(value))
        return place

    async def reply(self, request: str, channel: str, value: Any, **parts: Any) -> None:
        """Answer a request."""
        body = encode(RequestAnswer(kind="reply", value=msgspec.Raw(msgspec.json.encode(value))))
        await self.commit(replies=[Reply(request, channel, body)], **parts)

    async def request(self) -> tuple[str, str]:
        """Id and reply channel of the next request in the inbox."""
        while True:
            entries: Any = await self.store.client.xrange(self.store.keys(0).inbox, "-", "+")
            if entries:
                fields = entries[-1][1]
                return fields[b"id"].decode(), fields[b"reply"].decode()
            await asyncio.sleep(0.01)

    async def follow(self, stream: str = "s", last: str = "", *, key: str = "a") -> bytes:
        """All that a follower gets, until it is over."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        answer = await self.http.get(f"/runs/{key}/streams/{stream}", headers=headers)
        assert answer.status_code in (200, 204), answer.text
        return answer.content


@asynccontextmanager
async def http_rig(redis_url: str, settings: GatewaySettings | None = None) -> AsyncIterator[Rig]:
    """A gateway over an empty store."""
    thread = GatewayThread(redis_url, settings or GatewaySettings(port=0))
    writer = StreamWriter(redis_url, WORKFLOW, 7)
    async with Store(redis_url, WORKFLOW) as store:
        requests = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name=WORKFLOW, partitions=1, sources=(requests,)))
        address = await asyncio.to_thread(thread.__enter__)
        limits = httpx.Limits(max_connections=2000)
        base = f"{address}/v1/workflows/{WORKFLOW}"
        try:
            async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as http:
                rig = Rig(store, writer, http, thread)
                await rig.own()
                yield rig
        finally:
            await asyncio.to_thread(thread.__exit__, None, None, None)
            await writer.close()
