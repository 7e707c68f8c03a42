"""Whether each broker can be reached where it sends its clients: at another address than the one that was typed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from headrace.sources.kafka_connection import KafkaConnection

_LOCAL = ("localhost", "127.", "::1", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class Unreached:
    """A broker that clients here can't reach.

    Attributes:
        node: Its number in the cluster.
        address: What it advertises, `host:port`.
        bootstrap: Where the cluster was asked for it.
        cause: What happened.
    """

    node: int
    address: str
    bootstrap: str
    cause: str

    @property
    def sentence(self) -> str:
        """What is wrong."""
        return f"broker {self.node} sends clients to {self.address}, which can't be reached from here ({self.cause})"

    @property
    def cure(self) -> str:
        """What to do."""
        local = self.address.startswith(_LOCAL) and not self.bootstrap.startswith(_LOCAL)
        why = " For everybody but itself that is another machine." if local else ""
        return (
            "Set advertised.listeners of that broker to an address that is known here; networks with other names for it"
            f" (a container's, another machine's) need a listener each.{why}"
        )


async def unreached_brokers(connection: KafkaConnection, client: Any) -> list[Unreached]:
    """Try to connect to every broker of a cluster.

    Args:
        connection: The cluster.
        client: One of its clients, connected.

    Raises:
        ClusterUnavailable: An option can't be used here.
    """
    brokers = sorted(client.cluster.brokers())
    found = await asyncio.gather(*(connection.reach(broker.host, broker.port) for broker in brokers))
    return [
        Unreached(
            broker.nodeId, f"{broker.host}:{broker.port}", connection.bootstrap, str(error) or type(error).__name__
        )
        for broker, error in zip(brokers, found, strict=True)
        if error is not None
    ]
