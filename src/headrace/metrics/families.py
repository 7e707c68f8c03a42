"""Metric families as they travel through the store: what a registry counts, without the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

KEEP_MS: Final = 15_000
"""Milliseconds that a process's metrics stay in the store unless they are left again."""


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One number."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True):
    """All samples of one metric."""

    name: str
    kind: str
    """`counter`, `gauge`, `histogram`."""
    help: str
    samples: list[Sample]


def families_of(registry: Collector) -> list[Family]:
    """What a registry counts now; when counters were made is left out."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [
                Sample(sample.name, dict(sample.labels), float(sample.value))
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ],
        )
        for metric in registry.collect()
    ]


def merged(families: Iterable[tuple[Mapping[str, str], Family]]) -> list[Metric]:
    """Families of many processes as one set, each sample with the labels of its process.

    Args:
        families: Labels of the process, and what it counts.
    """
    metrics: dict[str, Metric] = {}
    for labels, family in families:
        metric = metrics.get(family.name)
        if metric is None:
            metric = metrics[family.name] = Metric(family.name, family.help, family.kind)
        for sample in family.samples:
            metric.add_sample(sample.name, {**labels, **sample.labels}, sample.value)
    return [metrics[name] for name in sorted(metrics)]
