"""Apache Kafka as one process: broker and controller in one Java virtual machine."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from headrace.embedded.errors import ServerFailed
from headrace.embedded.kafka_listeners import Security
from headrace.embedded.maven import jars, java, java_missing, maven_missing
from headrace.embedded.ports import LOOPBACK, free_port
from headrace.embedded.probes import kafka_answers
from headrace.embedded.server import Server


class ApacheKafka(Server):
    """The real broker (4.1), with transactions; needs Java 17 and, the first time, Maven.

    Topics are not created by themselves. Internal topics have one replica and few partitions, and a
    group's first rebalance waits for nobody: right for one node, wrong for production.

    Args:
        cache: Folder for the jars, filled by the first start (some 55 MB from Maven Central).
        folder: Where its topics are kept; None: a temporary folder, removed by `stop`.
        port: Port to listen on; None: a free one.
        heap: Limit of the Java heap, as `-Xmx` takes it.
        options: More of the broker's settings by name, such as `{"message.max.bytes": "8388608"}`.
        security: Further listeners, with TLS or SASL; see `address`.
        start_within: How long `start` waits for an answer, the download not counted.
    """

    name = "Apache Kafka"
    kind: ClassVar[str] = "apache"
    transactions: ClassVar[bool] = True

    def __init__(
        self,
        *,
        cache: Path = Path(".headrace/cache"),
        folder: Path | None = None,
        port: int | None = None,
        heap: str = "512m",
        options: Mapping[str, str] | None = None,
        security: Security | None = None,
        start_within: timedelta = timedelta(seconds=60),
    ) -> None:
        super().__init__(folder=folder, port=port, start_within=start_within)
        self._cache = cache.absolute()
        self._heap = heap
        self._options = dict(options or {})
        self._security = security or Security(listeners=())
        self._controller_port: int | None = None
        self._ports: dict[str, int] = {}

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be had, and the cure; None: it can.

        Maven counts as needed, although a filled cache does without it.
        """
        return java_missing() or maven_missing()

    @property
    def bootstrap(self) -> str:
        """For clients: `127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.port}"

    def address(self, protocol: str) -> str:
        """`127.0.0.1:PORT` of the listener with this protocol, once it has been started."""
        return f"{LOOPBACK}:{self._ports[protocol]}"

    def _prepare(self) -> None:
        for listener in self._security.listeners:
            self._ports.setdefault(listener.protocol, free_port())
        if self._controller_port is None:
            self._controller_port = free_port()
        settings = self._settings(self._controller_port)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not (self._data / "meta.properties").exists():
            self._format()

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _settings(self, controller_port: int) -> dict[str, str]:
        further = {listener.name: self.address(listener.protocol) for listener in self._security.listeners}
        clients = ",".join(f"{name}://{address}" for name, address in {"PLAINTEXT": self.bootstrap, **further}.items())
        protocols = ",".join(f"{listener.name}:{listener.protocol}" for listener in self._security.listeners)
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"{clients},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{protocols}".rstrip(","),
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # After a kill the broker may register again only when its last session has ended (9 s by default).
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            **self._security.settings(),
            **self._options,
        }

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One argument: the id may begin with a dash.
        storage = ["format", "--standalone", f"--cluster-id={cluster}", "--config", str(self._properties)]
        storage += [argument for user in self._security.scram_users for argument in ("--add-scram", user)]
        formatted = subprocess.run(
            self._java("kafka.tools.StorageTool", *storage), capture_output=True, text=True, check=False
        )
        if formatted.returncode != 0:
            raise ServerFailed(self.name, "its folder can't be formatted", formatted.stdout + formatted.stderr)

    def _command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        return [
            java() or "java",
            f"-Xmx{self._heap}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-classpath",
            f"{jars(self._cache)}/*",
            main_class,
            *arguments,
        ]

    def _answers(self) -> bool:
        return kafka_answers(self.port)
