"""`dev` and `run`: a workflow from its start to its end, with a Ray of its own in between.

The steps, each of which goes again when a later one fails: import and check, servers, topics, a local Ray,
supervisor; then the status is shown until somebody asks for an end; then all is drained and stopped.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from headrace.actors.cluster import DEFAULT_PARTITIONS, Cluster, deployment_of, launch
from headrace.actors.inline import InlineCluster, launch_inline
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.reimport import content_version
from headrace.actors.spec import CodeRef, Deployment
from headrace.actors.store_registry import Registry
from headrace.cli.code_watch import CodeWatch
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.kept_states import KeptStates
from headrace.cli.project import Project, RunFile
from headrace.cli.reloading import Reloader, Version, Wanted
from headrace.cli.screen import Screen
from headrace.cli.servers import BrokerKind, Servers, check_clusters, needs_kafka
from headrace.cli.signals import Signals
from headrace.cli.snippets import write_senders
from headrace.cli.stops import StopWatch, clear_stop
from headrace.cli.watching import Watch
from headrace.cli.worker_logs import WorkerLogs
from headrace.collecting import collect_seldom
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.settings import Scalar
from headrace.sources.channel import REDIS_URL
from headrace.sources.kafka_connection import BOOTSTRAP, KafkaClusters
from headrace.sources.suitable import choose_durability
from headrace.tracing.options import Tracing
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.durability import FAST, Durability, DurabilityUnchosen
from headrace.workflows.errors import HeadraceError, WorkflowError
from headrace.workflows.plan import Plan
from headrace.workflows.ports import BEGINNING
from headrace.workflows.workflow import Workflow

KAFKA: Final = "HEADRACE_KAFKA"
"""Environment variable with the brokers' addresses."""
_DEV_PARTITIONS: Final = 4
_MOST_SPARES: Final = 4
"""Processes of 100 MB that wait for the next version: with one for each role a change is taken at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run, and how."""

    target: str
    redis_url: str | None = None
    kafka: str | None = None
    """Brokers of the default Kafka cluster."""
    kafka_options: Mapping[str, str] = field(default_factory=dict)
    """The rest of what its clients need: TLS, SASL."""
    clusters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Named Kafka clusters: options, `bootstrap_servers` among them."""
    embedded: bool = False
    """Servers without an address are started here (`dev`); else they are asked for (`run`)."""
    broker: BrokerKind = "tansu"
    workers: int = 1
    partitions: int | None = None
    fuse: bool = False
    durability: str | None = None
    """By default `fast` with embedded servers; else `fsync` where the store can, or `fast`."""
    keep: bool = False
    """Go on when the run of an unkeyed workflow has ended."""
    make_topics: bool = False
    start_over: bool = False
    """Begin anew although the workflow has run before, with another store."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """For the nodes."""
    traces: Tracing | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the processes of the workflow."""
    live: bool = False
    reload: bool = False
    """Take what is saved while it runs."""
    inline: bool = False
    """Without Ray: all in this process."""
    serve: GatewaySettings | None = None
    """Answer requests over HTTP, too."""
    drop_state: Sequence[str] = ()
    """Nodes whose states go, where this version (or, with `reload`, a saved one) has no place for them or can't read
    them."""

    @property
    def kafka_clusters(self) -> KafkaClusters:
        """All that have an address."""
        address = {BOOTSTRAP: self.kafka} if self.kafka else {}
        return KafkaClusters({**self.kafka_options, **address}, self.clusters)


def run_session(order: Order, screen: Screen) -> ExitCode:
    """Run a workflow until it is stopped, or has ended.

    Raises:
        HeadraceError: It could not be started; see `exits.exit_code_of`.
    """
    watched = _watched() if order.reload else None
    ref, workflow = load_workflow(order.target)
    if order.reload:
        ref = msgspec.structs.replace(ref, version=content_version(ref.folder))
    plan = workflow.compile(fuse="all" if order.fuse else None, now=BEGINNING)  # past times: see _choose_partitions
    _refuse_missing_addresses(order, plan)
    project = Project(Path.cwd())
    project.prepare()
    project.refuse_second(plan.name)
    signals = Signals(lambda: _end_at_once(project, plan.name, screen))
    with signals:
        return _Session(order, workflow, plan, ref, project, screen, signals, watched).run()


def _watched() -> CodeWatch:
    """What looks after the files; without it nothing is started."""
    sys.dont_write_bytecode = True  # it knows a file by whole seconds: of two saves in one, the first would stay
    return CodeWatch()


def _refuse_missing_addresses(order: Order, plan: Plan) -> None:
    """`run` starts no servers: say what to type."""
    if order.embedded:
        return
    missing = [] if order.redis_url else ["--redis redis://HOST:6379/0"]
    if not order.kafka and needs_kafka(plan):
        missing.append("--kafka HOST:9092")
    if missing:
        raise UsageError(
            f"{plan.name} needs addresses of servers. Type: headrace run {order.target} {' '.join(missing)}\n"
            f"Or set {REDIS_URL} and {KAFKA}, or redis_url and kafka in headrace.toml."
            f" To try it out with embedded servers: headrace dev {order.target}"
        )
    check_clusters(plan, order.kafka_clusters)


def _end_at_once(project: Project, workflow: str, screen: Screen) -> None:
    screen.console.show_cursor(True)
    project.forget(workflow)
    sys.stdout.flush()


class _Session:
    """One workflow that is being run by this process."""

    def __init__(
        self,
        order: Order,
        workflow: Workflow,
        plan: Plan,
        ref: CodeRef,
        project: Project,
        screen: Screen,
        signals: Signals,
        watched: CodeWatch | None,
    ) -> None:
        self._watched = watched
        self._order = order
        self._workflow = workflow
        self._plan = plan
        self._ref = ref
        self._project = project
        self._screen = screen
        self._signals = signals
        self._durability = FAST

    def run(self) -> ExitCode:
        """All of it, from the servers' start to the end."""
        order, plan, screen = self._order, self._plan, self._screen
        asked = Durability.parse(order.durability) if order.durability else FAST if order.embedded else None
        with ExitStack() as stack:
            servers = stack.enter_context(
                Servers(
                    plan, redis_url=order.redis_url, clusters=order.kafka_clusters, broker=order.broker,
                    project=self._project, screen=screen, given_up=self._signals.asked.is_set,
                    synced=asked is not None and asked.level == "fsync",
                )
            )  # fmt: skip
            self._tell_children(servers)
            servers.wait()
            self._refuse_lost_state(servers)
            self._durability = self._choose_durability(servers.redis_url, asked)
            partitions = self._choose_partitions(servers)
            kept = KeptStates(servers.redis_url, plan, order.drop_state)
            kept.refuse_loss()
            if order.make_topics:
                servers.make_topics(partitions)
            self._note(servers)
            stack.callback(self._project.forget, plan.name)
            self._say_where(servers, partitions)
            self._signals.check()
            kept.make_ready(screen)
            asyncio.run(self._publish(servers.redis_url, partitions))
            if order.serve is not None:
                gateway = GatewayThread(servers.redis_url, order.serve, order.traces)
                screen.say(f"  HTTP   {stack.enter_context(gateway)}/v1/workflows/{plan.name}", "cyan")
            if not order.inline:
                self._start_ray(stack)
            self._watch(servers, partitions)
        return ExitCode.OK

    def _start_ray(self, stack: ExitStack) -> None:
        ray = stack.enter_context(LocalRay())
        self._signals.check()
        assert ray.folder is not None, "it runs"
        stack.enter_context(WorkerLogs(ray.folder, self._project.log(self._plan.name)))

    def _watch(self, servers: Servers, partitions: int) -> None:
        order, plan = self._order, self._plan
        first = Version(self._ref, plan, time.monotonic())
        deployment = self._deployment(first, servers, partitions)
        collect_seldom()  # all is imported by now
        cluster = launch_inline(deployment) if order.inline else launch(deployment)
        reloader = None if self._watched is None else self._reloader(first, cluster, servers, partitions, self._watched)
        watch = Watch(
            cluster, plan, servers, self._screen, live=order.live, keep=order.keep,
            on_look=reloader.look if reloader else lambda _: None,
        )  # fmt: skip
        try:
            with StopWatch(servers.redis_url, plan.name, self._signals.asked):
                watch.until_end(self._signals.asked)
        finally:
            if reloader:
                reloader.close()
            self._drain(cluster, servers, watch)

    def _deployment(self, version: Version, servers: Servers, partitions: int) -> Deployment:
        order = self._order
        kafka = {"kafka": dict(servers.clusters.kafka), "clusters": dict(servers.clusters.clusters)}
        deployment = deployment_of(
            version.plan, version.ref, servers.redis_url, partitions=partitions, fuse=order.fuse,
            workers=order.workers, settings=dict(order.settings), durability=str(self._durability),
            start_over=order.start_over, traces=order.traces, **kafka,
        )  # fmt: skip
        if not order.reload:
            return deployment
        roles = deployment.workers + sum(unit.replicas for unit in deployment.units)
        return msgspec.structs.replace(deployment, late_code=True, spares=min(roles, _MOST_SPARES))

    def _reloader(
        self, first: Version, cluster: Cluster | InlineCluster, servers: Servers, partitions: int, watched: CodeWatch
    ) -> Reloader:
        def hand_over(version: Version) -> None:
            self._plan, self._ref = version.plan, version.ref
            asyncio.run(self._publish(servers.redis_url, partitions))
            write_senders(version.plan, servers.clusters, self._project.folder)
            cluster.replace(self._deployment(version, servers, partitions))

        order = self._order
        return Reloader(
            Wanted(target=order.target, fuse=order.fuse, drop_state=order.drop_state), first, cluster, servers,
            self._screen, watched, hand_over=hand_over,
        )  # fmt: skip

    def _drain(self, cluster: Cluster | InlineCluster, servers: Servers, watch: Watch) -> None:
        watch.close()
        self._screen.say("stopping: finishing what is in flight; Ctrl-C ends at once", "yellow")
        drained = cluster.stop()
        try:
            asyncio.run(self._clear(servers.redis_url))
        except HeadraceError as error:
            self._screen.say(f"The store could not be told that it has stopped: {error}", "yellow")
        if drained:
            self._screen.say(f"{self._plan.name} has stopped: {watch.summary}")
        else:
            self._screen.say(
                f"{self._plan.name} has stopped, not all of what was in flight could be finished: it is processed at"
                f" the next start. {watch.summary}", "yellow"
            )  # fmt: skip

    def _tell_children(self, servers: Servers) -> None:
        """User code finds the servers by the environment, in this process and in those of Ray."""
        os.environ.update(self._order.environment)
        if self._order.reload:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ[REDIS_URL] = servers.redis_url
        if servers.kafka:
            os.environ[KAFKA] = servers.kafka

    def _refuse_lost_state(self, servers: Servers) -> None:
        if not self._order.start_over and not asyncio.run(self._stored_partitions(servers.redis_url)):
            servers.refuse_lost_state()

    def _choose_partitions(self, servers: Servers) -> int:
        """By option, workflow, first start, topic, default; those of the first start can't be changed."""
        stored = asyncio.run(self._stored_partitions(servers.redis_url))
        asked = self._order.partitions or self._plan.partitions
        if not stored and (problems := self._workflow.check()):
            raise WorkflowError(self._plan.name, problems)  # a time that is past is a mistake at the first start only
        if stored and asked and stored != asked:
            raise HeadraceError(
                f"{self._plan.name} has {stored} partitions in this store since its first start, not {asked}. This can"
                f" not be changed: keys would be looked for elsewhere. Say {stored}, or take another store or name."
            )
        if not self._plan.keyed:
            return 1
        default = _DEV_PARTITIONS if self._order.embedded else DEFAULT_PARTITIONS
        return stored or asked or servers.source_partitions() or default

    def _choose_durability(self, url: str, asked: Durability | None) -> Durability:
        try:
            return asyncio.run(choose_durability(url, asked))
        except DurabilityUnchosen as error:
            self._screen.say(f"The store can't do durability fsync: {error.cause}. {error.cure}", "yellow")
            return FAST

    async def _stored_partitions(self, url: str) -> int:
        async with Registry(url, connections=1) as registry:
            descriptor = await registry.workflow(self._plan.name)
        return descriptor.partitions if descriptor else 0

    async def _publish(self, url: str, partitions: int) -> None:
        async with Registry(url, connections=1) as registry:
            descriptor = descriptor_of(self._plan, partitions, self._ref.version, durability=str(self._durability))
            await registry.publish_workflow(descriptor)
            await clear_stop(registry, self._plan.name)

    async def _clear(self, url: str) -> None:
        async with Registry(url, connections=1) as registry:
            await clear_stop(registry, self._plan.name)

    def _note(self, servers: Servers) -> None:
        self._project.note(
            RunFile(
                workflow=self._plan.name, target=self._order.target, pid=os.getpid(), host=socket.gethostname(),
                redis_url=servers.redis_url, kafka=servers.kafka, started=time.time(),
            )
        )  # fmt: skip

    def _say_where(self, servers: Servers, partitions: int) -> None:
        say = self._screen.say
        say(f"{self._plan.name}  {self._order.target}  {partitions} partition{'' if partitions == 1 else 's'}", "bold")
        for line in servers.lines:
            say(f"  {line}")
        self._screen.explain("  Level  ", f"{self._durability}: {self._durability.sentence}")
        if not self._order.inline:
            say(f"  Logs   {self._relative(self._project.log(self._plan.name))}")
        if self._order.embedded:
            for path in write_senders(self._plan, servers.clusters, self._project.folder):
                say(f"  Send   python {self._relative(path)}", "cyan")

    @staticmethod
    def _relative(path: Path) -> str:
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
