"""`deploy`: a workflow onto a Ray cluster that exists, where it stays when the command has ended.

Everything is looked at before anything is touched: the workflow, its bundle (imported once as the cluster will), store,
topics, the cluster's machines, what runs there now. Then: topics, code, and the new version in the place of the old.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from headrace.actors.bundle import Bundle, pack
from headrace.actors.bundle_check import check_bundle
from headrace.actors.bundle_store import put_bundle, sweep_bundles
from headrace.actors.changes import PartitionsFixed, changes_between
from headrace.actors.cluster import DEFAULT_PARTITIONS, AlreadyRunning, Cluster, deployment_of, launch, runs_here
from headrace.actors.cluster_probe import probe_cluster, requirements_of
from headrace.actors.deployments import begin_change, end_change, get_deployment, put_deployment
from headrace.actors.live_change import NotTaken, change_live, following
from headrace.actors.loading import load_workflow
from headrace.actors.ray_connection import connected
from headrace.actors.spec import ClusterStatus, CodeRef, Deployment
from headrace.actors.states_kept import make_ready, refuse_loss
from headrace.actors.store_registry import Registry
from headrace.cli.callback_check import check_callback
from headrace.cli.deploy_report import Report
from headrace.cli.exits import ExitCode, Interrupted, UsageError
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.servers import Servers, check_clusters, needs_kafka
from headrace.cli.stops import is_running
from headrace.settings import Scalar
from headrace.sources.kafka_connection import BOOTSTRAP, KafkaClusters
from headrace.sources.suitable import choose_durability
from headrace.tracing.options import Tracing
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.errors import ServerUnreachable
from headrace.workflows.plan import Plan
from headrace.workflows.state_review import StateReview
from headrace.workflows.store import WorkflowDescriptor

SERVERS_WITHIN: Final = 10.0
"""Seconds for store and brokers to answer."""
LAPSED_WITHIN: Final = 4.0
"""Seconds after which the lease of a supervisor that died has lapsed."""
_PERIOD: Final = 0.2
READY_WITHIN: Final = timedelta(seconds=120)
LIVE_WITHIN: Final = timedelta(seconds=80)
"""For a new version to come up beside the old one; less than others wait for a change that is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOrder:
    """What is to be deployed, where, and how."""

    target: str
    address: str
    redis_url: str
    kafka: KafkaClusters = field(default_factory=KafkaClusters)
    workers: int | None = None
    """By default as many as the version that was deployed before, else one."""
    partitions: int | None = None
    fuse: bool = False
    durability: str | None = None
    """By default `fsync`; where the store can't do that, it has to be said."""
    cluster: str = "default"
    """Label of the Ray cluster; `supervise` brings back what has its own."""
    working_dir: Path | None = None
    requirements: Path | None = None
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    gateway: Mapping[str, Scalar] = field(default_factory=dict)
    """Options of the gateways: what callbacks may call."""
    traces: Tracing | None = None
    restart: bool = False
    """End the version before first, instead of having the new one take over from it."""
    drop_state: Sequence[str] = ()
    """Nodes (`@run`: what a run's nodes share) whose states go, where the new version has no place for them, or can't
    read them."""
    start_over: bool = False
    """Begin anew although the workflow has run before, with another store."""
    make_topics: bool = False
    replication: int = 1
    wait: bool = True
    dry_run: bool = False
    yes: bool = False


def deploy(order: DeployOrder, screen: Screen, *, as_json: bool) -> ExitCode:
    """Deploy a workflow, or say that nothing would change.

    Raises:
        HeadraceError: Something is in the way; nothing was touched unless the text says so.
    """
    report = Report(screen, as_json=as_json)
    _Deploying(order, report).run()
    report.finish()
    return ExitCode.OK


class _Deploying:
    """One deployment, step by step."""

    def __init__(self, order: DeployOrder, report: Report) -> None:
        self._order = order
        self._report = report
        self._code, workflow = load_workflow(order.target)
        self._plan: Plan = workflow.compile(fuse="all" if order.fuse else None)
        self._refuse_missing_addresses()
        self._name = self._plan.name
        self._durability = FAST
        self._published: WorkflowDescriptor | None = None
        """What gateways knew of the version before."""
        self._who = f"{socket.gethostname()}, process {os.getpid()}"

    def run(self) -> None:
        """All of it."""
        order, report = self._order, self._report
        bundle, code = self._bundle()
        requirements = requirements_of(order.requirements.read_text()) if order.requirements else []
        with self._servers() as servers:
            self._reach(servers)
            self._durability = self._choose_durability()
            before, partitions = self._bearings(servers)
            missing = servers.missing_topics()
            self._refuse_missing_topics(missing, partitions)
            after = self._deployment(code, partitions, before)
            changes = changes_between(before, after)
            report.plan(self._name, order.target, after, bundle, changes, missing)
            review = asyncio.run(self._refuse_loss(before))
            report.states(review)
            with connected(order.address):
                running = self._running(here=runs_here(self._name))
                if running and not (changes or review.loses):
                    report.unchanged(Cluster.connect(self._name).status())
                    return
                report.machines(probe_cluster(order.redis_url, servers.connections, requirements))
                if order.dry_run:
                    report.dry_run()
                    return
                report.confirm(replaces=running, drops=review.loses, yes=order.yes)
                self._touch(servers, bundle, before, after, running=running)

    def _touch(
        self, servers: Servers, bundle: Bundle, before: Deployment | None, after: Deployment, *, running: bool
    ) -> None:
        """From here on something is changed; under a lock, as others may deploy, stop or revive it."""
        asyncio.run(self._begin(after.redis_url))
        try:
            if self._order.make_topics:
                self._report.topics_made(servers.make_topics(after.partitions, replication=self._order.replication))
            asyncio.run(self._store(bundle, after))
            if running and before is not None and not self._ends_first(before, after):
                self._hand_over(before, after)
                return
            if running:
                self._report.step("stopping the old version: finishing what is in flight")
                Cluster.connect(self._name).stop()
            self._report.dropped(asyncio.run(self._make_ready(before)))
            cluster = launch(after)
        finally:
            asyncio.run(self._end(after.redis_url))
        if not self._order.wait:
            self._report.started(None)
            return
        self._report.started(cluster.wait_until_ready(READY_WITHIN, self._report.progress))
        asyncio.run(self._sweep(after))

    def _ends_first(self, before: Deployment, after: Deployment) -> bool:
        """The version before must have ended: states are to be taken out, or put where the new one looks for them."""
        return (
            self._order.restart or bool(self._order.drop_state) or not before.renames.items() <= after.renames.items()
        )

    def _hand_over(self, before: Deployment, after: Deployment) -> None:
        """The new version comes up beside the old one, which goes on until then."""
        self._report.step("starting the new version beside the old one, which goes on meanwhile")
        if self._order.wait:
            self._report.started(asyncio.run(self._change(before, after)))
            asyncio.run(self._sweep(after))
        else:
            asyncio.run(self._say(before, after))
            self._report.started(None)

    async def _change(self, before: Deployment, after: Deployment) -> ClusterStatus:
        async with Registry(after.redis_url, connections=1) as registry:
            try:
                status = await change_live(registry, before, after, within=LIVE_WITHIN, on_status=self._report.progress)
            except NotTaken:
                if self._published is not None:
                    await registry.publish_workflow(self._published)
                raise
            return status

    async def _say(self, before: Deployment, after: Deployment) -> None:
        async with Registry(after.redis_url, connections=1) as registry:
            await put_deployment(registry, following(before, after))

    def _refuse_missing_addresses(self) -> None:
        order = self._order
        missing = [] if order.address else ["--address ray://HOST:10001"]
        missing += [] if order.redis_url else ["--redis redis://HOST:6379/0"]
        if not order.kafka.kafka.get(BOOTSTRAP) and needs_kafka(self._plan):
            missing.append("--kafka HOST:9092")
        if missing:
            raise UsageError(
                f"{self._plan.name} needs addresses. Type: headrace deploy {order.target} {' '.join(missing)}\n"
                "Or set ray_address, redis_url and kafka in headrace.toml. The address is that of a running Ray cluster"
                " (its client's, ray://HOST:10001, from anywhere; HOST:6379 on one of its machines)."
                f"\nWithout a cluster: headrace run {order.target}"
            )
        check_clusters(self._plan, order.kafka)
        check_callback(self._plan, order.gateway)

    def _bundle(self) -> tuple[Bundle, CodeRef]:
        """The code as it travels, tried out."""
        imported_from = Path(self._code.folder)
        root = (self._order.working_dir or imported_from).resolve()
        if not imported_from.is_relative_to(root):
            raise UsageError(
                f"--working-dir {root} does not hold {imported_from}, from where {self._code.module} is imported."
            )
        bundle = pack(root)
        inside = imported_from.relative_to(root).as_posix()
        code = CodeRef(
            folder="" if inside == "." else inside, module=self._code.module, attr=self._code.attr,
            version=bundle.version, bundle=True,
        )  # fmt: skip
        check_bundle(bundle, code)
        return bundle, code

    def _servers(self) -> Servers:
        deadline = time.monotonic() + SERVERS_WITHIN
        return Servers(
            self._plan, redis_url=self._order.redis_url, clusters=self._order.kafka, broker="tansu",
            project=Project(Path.cwd()), screen=self._report.screen, given_up=lambda: time.monotonic() > deadline,
        )  # fmt: skip

    def _reach(self, servers: Servers) -> None:
        try:
            servers.wait()
        except Interrupted:
            sentence = f"Store or brokers have not answered within {SERVERS_WITHIN:.0f} s; nothing was changed."
            raise ServersAway(sentence) from None

    def _choose_durability(self) -> Durability:
        asked = Durability.parse(self._order.durability) if self._order.durability else None
        return asyncio.run(choose_durability(self._order.redis_url, asked))

    def _bearings(self, servers: Servers) -> tuple[Deployment | None, int]:
        """The deployment before, and how many partitions there are."""

        async def ask() -> tuple[Deployment | None, int]:
            async with Registry(self._order.redis_url, connections=1) as registry:
                descriptor = await registry.workflow(self._name)
                before = await get_deployment(registry, self._name)
            return before, descriptor.partitions if descriptor else 0

        before, stored = asyncio.run(ask())
        if not stored and not self._order.start_over:
            servers.refuse_lost_state()
        asked = self._order.partitions or self._plan.partitions
        if stored and asked and stored != asked:
            raise PartitionsFixed(self._name, stored, asked)
        if not self._plan.keyed:
            return before, 1
        return before, stored or asked or servers.source_partitions() or DEFAULT_PARTITIONS

    def _refuse_missing_topics(self, missing: Sequence[str], partitions: int) -> None:
        if missing and not self._order.make_topics:
            raise UsageError(
                f"These topics don't exist: {', '.join(missing)}. Make them, or say --make-topics: each with"
                f" {partitions} partitions and replication 1 (--replication N)."
            )

    def _deployment(self, code: CodeRef, partitions: int, before: Deployment | None) -> Deployment:
        order = self._order
        workers = order.workers or (before.workers if before else 1)
        return deployment_of(
            self._plan, code, order.redis_url, partitions=partitions, workers=workers, fuse=order.fuse,
            settings=dict(order.settings), cluster=order.cluster, address=order.address, target=order.target,
            deployed=time.time(), start_over=order.start_over, durability=str(self._durability), traces=order.traces,
            kafka=dict(order.kafka.kafka),
            clusters={name: dict(options) for name, options in order.kafka.clusters.items()},
        )  # fmt: skip

    def _running(self, *, here: bool) -> bool:
        """Whether it runs on this cluster; it must run nowhere else."""
        stored = None if here else asyncio.run(self._elsewhere())
        if stored is not None:
            place = f"at {stored.address}" if stored.cluster else "by headrace run or dev"
            raise AlreadyRunning(self._name, f"elsewhere ({place}), with the same store")
        return here

    async def _elsewhere(self) -> Deployment | None:
        """What runs with the same store and is not on this cluster; a lease of what has just died lapses meanwhile."""
        deadline = time.monotonic() + LAPSED_WITHIN
        async with Registry(self._order.redis_url, connections=1) as registry:
            while await is_running(registry, self._name):
                if time.monotonic() > deadline:
                    unknown = Deployment(workflow=self._name, code=self._code, redis_url="", partitions=1)
                    return await get_deployment(registry, self._name) or unknown
                await asyncio.sleep(_PERIOD)
        return None

    async def _refuse_loss(self, before: Deployment | None) -> StateReview:
        order, report = self._order, self._report
        async with Registry(order.redis_url, connections=1) as registry:
            return await refuse_loss(
                registry, before, self._plan, drop=order.drop_state, on_progress=report.states_so_far
            )

    async def _make_ready(self, before: Deployment | None) -> int:
        async with Registry(self._order.redis_url, connections=1) as registry:
            return await make_ready(registry, before, self._plan, drop=self._order.drop_state)

    async def _begin(self, url: str) -> None:
        async with Registry(url, connections=1) as registry:
            await begin_change(registry, self._name, self._who)

    async def _end(self, url: str) -> None:
        async with Registry(url, connections=1) as registry:
            await end_change(registry, self._name, self._who)

    async def _store(self, bundle: Bundle, after: Deployment) -> None:
        async with Registry(after.redis_url, connections=1) as registry:
            await put_bundle(registry, self._name, bundle)
            self._published = await registry.workflow(self._name)
            descriptor = descriptor_of(self._plan, after.partitions, after.code.version, durability=after.durability)
            await registry.publish_workflow(descriptor)

    async def _sweep(self, after: Deployment) -> None:
        async with Registry(after.redis_url, connections=1) as registry:
            await sweep_bundles(registry, self._name, {after.code.version})


class ServersAway(ServerUnreachable):
    """Store or brokers don't answer."""
