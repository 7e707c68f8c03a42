"""Which Kafka cluster a source or sink uses in a deployment, and how any client of ours is made and connected."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn

from headrace.sources.kafka_security import KafkaOptionError, check_options, client_arguments
from headrace.workflows.errors import HeadraceError

T = TypeVar("T")

REQUEST_TIMEOUT_MS: Final = 8_000
"""A broker that does not answer is named within 10 s."""
BOOTSTRAP: Final = "bootstrap_servers"
_PROBE_SECONDS: Final = 1.5
_REFUSED: Final = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)


class UsesCluster(Protocol):
    """The part of a Kafka source or sink that says where its topic is."""

    @property
    def name(self) -> str:
        """Its own name."""
        ...

    @property
    def cluster(self) -> str | None:
        """Name of a cluster; None: the default one."""
        ...


class NamesClusters(Protocol):
    """A deployment, as far as it says which clusters there are."""

    @property
    def kafka(self) -> Mapping[str, str]:
        """Options of the default cluster, `bootstrap_servers` among them; empty: there is none."""
        ...

    @property
    def clusters(self) -> Mapping[str, Mapping[str, str]]:
        """Options of the named ones."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaClusters:
    """The clusters of a deployment; see `NamesClusters`."""

    kafka: Mapping[str, str] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class UnknownCluster(HeadraceError):
    """A source or sink is on a Kafka cluster that the deployment does not name.

    Attributes:
        port: Name of the source or sink.
        cluster: Name of the cluster; None: the default one.
        known: Names of those that there are.
    """

    def __init__(self, port: str, cluster: str | None, known: tuple[str, ...]) -> None:
        self.port = port
        self.cluster = cluster
        self.known = known
        if cluster is None:
            text = (
                f"{port} is on the default Kafka cluster, and this deployment has no address of it. "
                "Give one: --kafka HOST:9092, or bootstrap_servers of the deployment's `kafka`"
            )
        else:
            there = f"it names {', '.join(known)}" if known else "it names none"
            text = (
                f"{port} is on the Kafka cluster {cluster!r}, which this deployment does not name ({there}). "
                f"Add {cluster!r} to its `clusters`, with bootstrap_servers, or correct cluster= of {port}"
            )
        super().__init__(text)

    def __reduce__(self) -> tuple[type[UnknownCluster], tuple[str, str | None, tuple[str, ...]]]:
        return UnknownCluster, (self.port, self.cluster, self.known)


class ClusterUnavailable(HeadraceError):
    """No client of ours gets through to a Kafka cluster now.

    Attributes:
        address: Where it was looked for.
        word: Stable word: `kafka_unreachable`, `kafka_credentials`, `kafka_tls` or `kafka_options`.
        cause: What happened.
        cure: What to do.
    """

    def __init__(self, address: str, word: str, cause: str, cure: str) -> None:
        self.address = address
        self.word = word
        self.cause = cause
        self.cure = cure
        super().__init__(f"{_SAYS[word].format(address=address)} ({cause}). {cure}")

    def __reduce__(self) -> tuple[type[ClusterUnavailable], tuple[str, str, str, str]]:
        return ClusterUnavailable, (self.address, self.word, self.cause, self.cure)


_SAYS: Final = {
    "kafka_unreachable": "No Kafka broker can be reached at {address}",
    "kafka_credentials": "Kafka at {address} does not accept our credentials",
    "kafka_tls": "No TLS connection to Kafka at {address} can be made",
    "kafka_options": "No client for Kafka at {address} can be made",
}
WORDS: Final = tuple(_SAYS)
"""Of `ClusterUnavailable`."""
KEEPS_TRYING: Final = "Headrace keeps trying; "
"""How each cure begins: true of whoever runs, not of whoever only looks."""
_CURES: Final = {
    "kafka_unreachable": f"{KEEPS_TRYING}check that it runs, and that its advertised address can be reached from here.",
    "kafka_credentials": f"{KEEPS_TRYING}check sasl_mechanism, sasl_plain_username, and what "
    "sasl_plain_password refers to (a file that changes is read again).",
    "kafka_tls": f"{KEEPS_TRYING}check that this port of the broker speaks TLS, that ssl_cafile has the "
    "authority of its certificate, and that the certificate is for this host name.",
    "kafka_options": f"{KEEPS_TRYING}correct the option, or put there what it refers to.",
}


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """One Kafka cluster, as clients are made for it. Has references to secrets, never secrets, so it may travel."""

    name: str
    """As the deployment names it; empty: the default one."""
    bootstrap: str
    """`host:port` of a broker, or several with commas."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The rest of its options; see `kafka_security.OPTIONS`."""

    @property
    def address(self) -> str:
        """For people: `host:port`, or `eu (host:port)`."""
        return f"{self.name} ({self.bootstrap})" if self.name else self.bootstrap

    def client(self) -> AIOKafkaClient:
        """A client, not connected; made in the loop that uses it.

        Raises:
            ClusterUnavailable: An option can't be used here.
        """
        return AIOKafkaClient(client_id="headrace", **self._arguments())

    def admin(self) -> AIOKafkaAdminClient:
        """A client for administration, not connected.

        Raises:
            ClusterUnavailable: An option can't be used here.
        """
        return AIOKafkaAdminClient(client_id="headrace", **self._arguments())

    async def connect(self) -> AIOKafkaClient:
        """A client that is connected.

        Raises:
            ClusterUnavailable: It can't be, and why.
        """
        client = self.client()
        try:
            await self.open(client)
        except BaseException:
            await client.close()
            raise
        return client

    async def open(self, client: AIOKafkaClient) -> None:
        """Connect a client that `client` has made.

        Raises:
            ClusterUnavailable: It can't be, and why: the client itself only tells that it can't.
        """
        try:
            await client.bootstrap()
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise self.unavailable(await self._probe() or error) from error

    async def open_admin(self, admin: AIOKafkaAdminClient) -> None:
        """Connect what `admin` has made; raises as `open`."""
        try:
            await admin.start()
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise self.unavailable(await self._probe() or error) from error

    def unavailable(self, error: Exception) -> ClusterUnavailable:
        """What an error means for this cluster, with its cure."""
        word, cause = "kafka_unreachable", str(error) or type(error).__name__
        if isinstance(error, _REFUSED):
            word = "kafka_credentials"
        elif isinstance(error, ssl.SSLError):
            word = "kafka_tls"
        elif isinstance(error, KafkaOptionError):
            word = "kafka_options"
        cure = _CURES[word]
        if isinstance(error, ConnectionResetError) or (word == "kafka_unreachable" and "closed" in cause):
            cure += " A broker that closes the connection at once may want TLS, or none: see security_protocol."
        return ClusterUnavailable(self.address, word, cause, cure)

    def _arguments(self) -> dict[str, Any]:
        try:
            arguments = client_arguments(self.options)
        except KafkaOptionError as error:
            raise self.unavailable(error) from None
        return {"bootstrap_servers": self.bootstrap, "request_timeout_ms": REQUEST_TIMEOUT_MS, **arguments}

    async def reach(self, host: str, port: int) -> Exception | None:
        """Connect to one broker, with our credentials, and disconnect; what went wrong, None: nothing.

        Raises:
            ClusterUnavailable: An option can't be used here.
        """
        arguments = self._arguments()
        del arguments[BOOTSTRAP]
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                connection = await create_conn(host, port, client_id="headrace", **arguments)
        except TimeoutError:
            return TimeoutError(f"no answer within {_PROBE_SECONDS:g} s")
        except (errors.KafkaError, OSError) as error:
            return error
        connection.close()
        return None

    async def _probe(self) -> Exception | None:
        """What the first of the brokers that fails in a telling way says; None: all that is known is known."""
        found = await asyncio.gather(*(self.reach(host, port) for host, port, _ in collect_hosts(self.bootstrap)))
        telling = [error for error in found if isinstance(error, (*_REFUSED, ssl.SSLError))]
        return next(iter([*telling, *filter(None, found)]), None)


def connection_of(port: UsesCluster, where: NamesClusters) -> KafkaConnection:
    """The cluster of a Kafka source or sink.

    Args:
        port: The source or sink.
        where: The deployment that it is part of.

    Raises:
        UnknownCluster: The deployment does not have it.
        KafkaOptionError: One of its options can't be used.
    """
    options = where.kafka if port.cluster is None else where.clusters.get(port.cluster, {})
    if not options.get(BOOTSTRAP):
        raise UnknownCluster(port.name, port.cluster, tuple(sorted(where.clusters)))
    check_options(options)
    rest = {name: value for name, value in options.items() if name != BOOTSTRAP}
    return KafkaConnection(port.cluster or "", options[BOOTSTRAP], rest)


def by_cluster(
    items: Iterable[T], port: Callable[[T], UsesCluster], where: NamesClusters
) -> list[tuple[KafkaConnection, list[T]]]:
    """Sources or sinks (or what has one) with the cluster that they are on, one entry for each cluster.

    Raises:
        UnknownCluster: As `connection_of`.
        KafkaOptionError: As `connection_of`.
    """
    found: dict[str, tuple[KafkaConnection, list[T]]] = {}
    for item in items:
        connection = connection_of(port(item), where)
        found.setdefault(connection.name, (connection, []))[1].append(item)
    return list(found.values())
