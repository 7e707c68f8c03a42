"""What a worker counts, in Prometheus' words. Counters and times as things happen, levels once a second.

All of it is per epoch or per call, never per event: a few microseconds for a thousand events.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from headrace.workflows.calls import CallResult
from headrace.workflows.commit import Answer
from headrace.workflows.plan import Plan
from headrace.workflows.saving import Save

if TYPE_CHECKING:
    from headrace.actors.closed_nodes import ClosedNodes
    from headrace.actors.partition_driver import PartitionDriver
    from headrace.actors.relay import Relay

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_EVENTS: Final = (1, 4, 16, 64, 256, 1_000, 2_000, 5_000, 10_000)


class WorkerMetrics:
    """The metrics of one worker; used from its loop, read from any thread.

    Args:
        plan: The workflow.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sinks = [sink.name for sink in plan.sinks]
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._node_events = Counter(
            "headrace_node_events", "Events that a node processed, by outcome (ok, error, reject, decode ...).",
            ["node", "outcome"], registry=registry,
        )  # fmt: skip
        self._ok = [self._node_events.labels(node.name, "ok") for node in plan.nodes]
        self._events = Counter("headrace_events", "Events of sources whose epoch is committed.", registry=registry)
        self._epoch_events = Histogram(
            "headrace_epoch_events", "Events in a committed epoch.", buckets=_EVENTS, registry=registry
        )
        self._epoch_seconds = _seconds("headrace_epoch_seconds", "From an epoch's pull to its commit.", registry)
        self._commit_seconds = _seconds("headrace_commit_seconds", "A commit, until it is durable.", registry)
        self._load_seconds = _seconds("headrace_load_seconds", "Reading the states of runs.", registry)
        calls = Histogram(
            "headrace_call_seconds", "A call to a node actor and back (a hop).", ["unit"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._calls = [calls.labels(unit.name(plan)) for unit in plan.units]
        self._refusals = Counter(
            "headrace_commit_refusals", "Commits that the store refused.", ["answer"], registry=registry
        )
        self._dead = Counter(
            "headrace_dead_letters", "Dead letters, by node (empty: before the first) and reason.", ["node", "reason"],
            registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "headrace_dead_letters_dropped", "Dead letters that were dropped, by the limit (age, count, bytes).",
            ["over"], registry=registry,
        )  # fmt: skip
        self._kept = Gauge("headrace_dead_letters_kept", "Dead letters that lie in the store.", registry=registry)
        self._late = Counter(
            "headrace_late_events_dropped",
            "Events of runs that had ended, dropped as late='drop' says.",
            registry=registry,
        )
        self._outputs = Counter("headrace_outputs", "Outputs committed for a sink.", ["sink"], registry=registry)
        self._delivered = Counter(
            "headrace_outputs_delivered", "Outputs that an outlet has acknowledged.", ["outlet"], registry=registry
        )
        self._waiting = Gauge(
            "headrace_outputs_waiting", "Outputs in the outbox that have not left.", ["outlet"], registry=registry
        )
        self._lag = Gauge(
            "headrace_source_lag", "Records that a log has, to its high watermark, and that were not pulled.",
            ["source", "origin"], registry=registry,
        )  # fmt: skip
        self._epochs_in_flight = Gauge("headrace_epochs_in_flight", "Epochs begun, not committed.", registry=registry)
        self._events_in_flight = Gauge("headrace_events_in_flight", "Events of those epochs.", registry=registry)
        self._parked = Gauge(
            "headrace_parked", "Events that stand before a unit and can't go on now, and why.", ["unit", "reason"],
            registry=registry,
        )  # fmt: skip
        self._runs = Gauge("headrace_runs_held", "Runs whose state is in memory.", registry=registry)
        self._partitions = Gauge("headrace_partitions", "Partitions of this worker.", ["state"], registry=registry)
        self._problems = Gauge(
            "headrace_problem", "1 while a problem of that word stands; see `headrace status`.", ["word"],
            registry=registry,
        )  # fmt: skip

    def finished(self, result: CallResult) -> None:
        """The result of a call is taken."""
        for node, count in zip(self._plan.units[result.unit].nodes, result.processed, strict=False):
            if count:
                self._ok[node].inc(count)
        if result.failed or result.rerouted:
            failed = Tally([(row.node, row.reason) for row in (*result.failed, *result.rerouted)])
            for (node, reason), count in failed.items():
                self._node_events.labels(self._plan.nodes[node].name, reason).inc(count)

    def called(self, unit: int, seconds: float) -> None:
        """A call to a node actor was answered."""
        self._calls[unit].observe(seconds)

    def loaded(self, seconds: float) -> None:
        """Runs were read."""
        self._load_seconds.observe(seconds)

    def committed(self, save: Save, answer: Answer, *, seconds: float, since_pull: float) -> None:
        """A commit was answered."""
        self._commit_seconds.observe(seconds)
        if answer not in (Answer.APPLIED, Answer.ALREADY):
            self._refusals.labels(answer.value).inc()
            return
        if save.events:
            self._events.inc(save.events)
            self._epoch_events.observe(save.events)
            self._epoch_seconds.observe(since_pull)
        if save.dropped:
            self._late.inc(save.dropped)
        for letter in save.commit.dead:
            self._dead.labels(letter.node or "", letter.reason).inc()
        for sink, count in Tally([output.sink for output in save.commit.outputs]).items():
            name = self._sinks[sink] if 0 <= sink < len(self._sinks) else ""
            self._outputs.labels(name).inc(count)

    def delivered(self, outlet: str, count: int) -> None:
        """An outlet has taken outputs."""
        self._delivered.labels(outlet).inc(count)

    def dropped(self, over: str, count: int) -> None:
        """Dead letters were dropped for a limit."""
        self._dropped.labels(over).inc(count)

    def look(
        self,
        drivers: Iterable[PartitionDriver],
        relay: Relay,
        lags: Mapping[tuple[str, str], int],
        parked: Mapping[int, int],
        problems: Iterable[str],
        closed: ClosedNodes,
    ) -> None:
        """Levels as they are now.

        Args:
            drivers: The partitions.
            relay: What waits there.
            lags: (source, origin) -> records behind.
            parked: Unit -> events before a replica that is away.
            problems: Words that stand.
            closed: Nodes that get no events.
        """
        drivers = list(drivers)
        states = Tally(driver.state for driver in drivers)
        _only(self._partitions, (((state,), count) for state, count in states.items()))
        self._epochs_in_flight.set(sum(driver.epochs_in_flight for driver in drivers))
        self._events_in_flight.set(sum(driver.events_in_flight for driver in drivers))
        self._kept.set(sum(driver.letters.kept.count for driver in drivers))
        self._runs.set(sum(driver.runs_held for driver in drivers))
        _only(self._waiting, (((name,), count) for name, count in relay.waiting_by_outlet().items()))
        _only(self._lag, lags.items())
        units, plan = self._plan.units, self._plan
        rows = {(units[unit].name(plan), "node unavailable"): count for unit, count in parked.items()}
        stand = sum((driver.parked for driver in drivers), Tally[str]())
        of_node = {node.name: units[plan.unit_of[node.index]].name(plan) for node in plan.nodes}
        for name, count in stand.items():
            away = any(units[unit].name(plan) == of_node.get(name) for unit, _ in closed.away)
            reason = "paused" if name in closed.paused else "node unavailable" if away else "retry"
            place = of_node.get(name, name), reason
            rows[place] = rows.get(place, 0) + count
        _only(self._parked, rows.items())
        _only(self._problems, (((word,), 1) for word in problems))


def _seconds(name: str, help_: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, help_, buckets=_SECONDS, registry=registry)


def _only(gauge: Gauge, rows: Iterable[tuple[tuple[str, ...], int]]) -> None:
    """Set a gauge to these labels and values, and to nothing else."""
    gauge.clear()
    for labels, value in rows:
        gauge.labels(*labels).set(value)
