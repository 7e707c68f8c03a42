"""The benchmark's workflows: three nodes that every reading goes through, the last one only when it is hot.

Imported by name in every process: `run_<name>__<topic>` is a workflow of that name that reads that topic.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from benchmarks.workload import HOT_CELSIUS, PARTITIONS, Alert, Reading
from headrace import Action, Context, Event, KafkaSink, KafkaSource, RequestSource, Retry, Workflow

TOPIC = "bench-readings"
ALERTS = "bench-alerts"
ASKED = "bench-asked"


class Stats(msgspec.Struct):
    """Keyed count and sum: the mean is their quotient."""

    count: int = 0
    sum: float = 0.0


class Counted(Action):
    """The one way on from `count`."""

    NEXT = "next"


class Heat(Action):
    """What the filter says."""

    NORMAL = "normal"
    HOT = "hot"


def count(event: Event[Reading], ctx: Context[Stats]) -> Counted:
    """Count and add up, by sensor."""
    stats = ctx.state
    stats.count += 1
    stats.sum += event.data.celsius
    return Counted.NEXT


def hot(event: Event[Reading], ctx: Context) -> Heat:
    """Let hot readings through."""
    return Heat.HOT if event.data.celsius > HOT_CELSIUS else Heat.NORMAL


def every(event: Event[Reading], ctx: Context) -> Heat:
    """Let every reading through."""
    return Heat.HOT


def alert(event: Event[Reading], ctx: Context) -> Alert:
    """Make an alert; answer if somebody asked."""
    ctx.reply(ctx.now.timestamp())
    return Alert(event.data.sensor, event.data.celsius)


def tell(event: Event[Reading], ctx: Context) -> Alert:
    """Make an alert; nobody asks."""
    return Alert(event.data.sensor, event.data.celsius)


def make(
    name: str, topic: str = TOPIC, *, passes: Callable[[Event[Reading], Context], Heat] = hot,
    partitions: int = PARTITIONS, retry: Retry | None = None,
) -> Workflow:  # fmt: skip
    """The workflow, under a name of its own (its state begins empty) and reading `topic`.

    Args:
        name: Of the workflow.
        topic: With readings.
        passes: The second node.
        partitions: Of the workflow.
        retry: Of the second node.
    """
    workflow = Workflow(name, partitions=partitions)
    tells = alert if passes is hot else tell
    readings = workflow.source(KafkaSource(topic, Reading, key="sensor"))
    requests = workflow.source(RequestSource(Reading, key="sensor", name=ASKED))
    counting, filtering, alerting = workflow.node(count), workflow.node(passes, retry=retry), workflow.node(tells)
    alerts = workflow.sink(KafkaSink(ALERTS, Alert))
    readings.to(counting)
    requests.to(counting)
    counting.on(Counted.NEXT).to(filtering)
    filtering.on(Heat.HOT).to(alerting)
    filtering.on(Heat.NORMAL).to(None)
    alerting.to(alerts)
    return workflow


def __getattr__(name: str) -> Workflow:
    """`run_<name>__<topic>`: a workflow called `<name>` that reads `<topic>` (`_` for `-`); `all_...`: all go out."""
    kind, _, rest = name.partition("_")
    if kind not in ("run", "all"):
        raise AttributeError(name)
    workflow, _, topic = rest.partition("__")
    passes = every if kind == "all" else hot
    return make(workflow.replace("_", "-"), topic.replace("_", "-") or TOPIC, passes=passes)
