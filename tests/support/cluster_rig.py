"""A workflow on Ray, Valkey and Kafka: each of its parts a process, as users run it."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from brokers import Topics
from headrace.actors.cluster import Cluster, deployment_of, launch
from headrace.actors.dead_letters import replay_letters
from headrace.actors.loading import load_workflow
from headrace.actors.run_control import Asking, drop_letters_of
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.actors.store_requests import Request, RequestStore
from headrace.actors.store_streams import StreamStore
from headrace.gateway.app import create_app
from headrace.gateway.bridge import Bridge
from headrace.gateway.keys import encode_key
from headrace.sources.channel import ChannelSender
from headrace.sources.kafka_lanes import ID_HEADER
from headrace.sources.kafka_log import offset_of
from headrace.testing import RunView
from headrace.workflows.codec import encode_json
from headrace.workflows.commit import DeadLetter
from headrace.workflows.control import ControlEvent
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.envelope import RequestAnswer, decode
from headrace.workflows.executing import source_of
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.inner_places import stands_of
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import NodePlan, SourcePlan
from headrace.workflows.records import Headers
from headrace.workflows.run_streams import Streamed
from headrace.workflows.streaming import KEPT
from rigs import D, Ended, F, Fuse, Rig, Senders
from waiting import until_async

T = TypeVar("T")

SUPPORT: Final = Path(__file__).parent
LARGEST: Final = 8 << 20
"""Bytes of the largest record that topics of these tests take."""
PARTITIONS: Final = 2
WITHIN: Final = 60.0
"""Seconds for anything to happen; only reached by a test that fails."""


class ProcessSenders(Senders):
    """Each in a process of its own, with a copy of the handle."""

    def __init__(self, rig: ClusterRig, sender: ChannelSender[Any], batches: Sequence[Sequence[Any]]) -> None:
        self._rig = rig
        self._processes = [_sending(sender, batch) for batch in batches]

    def wait_until_blocked(self) -> None:
        count = len(self._processes)
        self._rig.wait(lambda: self._rig.blocked_clients(count), f"{count} senders wait for room")

    def ends(self) -> list[Ended]:
        said = [process.communicate(timeout=WITHIN)[0] for process in self._processes]
        return [Ended(**json.loads(text)) for text in said]

    def stop(self) -> None:
        """End those that still run: a test has failed."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@dataclass(frozen=True)
class _Streams:
    """Streams of runs in the store, read as those in memory are."""

    store: StreamStore
    workflow: str
    partition: int
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def names(self, key: str) -> list[str]:
        return list(self.run(self.store.names(self.workflow, self.partition, key)))

    def read(self, key: str, name: str, after: str, limit: int) -> list[Streamed]:
        reading = self.store.read(self.workflow, self.partition, key, name, after=after, limit=min(limit, KEPT))
        return list(self.run(reading))


class ClusterRig(Rig):
    """On a cluster.

    Args:
        bootstrap: The broker.
        redis_url: A store of this test's own.
        topics: Makes topics, and removes them.
        fuse: `"all"`: all nodes inside the worker, which saves the time to start their processes.
    """

    def __init__(self, bootstrap: str, redis_url: str, topics: Topics, fuse: Fuse) -> None:
        self._bootstrap = bootstrap
        self._redis_url = redis_url
        self._topics = topics
        self._fuse = fuse
        self._runner = asyncio.Runner()
        self._cluster: Cluster | None = None
        self._producer: AIOKafkaProducer | None = None
        self._channels: dict[str, ChannelSender[Any]] = {}
        self._senders: list[ProcessSenders] = []
        self._appended: dict[tuple[int, str], int] = {}
        """(partition, origin) -> offset after the last record that was sent there."""

    def prepare(self, make: Callable[[str], F]) -> F:
        unique = uuid.uuid4().hex[:8]
        flow = make(unique)
        self.code, workflow = load_workflow(f"{make.__module__}:{make.__name__}__{unique}", SUPPORT)
        self.plan = workflow.compile(fuse=self._fuse)
        self.partitions = PARTITIONS if self.plan.keyed else 1
        for port in [row.source for row in self.plan.sources] + [row.sink for row in self.plan.sinks]:
            if port.kind == "kafka":
                self._topics.create(port.topic, self.partitions, max_message_bytes=str(LARGEST))
        self._store = Store(self._redis_url, self.plan.name)
        self._run(self._store.open())
        self._run(self._store.publish_workflow(descriptor_of(self.plan, self.partitions)))
        return flow

    @property
    def deployment(self) -> Deployment:
        """What `start` starts."""
        return deployment_of(
            self.plan, self.code, self._redis_url, partitions=self.partitions, fuse=self._fuse == "all", spares=0,
            kafka={"bootstrap_servers": self._bootstrap},
        )  # fmt: skip

    def start(self) -> None:
        self._cluster = launch(self.deployment)
        self._cluster.wait_until_ready(timedelta(seconds=WITHIN))

    def send(self, source: SourceHandle[D], *data: D, key: str | None = None) -> None:
        self._run(self._send(self._source(source), data, key))

    def send_raw(
        self, source: SourceHandle[Any], value: bytes | None, *, key: str | None, headers: Headers = ()
    ) -> None:
        self._run(self._produce(self._source(source), value, key, key, headers))

    def message(self, source: SourceHandle[Any], body: bytes, *, key: str, id: str) -> None:
        self._run(self._messages(self._source(source), [body], key, id))

    def senders(self, source: SourceHandle[D], *batches: Sequence[D]) -> Senders:
        senders = ProcessSenders(self, self._channel(self._source(source)), batches)
        self._senders.append(senders)
        return senders

    def request(self, source: SourceHandle[D], data: D, *, key: str) -> Any:
        body = self.plan.types[self._source(source).type].codec.encode(data)
        return self._run(self._ask(f"/v1/workflows/{self.plan.name}/runs/{encode_key(key)}/events", body))

    def close(self, source: SourceHandle[Any]) -> None:
        self._run(self._channel(self._source(source)).close())

    def settle(self) -> None:
        self.wait(self._settled, "all that was sent is processed")

    def until_waiting(self, *keys: str) -> None:
        async def wait_all() -> bool:
            runs = [await self._store.run(self._home(key), key) for key in keys]
            return all(map(stands_of, runs))

        self.wait(wait_all, f"{', '.join(keys)} stand at waits")

    def run_of(self, key: str = "") -> RunView:
        self.settle()
        fields = self._run(self._store.run(self._home(key), key))
        assert fields, f"no run has the key {key!r}"
        streams: Any = _Streams(StreamStore(self._store), self.plan.name, self._home(key), self._run)
        return RunView(
            key, fields, self.plan, lambda event: self._run(self._ask_of(event)), streams,
            lambda *asked: self._run(self._executed(*asked)),
        )  # fmt: skip

    async def _executed(self, key: str, node: NodePlan, data: Any, commit: bool) -> RequestAnswer | None:
        """As the gateway has a node executed."""
        async with RequestStore(self._redis_url) as store:
            bridge = Bridge(self._redis_url, store)
            await bridge.open()
            try:
                _, reply = await bridge.ask(
                    self.plan.name, self._home(key), key, source_of(node.name, commit=commit), encode_json(data),
                    request=uuid.uuid4().hex, wait=WITHIN,
                )  # fmt: skip
            finally:
                await bridge.close()
        return None if reply is None else decode(reply)

    async def _ask_of(self, event: ControlEvent) -> None:
        """As `headrace runs terminate` and `headrace runs delete` do."""
        asking = Asking(self._store)
        await asking.ask({self._home(event.key): [event]})
        assert await asking.done(WITHIN), self._explain()
        if event.kind == "delete":
            await drop_letters_of(self._store, frozenset({event.key}), self.partitions)

    def dead_letters(self) -> list[DeadLetter]:
        self.settle()
        return [
            letter for number in range(self.partitions) for _, letter in self._run(self._store.dead_letters(number))
        ]

    def replay(self) -> int:
        self.settle()
        places = [
            (number, entry)
            for number in range(self.partitions)
            for entry, _ in self._run(self._store.dead_letters(number))
        ]
        return self._run(replay_letters(self._store, places[::-1], who="test", why="all")).replayed

    def sent(self, sink: SinkHandle[D]) -> list[D]:
        self.settle()
        plan = next(row for row in self.plan.sinks if row.name == sink.name)
        heads = [self._run(self._store.head(number)) for number in range(self.partitions)]
        data_type = self.plan.types[plan.type]
        packed = plan.sink.format == "msgpack"
        decode = msgspec.msgpack.Decoder(data_type.type).decode if packed else data_type.codec.decode
        assert len(self.plan.sinks) == 1, "the outbox counts the outputs of all sinks together"
        return [decode(blob) for blob in self._run(self._read(plan.sink.topic, sum(head.outbox for head in heads)))]

    def remainder(self, source: SourceHandle[D]) -> list[D]:
        self.settle()
        plan = self._source(source)
        decode = self.plan.types[plan.type].codec.decode
        return [decode(blob) for blob in self._run(self._channel(plan).remainder())]

    def stop(self) -> None:
        for senders in self._senders:
            senders.stop()
        if self._cluster is not None:
            self._cluster.stop()
        self._run(self._disconnect())
        self._runner.close()

    def wait(self, condition: Callable[[], Coroutine[Any, Any, Any]], what: str) -> None:
        """Until it comes true; says how the cluster does if it doesn't."""
        try:
            self._run(until_async(condition, what, within=WITHIN))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._explain()}") from None

    async def blocked_clients(self, count: int) -> bool:
        """So many clients of this test's database wait at the server for room in a channel."""
        clients = await self._store.client.client_list()
        mine = str(self._store.client.connection_pool.connection_kwargs["db"])
        return sum(client["cmd"] == "blpop" and client["db"] == mine for client in clients) == count

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _explain(self) -> str:
        status = self._cluster.status() if self._cluster is not None else None
        if status is None:
            return "no status"
        return "\n".join(
            [f"{row.name} {row.state} {row.counters}" for row in status.roles]
            + [f"{row.where}: {row.sentence}\n{row.traceback or ''}" for row in status.problems]
        )

    def _source(self, source: SourceHandle[Any]) -> SourcePlan:
        return next(row for row in self.plan.sources if row.name == source.name)

    def _home(self, key: str) -> int:
        return partition_of(key, self.partitions) if self.plan.keyed else 0

    def _channel(self, plan: SourcePlan) -> ChannelSender[Any]:
        sender = self._channels.get(plan.name)
        if sender is None:
            sender = self._channels[plan.name] = ChannelSender(
                self._redis_url, self.plan.name, plan.name, partitions=self.partitions,
                capacity=plan.source.capacity, key=plan.key,
            )  # fmt: skip
        return sender

    async def _send(self, plan: SourcePlan, data: Sequence[Any], key: str | None) -> None:
        if plan.source.kind == "messages":
            encode = self.plan.types[plan.type].codec.encode
            await self._messages(plan, list(map(encode, data)), key or "")
            return
        for item in data:
            if plan.source.kind == "channel":
                await self._channel(plan).send(item)
            else:
                run = key if plan.key is None else str(getattr(item, str(plan.key)))
                await self._produce(plan, self.plan.types[plan.type].codec.encode(item), key, run)

    async def _messages(self, plan: SourcePlan, bodies: Sequence[bytes], key: str, id: str | None = None) -> None:
        async with RequestStore(self._redis_url) as store:
            for body in bodies:
                request = Request(id=id or uuid.uuid4().hex, key=key, source=plan.name, body=body)
                await store.append_request(self.plan.name, self._home(key), request)

    async def _produce(
        self, plan: SourcePlan, value: bytes | None, key: str | None, run: str | None, headers: Headers = ()
    ) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, max_request_size=LARGEST)
            await self._producer.start()
        partition = self._home(run) if run else 0
        record_key = None if key is None else key.encode()
        placed = await self._producer.send_and_wait(
            plan.source.topic, value, key=record_key, partition=partition, headers=list(headers)
        )
        self._appended[partition, f"{plan.name}/{partition}"] = placed.offset + 1

    async def _ask(self, path: str, body: bytes) -> Any:
        app = create_app(self._redis_url)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://g") as client,
        ):
            answer = await client.post(path, content=body, timeout=WITHIN)
        assert answer.status_code == HTTPStatus.OK, answer.text
        return answer.json()

    async def _settled(self) -> bool:
        heads = [await self._store.head(number) for number in range(self.partitions)]
        if heads[0].counters.get("ended"):
            return True
        read = all(
            offset_of(heads[number].positions.get(origin, "0")) >= end
            for (number, origin), end in self._appended.items()
        )
        sent = [await self._store.internal(number, limit=1) for number in range(self.partitions)]
        sent += [await self._store.parked_fields(number) for number in range(self.partitions)]
        soon = await self._store.time() + 60_000
        sent += [(await self._store.timers(number, soon, 1))[0] for number in range(self.partitions)]
        client: Any = self._store.client
        sent += [await client.xrange(self._store.keys(number).inbox, count=1) for number in range(self.partitions)]
        return read and not any(sent) and not any([await channel.remainder() for channel in self._channels.values()])

    async def _read(self, topic: str, count: int) -> list[bytes]:
        """The first `count` different records of a topic."""
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        found: dict[str, bytes] = {}
        await consumer.start()
        try:
            async with asyncio.timeout(WITHIN):
                while len(found) < count:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found.update({dict(record.headers)[ID_HEADER].decode(): record.value for record in records})
        finally:
            await consumer.stop()
        return list(found.values())

    async def _disconnect(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
        for sender in self._channels.values():
            await sender.disconnect()
        if hasattr(self, "_store"):
            await self._store.close()


def _sending(sender: ChannelSender[Any], batch: Sequence[Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "sender_program.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps((sender, list(batch))))
    process.stdin.flush()
    return process
