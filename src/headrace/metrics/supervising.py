"""What `headrace supervise` counts, in Prometheus' words: taken from the status document in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client.metrics_core import Metric

from headrace.actors.supervise_status import SuperviseStatus

_COUNTERS: Final = {
    "rounds": ("headrace_supervise_looks", "Looks at what is to run."),
    "attempts": ("headrace_supervise_attempts", "Attempts to bring workflows back."),
    "revived": ("headrace_supervise_revived", "Workflows that were brought back."),
    "failures": ("headrace_supervise_failures", "Workflows that an attempt could not bring back."),
    "store_errors": ("headrace_supervise_store_errors", "Looks at which the store did not answer."),
}


def supervise_metrics(found: Mapping[str, SuperviseStatus | None]) -> list[Metric]:
    """Metrics of those who look after Ray clusters.

    Args:
        found: Label of each cluster that something was deployed to, and who looks after it; None: nobody.
    """
    up = Metric("headrace_supervise_up", "1 while somebody looks after this Ray cluster.", "gauge")
    last = Metric("headrace_supervise_last_look_timestamp_seconds", "When it has looked last, since 1970 UTC.", "gauge")
    watched = Metric("headrace_supervise_watched", "Workflows that are to run on this Ray cluster.", "gauge")
    lost = Metric("headrace_supervise_lost", "Of these, workflows that don't run now.", "gauge")
    counters = {key: Metric(name, text, "counter") for key, (name, text) in _COUNTERS.items()}
    for cluster, status in found.items():
        up.add_sample(up.name, {"cluster": cluster}, float(status is not None))
        if status is None:
            continue
        labels = {"cluster": cluster, "process": f"supervise/{status.host}/{status.pid}"}
        last.add_sample(last.name, labels, status.time)
        watched.add_sample(watched.name, labels, float(len(status.watched)))
        lost.add_sample(lost.name, labels, float(len(status.lost)))
        for key, metric in counters.items():
            metric.add_sample(f"{metric.name}_total", labels, float(status.counters.get(key, 0)))
    return [up, last, watched, lost, *counters.values()]
