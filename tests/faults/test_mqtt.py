"""The example of a source and a sink of one's own: MQTT, against a real broker, over the death of a worker."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from headrace.embedded.ports import free_port
from small import Small
from solo import solo
from waiting import until

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
EXAMPLE = Path(__file__).parents[2] / "examples" / "mqtt.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto, an MQTT broker: apt install mosquitto"),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A broker of this test's own; its port."""
    port = free_port()
    file = tmp_path / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    process = subprocess.Popen([str(MOSQUITTO), "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def client(port: int) -> Client:
    """Connected, as soon as the broker is there."""
    made = Client(CallbackAPIVersion.VERSION2)

    def connected() -> bool:
        try:
            made.connect("127.0.0.1", port)
        except ConnectionRefusedError:
            return False
        return True

    until(connected, "the broker is there")
    made.loop_start()
    return made


class Sensor:
    """Sends numbers, one after the other, each once the one before is acknowledged."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._client = client(port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._client.publish("plant/s1", b'{"number": %d}' % self.sent, qos=1).wait_for_publish(10)
            self.sent += 1

    def stop(self) -> int:
        """Returns how many it has sent."""
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
        return self.sent


def test_no_message_is_lost_when_a_worker_is_killed_and_while_none_runs(
    broker: int, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PORT", str(broker))
    shutil.copy(EXAMPLE, tmp_path)
    seen: list[int] = []
    reader: Any = client(broker)
    reader.on_message = lambda _client, _data, message: seen.append(msgspec.json.decode(message.payload)["number"])
    reader.subscribe("seen", qos=1)
    sensors = Small.of("sensors_mqtt", tmp_path, redis_url)

    def kept() -> list[int]:
        return msgspec.json.decode(sensors.run().get("node:keep", b"[]"), type=list[int])

    with solo(sensors, index=0, placement=1, partitions=(0,)) as one:
        sensor = Sensor(broker)
        until(lambda: len(kept()) > 100, "messages are processed")
        one.process.kill()
        before = sensor.sent
        until(lambda: sensor.sent > before + 50, "messages come while no worker runs")
        sent = sensor.stop()
    with solo(sensors, index=1, placement=2, partitions=(0,)):
        until(lambda: set(kept()) == set(range(sent)), "all that was sent is processed")
        until(lambda: set(seen) == set(range(sent)), "all has left")
    reader.disconnect()
    reader.loop_stop()

    assert max(Counter(kept()).values()) <= 2, "only what was in hand at the one death comes again, once"
