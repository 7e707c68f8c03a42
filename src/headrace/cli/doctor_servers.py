"""The part of `doctor` that asks Redis, Kafka and Ray, as settings name them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka.errors import KafkaError

from headrace.cli.findings import Check
from headrace.settings import Settings
from headrace.settings.model import BOOTSTRAP
from headrace.sources.connection import Client, store_errors
from headrace.sources.kafka_connection import KEEPS_TRYING, ClusterUnavailable, KafkaClusters, connection_of
from headrace.sources.kafka_coordinator import lack_of_transactions
from headrace.sources.kafka_produce import Session
from headrace.sources.kafka_reach import unreached_brokers
from headrace.sources.routing import servers_of
from headrace.sources.store_address import address_of
from headrace.sources.store_clients import connect
from headrace.sources.suitable import check_durability, check_server
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable, StoreUnsuitable

_SKEW_WARN: Final = 0.5
_SKEW_FAIL: Final = 30.0
"""Seconds: times of events and of timers would disagree for everybody to see."""
_WITHIN: Final = 15.0
_FULL: Final = 0.8
"""Part of its memory that a store may have used."""


async def look_at_servers(settings: Settings) -> list[Check]:
    """What each server says; those that are away cost some seconds, all together."""
    kafka = {"": settings.kafka} if settings.kafka.get(BOOTSTRAP) else {}
    looks: list[Callable[[], Awaitable[list[Check]]]] = [
        lambda: _redis(settings),
        *(lambda name=name: _kafka(name, settings) for name in [*kafka, *settings.clusters]),
        lambda: _ray(settings.ray_address),
    ]
    found = [check for checks in await asyncio.gather(*(look() for look in looks)) for check in checks]
    if not kafka and not settings.clusters:
        found.append(Check("Kafka", "skip", "no address in the settings; dev starts a broker", ""))
    return found


async def _redis(settings: Settings) -> list[Check]:
    url = settings.redis_url
    if not url:
        return [Check("Redis", "skip", "no address in the settings; dev starts Valkey")]
    address = address_of(url)
    try:
        client = connect(url, connections=1)
    except HeadraceError as error:
        return [Check("Redis", "fail", str(error))]
    try:
        name = await check_server(client, address)
        checks = [Check("Redis", "ok", f"{name} at {address}, noeviction")]
        checks.append(await _durability(client, address, settings.durability))
        checks += await _store_room(client, address)
        checks.append(await _clock(client, address))
    except StoreUnsuitable as error:
        return [Check("Redis", "fail", f"the store at {address} can't be used: {error.cause}", error.cure)]
    except StoreUnavailable as error:
        cure = "Check that it runs and can be reached; headrace dev brings its own."
        return [Check("Redis", "fail", f"no answer at {address}: {error.cause}", cure)]
    except HeadraceError as error:
        return [Check("Redis", "fail", str(error))]
    finally:
        await client.aclose()
    return checks


async def _durability(client: Client, address: str, asked: str | None) -> Check:
    level = Durability.parse(asked or "fsync")
    try:
        await check_durability(client, address, level)
    except StoreUnsuitable as error:
        outcome = "fail" if asked else "warn"
        consequence = "" if asked else "; what leaves may be repeated if it loses its last second"
        return Check("durability", outcome, f"it can't do {level}: {error.cause}{consequence}", error.cure)  # type: ignore[arg-type]
    return Check("durability", "ok", f"it can do {level}: {level.sentence}")


async def _store_room(client: Client, address: str) -> list[Check]:
    untyped: Any = client
    with store_errors(address):
        infos = [await untyped.info("memory", **there) for there in await servers_of(client)]
    rooms = [(int(info["used_memory"]), int(info.get("maxmemory", 0))) for info in infos]
    used, most = max(rooms, key=lambda room: (room[0] / (room[1] or math.inf), room[0]))
    text = f"{used / (1 << 20):,.0f} MiB used" + (f" of {most / (1 << 20):,.0f}" if most else ", without a limit")
    text += f", at the fullest of {len(rooms)} nodes" if len(rooms) > 1 else ""
    if most and used > most * _FULL:
        return [Check("store memory", "warn", text, "Give it more (maxmemory): at its limit sources pause.")]
    return [Check("store memory", "ok", text)]


async def _clock(client: Client, address: str) -> Check:
    """How far this host's clock is from the store's, by which timers go. Kafka tells no time."""
    untyped: Any = client
    with store_errors(address):
        before = time.time()
        seconds, micros = await untyped.time()
        after = time.time()
    skew = (before + after) / 2 - (int(seconds) + int(micros) / 1_000_000)
    trip = (after - before) / 2
    text = f"this host's is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} the store's (within {trip:.3f} s)"
    cure = "Let both keep time by NTP: timers go by the store's clock, times of events by the hosts'."
    certain = abs(skew) - trip
    if certain <= _SKEW_WARN:
        return Check("clocks", "ok", text)
    return Check("clocks", "fail" if certain > _SKEW_FAIL else "warn", text, cure)


class _Port:
    """Stands for a source on a cluster."""

    def __init__(self, cluster: str) -> None:
        self.name = "doctor"
        self.cluster = cluster or None


async def _kafka(name: str, settings: Settings) -> list[Check]:
    label = f"Kafka {name}".strip()
    session: Session | None = None
    try:
        connection = connection_of(_Port(name), KafkaClusters(settings.kafka, settings.clusters))
        session = Session(connection)
        async with asyncio.timeout(_WITHIN):
            return await _brokers(session, label)
    except ClusterUnavailable as error:
        cure = error.cure.removeprefix(KEEPS_TRYING)
        return [
            Check(label, "fail", f"Kafka at {error.address} can't be used: {error.cause}", cure[:1].upper() + cure[1:])
        ]
    except (HeadraceError, KafkaError, OSError, TimeoutError) as error:
        return [Check(label, "fail", str(error) or f"no answer within {_WITHIN:g} s")]
    finally:
        if session is not None:
            await session.close()


async def _brokers(session: Session, label: str) -> list[Check]:
    """That it answers is not enough: each broker sends clients on to an address of its own choice."""
    await session.open()
    number, connection = len(session.client.cluster.brokers()), session.connection
    found = [Check(label, "ok", f"{number} broker{'' if number == 1 else 's'} at {connection.address}")]
    unreached = await unreached_brokers(connection, session.client)
    found += [Check(f"{label} brokers", "fail", broker.sentence, broker.cure) for broker in unreached]
    if unreached:
        return found  # whatever else is asked might go to one of these
    lack = await lack_of_transactions(session)
    if lack is None:
        return [*found, Check(f"{label} transactions", "ok", "outputs are exactly-once for read-committed readers")]
    cure = "Use Apache Kafka, or readers that skip a headrace-id they have seen."
    sentence = f"none: {lack}; outputs are at-least-once, with ids"
    return [*found, Check(f"{label} transactions", "warn", sentence, cure)]


async def _ray(address: str) -> list[Check]:
    if not address:
        return [Check("Ray", "skip", "no address in the settings; dev and run bring their own")]
    return await asyncio.to_thread(_ask_ray, address)


def _ask_ray(address: str) -> list[Check]:
    from headrace.actors.ray_connection import (  # noqa: PLC0415  loads Ray, which few look at
        RayAddress,
        RayUnreachable,
        preflight,
        use_token_if_there_is_one,
    )

    try:
        use_token_if_there_is_one()
        preflight(RayAddress.parse(address))
    except RayUnreachable as error:
        return [Check("Ray", "fail", f"the cluster at {address} can't be used: {error.cause}", error.cure)]
    except HeadraceError as error:
        return [Check("Ray", "fail", str(error))]
    return [Check("Ray", "ok", f"the cluster at {address} answers, and takes our token where it asks for one")]
