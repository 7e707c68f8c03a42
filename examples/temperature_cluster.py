"""Everything that the demo runs on, started here and gone when it ends: Valkey, a Kafka broker, Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.actors.cluster import Cluster, deployment_of, launch
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.embedded import ApacheKafka, Tansu, Valkey
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.store import WorkflowDescriptor

HERE: Final = Path(__file__).resolve().parent
CACHE: Final = HERE.parent / ".cache"
"""The brokers' programs, fetched once."""
BROKERS: Final = {"tansu": Tansu, "apache": ApacheKafka}


@dataclass(frozen=True)
class Servers:
    """Where the servers are."""

    redis_url: str
    bootstrap: str


@contextmanager
def servers(broker: str) -> Iterator[Servers]:
    """Valkey, a broker and a local Ray; whatever happens, nothing of them is left afterwards."""
    with Valkey() as valkey, BROKERS[broker](cache=CACHE) as kafka, LocalRay(cpus=4):
        yield Servers(valkey.url, kafka.bootstrap)


def prepare(file: str, where: Servers, **options: Any) -> Deployment:
    """Import the workflow of a file beside this one, and publish what it is: from now on channels take events."""
    code, workflow = load_workflow(file, HERE)
    plan = workflow.compile(fuse="all" if options.get("fuse") else None)
    kafka = {"bootstrap_servers": where.bootstrap}
    deployment = deployment_of(plan, code, where.redis_url, kafka=kafka, **options)
    asyncio.run(_publish(where, descriptor_of(plan, deployment.partitions, code.version)))
    return deployment


@contextmanager
def running(deployment: Deployment) -> Iterator[Cluster]:
    """The workflow, up; stopped afterwards."""
    cluster = launch(deployment)
    try:
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


async def _publish(where: Servers, descriptor: WorkflowDescriptor) -> None:
    async with Registry(where.redis_url, connections=1) as registry:
        await registry.publish_workflow(descriptor)


def make_topics(where: Servers, *names: str, partitions: int) -> None:
    """Make topics on the broker, which is empty."""
    asyncio.run(_make_topics(where, names, partitions))


async def _make_topics(where: Servers, names: tuple[str, ...], partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=where.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    finally:
        await admin.close()
