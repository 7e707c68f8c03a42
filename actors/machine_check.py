"""What one machine of a cluster says of itself: libraries, and whether store and brokers can be used from there."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from packaging.requirements import Requirement

from headrace.actors.store_registry import Registry
from headrace.sources.connection import address_of
from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_reach import unreached_brokers
from headrace.sources.store_address import StoreAddress
from headrace.workflows.errors import HeadraceError

_WITHIN: Final = 10.0
"""Seconds for each server, which may have to be asked for by others that are away."""


class Finding(msgspec.Struct, frozen=True):
    """What one machine says."""

    host: str
    versions: str
    """`Headrace 0.1.0, Python 3.11.9`."""
    problems: tuple[str, ...] = ()


def connections_of(blob: bytes) -> list[KafkaConnection]:
    """Kafka clusters as they travel to a machine, which may not even have this module: as JSON."""
    return msgspec.json.decode(blob, type=list[KafkaConnection])


def missing_of(requirements: Sequence[str]) -> list[str]:
    """Those that this process's environment does not have, each with what it has instead."""
    missing = []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            have = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(str(wanted))
        else:
            if not wanted.specifier.contains(have, prereleases=True):
                missing.append(f"{wanted} (has {have})")
    return missing


def find(redis_url: str, kafka: Sequence[KafkaConnection], requirements: Sequence[str]) -> Finding:
    """What there is to say of the machine that this runs on.

    Args:
        redis_url: The store, which is really asked: certificates and secrets must lie here, too.
        kafka: Each Kafka cluster; one broker that answers is enough, and then all that it names must answer, too.
        requirements: Of the workflow.
    """
    store = _missing_file(redis_url) or asyncio.run(_store_problem(redis_url))
    problems = [] if store is None else [store]
    problems += [problem for connection in kafka for problem in asyncio.run(_kafka_problems(connection))]
    missing = missing_of(requirements)
    if missing:
        problems.append(f"{', '.join(missing)} not installed. Build what is required into the cluster's image")
    versions = f"Headrace {importlib.metadata.version('headrace')}, Python {platform.python_version()}"
    return Finding(socket.gethostname(), versions, tuple(problems))


def _missing_file(redis_url: str) -> str | None:
    try:
        missing = [path for path in StoreAddress.parse(redis_url).files if not Path(path).is_file()]
    except HeadraceError:
        return None  # whoever connects tells it
    there = f"{', '.join(missing)}, named in the address of the store, is not there. Put it there on each machine"
    return there if missing else None


async def _store_problem(redis_url: str) -> str | None:
    """Why the store can't be used from this machine."""
    try:
        async with asyncio.timeout(_WITHIN), Registry(redis_url, connections=1):
            return None
    except TimeoutError:
        cause = f"the store at {address_of(redis_url)} has not answered within {_WITHIN:.0f} s"
    except HeadraceError as error:
        cause = str(error).rstrip(".")
    return f"{cause}. Give an address that is known there; files and variables it names must be there, too"


async def _kafka_problems(connection: KafkaConnection) -> list[str]:
    """Why brokers of a cluster can't be used from this machine: also those that others send us on to."""
    try:
        async with asyncio.timeout(_WITHIN):
            client = await connection.connect()
            try:
                unreached = await unreached_brokers(connection, client)
            finally:
                await client.close()
    except TimeoutError:
        return [f"Kafka at {connection.address} has not answered within {_WITHIN:.0f} s"]
    except ClusterUnavailable as error:
        return [f"Kafka at {connection.address} can't be used from there: {error.cause}"]
    return [f"{broker.sentence}. {broker.cure}" for broker in unreached]
