"""The servers that a workflow needs: embedded ones that are started here, or given ones that are waited for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Final, Literal, Self, TypeAlias, TypeVar

import structlog

from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.waiting import check_store, make_topics, partitions_of, until_there
from headrace.embedded import ApacheKafka, Server, Tansu, Valkey
from headrace.sources.connection import address_of
from headrace.workflows.plan import Plan

log = structlog.get_logger(__name__)
T = TypeVar("T")
_S = TypeVar("_S", bound=Server)

BrokerKind: TypeAlias = Literal["tansu", "apache"]
_TIMES: Final = 5
"""How often an embedded server that has ended is started again."""


def needs_kafka(plan: Plan) -> bool:
    """Whether a source or sink takes the Kafka that the workflow is run with."""
    return any(bootstrap is None for bootstrap, _, __ in _topics(plan))


def _topics(plan: Plan) -> Iterator[tuple[str | None, str, bool]]:
    """Brokers (None: those the workflow is run with), topic, whether it is read."""
    for source in plan.sources:
        if source.source.kind == "kafka":
            yield source.source.bootstrap, source.source.topic, True
    for sink in plan.sinks:
        if sink.sink.kind == "kafka":
            yield sink.sink.bootstrap, sink.sink.topic, False


class Servers:
    """Redis and Kafka for one workflow; what is started here is stopped at the end.

    Args:
        plan: The workflow.
        redis_url: A given store; None: an embedded one.
        kafka: Given brokers, `host:port,host:port`; None: an embedded one, if the workflow needs any.
        broker: Which one to embed.
        project: Where programs of brokers are cached.
        screen: Told what is started and waited for.
        given_up: Whether to end waiting.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        redis_url: str | None,
        kafka: str | None,
        broker: BrokerKind,
        project: Project,
        screen: Screen,
        given_up: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._given_url, self._given_kafka = redis_url, kafka
        self._broker = broker
        self._project = project
        self._screen = screen
        self._given_up = given_up
        self._stack = ExitStack()
        self._embedded: list[Server] = []
        self._restarts = 0
        self._partitions = 0
        self.redis_url = redis_url or ""
        self.kafka = kafka

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # what was started goes again when the next one does not start
            if not self._given_url:
                self.redis_url = self._start(stack, Valkey()).url
            if self._given_kafka is None and needs_kafka(self._plan):
                server = Tansu(cache=self._project.cache) if self._broker == "tansu" else ApacheKafka(
                    cache=self._project.cache
                )  # fmt: skip
                self.kafka = self._start(stack, server).bootstrap
            self._stack = stack.pop_all()
        return self

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
        if self.kafka is not None:
            broker = next((name for kind, name in names.items() if kind is not Valkey), None)
            lines.append(f"Kafka  {self.kafka}" + (f"  ({broker}, embedded)" if broker else ""))
        return lines

    def wait(self) -> None:
        """Wait until the store and all brokers answer.

        Raises:
            StoreUnsuitable: State would not be safe in this store.
            Interrupted: The wait was given up.
        """
        address = address_of(self.redis_url)
        self._until(lambda: check_store(self.redis_url), f"Redis at {address}")
        for bootstrap in self._by_broker():
            self._until(lambda at=bootstrap: partitions_of(at, []), f"Kafka at {bootstrap}")  # type: ignore[misc]

    def source_partitions(self) -> int:
        """The largest number of partitions that a topic has that is read; 0 when none of them exists."""
        most = 0
        for bootstrap, topics in self._by_broker().items():
            read = [topic for topic, is_read in topics.items() if is_read]
            found = self._until(lambda at=bootstrap, read=read: partitions_of(at, read), f"Kafka at {bootstrap}")  # type: ignore[misc]
            most = max([most, *found.values()])
        return most

    def make_topics(self, partitions: int) -> None:
        """Make the topics that don't exist yet."""
        self._partitions = partitions
        for bootstrap, topics in self._by_broker().items():
            wanted = dict.fromkeys(topics, partitions)
            made = self._until(lambda at=bootstrap, wanted=wanted: make_topics(at, wanted), f"Kafka at {bootstrap}")  # type: ignore[misc]
            if made:
                log.info("topics_made", bootstrap=bootstrap, topics=made, partitions=partitions)

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

    def _by_broker(self) -> dict[str, dict[str, bool]]:
        """Brokers -> topic -> whether it is read."""
        found: dict[str, dict[str, bool]] = defaultdict(dict)
        for own, topic, is_read in _topics(self._plan):
            bootstrap = own or self.kafka
            if bootstrap is not None:
                found[bootstrap][topic] = found[bootstrap].get(topic, False) or is_read
        return found

    def _until(self, ask: Callable[[], Awaitable[T]], name: str) -> T:
        return asyncio.run(until_there(ask, name, self._screen, self._given_up))
