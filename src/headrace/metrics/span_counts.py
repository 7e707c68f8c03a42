"""What becomes of spans, in Prometheus' words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class SpanCounts(Collector):
    """Spans of a process that have left, and that were dropped; none where there are no traces.

    Args:
        counts: Outcome -> number, as it is now.
    """

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """One sample for each outcome."""
        family = CounterMetricFamily(
            "headrace_spans", "Spans that the receiver of traces has taken, and that were dropped.", labels=["outcome"]
        )
        for outcome, count in self._counts().items():
            family.add_metric([outcome], count)
        yield family
