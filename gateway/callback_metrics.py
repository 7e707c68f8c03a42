"""What is counted of callbacks: what came of calls, in this process; what waits, in the store; who is left alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from headrace.actors.store_callbacks import CallbackStore
from headrace.actors.store_requests import RequestStore
from headrace.metrics.families import Family, Sample, families_of

_MOST_NAMED: Final = 20
"""Receivers that have a label of their own: callers choose them, so there may be any number."""
OTHERS: Final = "(others)"


class CallbackMeter:
    """Counts of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._attempts = Counter(
            "headrace_callback_attempts", "Calls of receivers, by what came of them.", ["workflow", "outcome"],
            registry=self._registry,
        )  # fmt: skip

    def count(self, workflow: str, outcome: str) -> None:
        """A call has come to something: `delivered`, `retry`, `dead`; or was put off, as its receiver is left alone."""
        self._attempts.labels(workflow, outcome).inc()

    def families(self) -> list[Family]:
        """All of it."""
        return families_of(self._registry)


def resting_family(resting: Mapping[str, float]) -> Family:
    """For how many seconds more receivers are left alone; of many the rest is one: their number, and no names.

    Args:
        resting: Seconds, by receiver.
    """
    longest = sorted(resting.items(), key=lambda row: (-row[1], row[0]))
    name = "headrace_callback_receiver_resting"
    samples = [Sample(name, {"receiver": receiver}, 1.0) for receiver, _ in longest[:_MOST_NAMED]]
    if len(longest) > _MOST_NAMED:
        samples.append(Sample(name, {"receiver": OTHERS}, float(len(longest) - _MOST_NAMED)))
    return Family(name, "gauge", "Receivers that are left alone for a while, after failures.", samples)


async def waiting_families(store: RequestStore, callbacks: CallbackStore) -> list[Family]:
    """What waits in the store, by workflow: the same from each process.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    pending, oldest, dead = "headrace_callbacks_pending", "headrace_callbacks_oldest_seconds", "headrace_callbacks_dead"
    rows: dict[str, list[Sample]] = {pending: [], oldest: [], dead: []}
    for name in await store.workflows():
        workflow = await store.workflow(name)
        if workflow is None:
            continue
        standing = await callbacks.standing(name, workflow.partitions)
        age = 0.0 if standing.oldest is None else max(0.0, time.time() - standing.oldest / 1000)
        for metric, value in ((pending, standing.pending), (oldest, age), (dead, standing.dead)):
            rows[metric].append(Sample(metric, {"workflow": name}, float(value)))
    helps = (
        "Callbacks that are still to be told.",
        "Age of the oldest of them.",
        "Callbacks that were given up, as kept.",
    )
    return [Family(name, "gauge", text, samples) for (name, samples), text in zip(rows.items(), helps, strict=True)]
