"""What all processes of a store's workflows count, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.actors.deployments import get_deployment
from headrace.actors.spec import ClusterStatus
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.actors.supervise_status import SuperviseStatus, get_supervise_status
from headrace.metrics.families import Family, merged
from headrace.metrics.reading import families_left
from headrace.metrics.supervising import supervise_metrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _Ready(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._metrics


async def exposition(
    registry: Registry, *, workflow: str | None = None, more: Iterable[tuple[dict[str, str], Family]] = ()
) -> bytes:
    """The metrics of one workflow, or of all that the store knows, in Prometheus' text format.

    Every sample has the labels `workflow` and `process` (`worker/0`, `node/2/1`, `supervisor`). Those of `headrace
    supervise` have `cluster` and `process` instead; they are of the clusters that these workflows were deployed to.

    Args:
        registry: The store.
        workflow: Name of the workflow; None: all.
        more: What else there is to tell, with its labels.

    Raises:
        StoreUnavailable: The store can't be reached.
    """
    names = [workflow] if workflow else await registry.workflows()
    rows = [row for name in names for row in await _of(registry, name)]
    collected = CollectorRegistry()
    collected.register(_Ready([*merged([*rows, *more]), *supervise_metrics(await _supervised(registry, names))]))
    return generate_latest(collected)


async def _supervised(registry: Registry, workflows: Sequence[str]) -> dict[str, SuperviseStatus | None]:
    """Who looks after each Ray cluster that one of them was deployed to."""
    deployments = [await get_deployment(registry, name) for name in workflows]
    clusters = {deployment.cluster for deployment in deployments if deployment is not None and deployment.cluster}
    return {cluster: await get_supervise_status(registry, cluster) for cluster in sorted(clusters)}


async def _of(registry: Registry, workflow: str) -> list[tuple[dict[str, str], Family]]:
    processes = list(_processes(await registry.status(workflow, PROCESS)))
    found = await families_left(registry, workflow, processes)
    return [({"workflow": workflow, "process": process}, family) for process, family in found]


def _processes(document: object) -> Iterator[str]:
    """Whose metrics to look for: the supervisor knows its processes."""
    yield PROCESS
    if document is not None:
        status = msgspec.convert(document, ClusterStatus)
        yield from (role.role for role in status.roles if role.role is not None)
