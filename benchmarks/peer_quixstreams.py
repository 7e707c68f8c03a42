"""The benchmark's work in quixstreams, exactly-once: keyed count and sum with a changelog, filter, output topic.

Runs in an environment of its own (see `benchmarks.exactly_once`), so it imports nothing of ours. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import uuid
from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found]  # pyright: ignore


class Meter:
    """Time and CPU time from the first reading on; stops the application after the last one."""

    def __init__(self, events: int) -> None:
        self._left = events
        self.began = self.cpu_began = 0.0
        self.application: Any = None

    def first(self) -> None:
        """A reading is about to be processed."""
        if not self.began:
            self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def processed(self, topic: str, partition: int, offset: int) -> None:
        """A reading is processed."""
        self._left -= 1
        if self._left == 0:
            self.application.stop()


def run(bootstrap: str, topic: str, alerts: str, events: int, above: float) -> dict[str, float]:
    """Read `events` readings from the start of `topic`, and send those above `above` to `alerts`."""
    meter = Meter(events)
    with tempfile.TemporaryDirectory() as folder:
        application = Application(
            broker_address=bootstrap, consumer_group=f"quix-{uuid.uuid4().hex[:8]}", auto_offset_reset="earliest",
            processing_guarantee="exactly-once", state_dir=folder, loglevel="WARNING",
            on_message_processed=meter.processed,
        )  # fmt: skip
        meter.application = application

        def count(reading: dict[str, Any], state: State) -> dict[str, Any]:
            meter.first()
            state.set("count", state.get("count", 0) + 1)
            state.set("sum", state.get("sum", 0.0) + reading["celsius"])
            return reading

        readings = application.dataframe(application.topic(topic, value_deserializer="json"))
        hot = readings.apply(count, stateful=True)
        hot = hot[hot["celsius"] > above]
        hot = hot.apply(lambda reading: {"sensor": reading["sensor"], "celsius": reading["celsius"]})
        hot.to_topic(application.topic(alerts, value_serializer="json"))
        application.run()
        seconds, cpu_seconds = time.perf_counter() - meter.began, time.process_time() - meter.cpu_began
    return {"events": events, "seconds": seconds, "cpu_seconds": cpu_seconds}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--alerts", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--above", type=float, required=True)
    asked = parser.parse_args()
    print(json.dumps(run(asked.bootstrap, asked.topic, asked.alerts, asked.events, asked.above)))


if __name__ == "__main__":
    main()
