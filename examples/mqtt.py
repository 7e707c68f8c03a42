"""MQTT as a source and as a sink of one's own, on paho-mqtt: at least once, both ways.

The source keeps a session at the broker (one client id, not clean), takes messages with QoS 1, and acknowledges them
once their effects are committed: what comes while no worker runs, and what a worker had in hand when it died, the
broker sends again.

Example:
    readings = workflow.source(MqttSource("plant/+/celsius", Reading, key="sensor"))
    alerts = workflow.sink(MqttSink("alerts/{key}", Alert))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from headrace import CustomSink, CustomSource, Message, Raw, Record, Split, Writer

D = TypeVar("D")


class MqttSource(CustomSource[D]):
    """JSON messages of the topics that a filter names."""

    delivery = "at-least-once"

    def __init__(
        self, topic: str, type: type[D], *, key: str | Callable[[D], str] | None = None, host: str = "localhost",
        port: int = 1883, client: str = "headrace", name: str = "mqtt",
    ) -> None:  # fmt: skip
        super().__init__(type, name=name, key=key)
        self.topic, self.host, self.port, self.client = topic, host, port, client

    def open(self, split: str, position: str | None) -> Split[D]:
        """Connect; the broker knows by the client id what is still to be sent."""
        return Subscription(self.topic, self.host, self.port, self.client)


class Subscription(Split[D]):
    """One connection. Messages arrive in paho's thread, and are taken in the split's."""

    def __init__(self, topic: str, host: str, port: int, client: str) -> None:
        self._arrived: asyncio.Queue[MQTTMessage | ConnectionError] = asyncio.Queue()
        self._unacknowledged: deque[MQTTMessage] = deque()
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client, clean_session=False, manual_ack=True, reconnect_on_failure=False
        )
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_message = lambda client, data, message: self._arrive(message)
        self._client.on_disconnect = lambda client, data, flags, reason, properties: self._arrive(
            ConnectionError(f"the broker is gone: {reason}")
        )
        self._client.connect(host, port)
        self._client.loop_start()

    def _arrive(self, what: MQTTMessage | ConnectionError) -> None:
        self._loop.call_soon_threadsafe(self._arrived.put_nowait, what)

    async def read(self, limit: int) -> list[Record[D]]:
        """What has arrived; waits for the first one. Meanwhile others are acknowledged."""
        found = [self._record(await self._arrived.get())]
        while len(found) < limit and not self._arrived.empty():
            found.append(self._record(self._arrived.get_nowait()))
        return found

    def _record(self, message: MQTTMessage | ConnectionError) -> Record[D]:
        if isinstance(message, ConnectionError):
            raise message  # Headrace opens another one; the broker sends again what is not acknowledged
        self._count += 1
        self._unacknowledged.append(message)
        return Record(Raw(bytes(message.payload)), position=str(self._count), headers={"topic": message.topic})

    def committed(self, position: str) -> None:
        """Acknowledge all up to there."""
        while self._unacknowledged and self._count - len(self._unacknowledged) < int(position):
            message = self._unacknowledged.popleft()
            self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Disconnect; the session stays at the broker."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()


class MqttSink(CustomSink[D]):
    """Messages as JSON, to a topic that may hold the run's key: `alerts/{key}`."""

    def __init__(
        self, topic: str, type: type[D], *, host: str = "localhost", port: int = 1883, name: str = "mqtt"
    ) -> None:
        super().__init__(type, name=name)
        self.topic, self.host, self.port = topic, host, port

    def open(self) -> Writer[D]:
        """Connect."""
        return Publisher(self.topic, self.host, self.port)


class Publisher(Writer[D], Generic[D]):
    """One connection. A message is written once the broker has acknowledged it."""

    def __init__(self, topic: str, host: str, port: int) -> None:
        self._topic = topic
        self._client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.connect(host, port)
        self._client.loop_start()

    def send(self, messages: Sequence[Message[D]]) -> None:
        """Publish all, then wait until each is acknowledged."""
        sent: list[Any] = [
            self._client.publish(self._topic.format(key=message.key), msgspec.json.encode(message.data), qos=1)
            for message in messages
        ]
        for receipt in sent:
            receipt.wait_for_publish(10)
            if not receipt.is_published():
                raise TimeoutError("the broker does not acknowledge")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
