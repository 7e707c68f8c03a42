"""A workflow on Ray and Valkey with its gateway at a port: what callers have, each part a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.store import Store
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.keyspace import partition_of
from rig import run
from waiting import until

FLOWS: Final = Path(__file__).parent / "flows"
PATIENCE: Final = 120.0
"""Seconds for a call to be answered, on a machine that others use, too."""


class HttpCluster:
    """A workflow that runs; made by `http_cluster`.

    Args:
        cluster: Its processes.
        redis_url: Its store.
        workflow: Its name.
        partitions: How many it has.
        address: Of its gateway.
    """

    def __init__(self, cluster: Cluster, redis_url: str, workflow: str, partitions: int, address: str) -> None:
        self.cluster, self.redis_url = cluster, redis_url
        self.workflow, self.partitions = workflow, partitions
        self.address = address
        self.base = f"{address}/v1/workflows/{workflow}"

    @asynccontextmanager
    async def client(self, address: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """A caller of this gateway, or of the one at another address."""
        base = self.base if not address else f"{address}/v1/workflows/{self.workflow}"
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, limits=limits) as http:
            yield http

    def home(self, key: str) -> int:
        """The partition of a run."""
        return partition_of(key, self.partitions)

    def store(self) -> Store:
        """The workflow's, to look into; `async with`."""
        return Store(self.redis_url, self.workflow, connections=2)

    def pid(self, name: str) -> int:
        """Process id of a role (`worker/0`, `write/0`), as soon as it is served."""

        def look() -> int | None:
            status = self.cluster.status()
            roles = status.roles if status is not None and status.ready else ()
            return next((row.pid for row in roles if row.name == name and row.state == "serving"), None)

        found: int = until(look, f"{name} serves", within=PATIENCE)
        return found


async def _publish(redis_url: str, workflow: Any, plan: Any, partitions: int) -> None:
    async with Store(redis_url, workflow, connections=1) as store:
        await store.publish_workflow(descriptor_of(plan, partitions))


@contextmanager
def http_cluster(
    folder: Path, redis_url: str, flow: str, *, settings: GatewaySettings | None = None, **options: Any
) -> Iterator[HttpCluster]:
    """Run `flows/<flow>.py` on the session's Ray, with a gateway in a thread of this process.

    Args:
        folder: Of the test's own: the workflow's file goes there.
        redis_url: The store.
        flow: Which workflow.
        settings: Of the gateway.
        options: Fields of the `Deployment`.
    """
    file = folder / f"{flow}_{uuid.uuid4().hex[:8]}.py"  # a module is imported once by each process
    shutil.copyfile(FLOWS / f"{flow}.py", file)
    code, workflow = load_workflow(file.name, folder)
    plan = workflow.compile(fuse="all" if options.get("fuse") else None)
    deployment = deployment_of(plan, code, redis_url, incarnation=uuid.uuid4().hex[:8], **options)
    run(_publish(redis_url, plan.name, plan, deployment.partitions))
    with contextlib.ExitStack() as stack:
        cluster = start(deployment)
        stack.callback(cluster.stop)
        address = stack.enter_context(GatewayThread(redis_url, settings or GatewaySettings(port=0)))
        yield HttpCluster(cluster, redis_url, plan.name, deployment.partitions, address)
