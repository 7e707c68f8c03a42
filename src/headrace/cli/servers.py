"""The servers that a workflow needs: embedded ones that are started here, or given ones that are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import structlog

from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.waiting import check_store, make_topics, partitions_of, until_there
from headrace.embedded import ApacheKafka, Server, Tansu, Valkey
from headrace.sources.connection import address_of
from headrace.sources.kafka_connection import BOOTSTRAP, KafkaClusters, KafkaConnection, by_cluster, connection_of
from headrace.sources.kafka_prior import refuse_lost_state
from headrace.workflows.plan import Plan

log = structlog.get_logger(__name__)
T = TypeVar("T")
_S = TypeVar("_S", bound=Server)

BrokerKind: TypeAlias = Literal["tansu", "apache"]
_TIMES: Final = 5
"""How often an embedded server that has ended is started again."""


def needs_kafka(plan: Plan) -> bool:
    """Whether a source or sink is on the default Kafka cluster."""
    return any(port.cluster is None for port, _ in _ports(plan))


def check_clusters(plan: Plan, clusters: KafkaClusters) -> None:
    """See that each Kafka source and sink has its cluster, and that the options of these can be used.

    Raises:
        UnknownCluster: One has none.
        KafkaOptionError: An option can't be used.
    """
    for port, _ in _ports(plan):
        connection_of(port, clusters)


def _ports(plan: Plan) -> Iterator[tuple[Any, bool]]:
    """Kafka sources and sinks, and whether they are read."""
    yield from ((row.source, True) for row in plan.sources if row.source.kind == "kafka")
    yield from ((row.sink, False) for row in plan.sinks if row.sink.kind == "kafka")


class Servers:
    """Redis and Kafka for one workflow; what is started here is stopped at the end.

    Args:
        plan: The workflow.
        redis_url: A given store; None: an embedded one.
        clusters: Given Kafka clusters; for others that the workflow needs, a broker is embedded each.
        broker: Which one to embed.
        project: Where programs of brokers are cached.
        screen: Told what is started and waited for.
        given_up: Whether to end waiting.
        synced: An embedded store is to sync each write before it answers.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        redis_url: str | None,
        clusters: KafkaClusters,
        broker: BrokerKind,
        project: Project,
        screen: Screen,
        given_up: Callable[[], bool],
        synced: bool = False,
    ) -> None:
        self._plan = plan
        self._appendfsync: Literal["always", "everysec"] = "always" if synced else "everysec"
        self._given_url = redis_url
        self._broker = broker
        self._project = project
        self._screen = screen
        self._given_up = given_up
        self._stack = ExitStack()
        self._embedded: list[Server] = []
        self._restarts = 0
        self._partitions = 0
        self.redis_url = redis_url or ""
        self.clusters = clusters
        """Given and embedded ones."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # what was started goes again when the next one does not start
            if not self._given_url:
                self.redis_url = self._start(stack, Valkey(appendfsync=self._appendfsync)).url
            for name in dict.fromkeys(port.cluster for port, _ in _ports(self._plan)):
                self._embed(stack, name)
            self._stack = stack.pop_all()
        return self

    def _embed(self, stack: ExitStack, name: str | None) -> None:
        """Start a broker for this cluster, unless there is one."""
        kafka, named = self.clusters.kafka, self.clusters.clusters
        if kafka.get(BOOTSTRAP) if name is None else named.get(name, {}).get(BOOTSTRAP):
            return
        server = Tansu(cache=self._project.cache) if self._broker == "tansu" else ApacheKafka(cache=self._project.cache)
        options = {BOOTSTRAP: self._start(stack, server).bootstrap}
        self.clusters = (
            KafkaClusters(options, named) if name is None else KafkaClusters(kafka, {**named, name: options})
        )

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack, server: _S) -> _S:
        stack.enter_context(server)
        self._embedded.append(server)
        return server

    @property
    def lines(self) -> list[str]:
        """Addresses, for people."""
        names = {type(server): server.name for server in self._embedded}
        redis = f"Redis  {self.redis_url}" if Valkey in names else f"Redis  {address_of(self.redis_url)}"
        lines = [redis + (f"  ({names[Valkey]}, embedded)" if Valkey in names else "")]
        embedded = {row.bootstrap: row.name for row in self._embedded if isinstance(row, (Tansu, ApacheKafka))}
        for connection, _ in self._by_cluster():
            name = embedded.get(connection.bootstrap)
            lines.append(f"Kafka  {connection.address}" + (f"  ({name}, embedded)" if name else ""))
        return lines

    @property
    def kafka(self) -> str | None:
        """Brokers of the default cluster."""
        return self.clusters.kafka.get(BOOTSTRAP)

    @property
    def connections(self) -> list[KafkaConnection]:
        """Each Kafka cluster that the workflow uses."""
        return [connection for connection, _ in self._by_cluster()]

    def wait(self) -> None:
        """Wait until the store and all brokers answer.

        Raises:
            StoreUnsuitable: State would not be safe in this store.
            Interrupted: The wait was given up.
        """
        address = address_of(self.redis_url)
        self._until(lambda: check_store(self.redis_url), f"Redis at {address}")
        for connection, _ in self._by_cluster():
            self._ask(connection, [])

    def source_partitions(self) -> int:
        """The largest number of partitions that a topic has that is read; 0 when none of them exists."""
        most = 0
        for connection, topics in self._by_cluster():
            patterns = [port for port, _ in self._of(connection) if not isinstance(port.topic, str)]
            found = self._ask(connection, [topic for topic, is_read in topics.items() if is_read], patterns)
            most = max([most, *found.values()])
        return most

    def missing_topics(self) -> list[str]:
        """Topics of the workflow that don't exist."""
        missing: list[str] = []
        for connection, topics in self._by_cluster():
            found = self._ask(connection, list(topics))
            missing += [topic for topic in topics if topic not in found]
        return missing

    def refuse_lost_state(self) -> None:
        """See that a workflow which the store does not know has not run before.

        Raises:
            StateLost: It has.
        """
        self._until(partial(refuse_lost_state, self._plan.name, self._plan.sources, self.clusters), "Kafka")

    def make_topics(self, partitions: int, *, replication: int = 1) -> list[str]:
        """Make the topics that don't exist yet, with so many copies of each; returns their names."""
        self._partitions = partitions
        all_made: list[str] = []
        for connection, topics in self._by_cluster():
            wanted = dict.fromkeys(topics, partitions)
            ask = partial(make_topics, connection, wanted, replication=replication)
            made = self._until(ask, f"Kafka at {connection.address}")
            if made:
                log.info("topics_made", cluster=connection.address, topics=made, partitions=partitions)
            all_made += made
        return all_made

    def take(self, plan: Plan) -> None:
        """Another version of the workflow: make the topics that it has more.

        Raises:
            HeadraceError: It needs a server that was not started.
        """
        check_clusters(plan, self.clusters)
        self._plan = plan
        if self._partitions:
            self.make_topics(self._partitions)

    def look(self) -> None:
        """Start an embedded server again that has ended by itself.

        Raises:
            ServerFailed: It does not start again.
        """
        for server in self._embedded:
            if server.running or self._restarts >= _TIMES:
                continue
            self._restarts += 1
            lost = " Its topics are lost." if isinstance(server, Tansu) else ""
            self._screen.say(f"{server.name} has ended; starting it again.{lost}", "red")
            server.restart()
            if not isinstance(server, Valkey) and self._partitions:
                self.make_topics(self._partitions)

    def _by_cluster(self) -> list[tuple[KafkaConnection, Mapping[str, bool]]]:
        """Clusters of the workflow; topic (of those with a name) -> whether it is read."""
        found: list[tuple[KafkaConnection, Mapping[str, bool]]] = []
        for connection, ports in by_cluster(_ports(self._plan), lambda row: row[0], self.clusters):
            topics: dict[str, bool] = {}
            for port, is_read in ports:
                if not isinstance(port.topic, str):
                    continue
                topics[port.topic] = topics.get(port.topic, False) or is_read
            found.append((connection, topics))
        return found

    def _of(self, connection: KafkaConnection) -> list[tuple[Any, bool]]:
        return [row for row in _ports(self._plan) if connection_of(row[0], self.clusters).name == connection.name]

    def _ask(self, connection: KafkaConnection, topics: list[str], matching: Sequence[Any] = ()) -> dict[str, int]:
        return self._until(partial(partitions_of, connection, topics, matching), f"Kafka at {connection.address}")

    def _until(self, ask: Callable[[], Awaitable[T]], name: str) -> T:
        return asyncio.run(until_there(ask, name, self._screen, self._given_up))
