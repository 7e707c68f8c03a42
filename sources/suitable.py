"""Whether a store may be used: it keeps what it is given, and can make it as durable as asked for."""

from __future__ import annotations

from typing import Any, Final

from headrace.sources.connection import Client, address_of, connect, store_errors
from headrace.sources.routing import servers_of
from headrace.workflows.durability import Durability, DurabilityUnchosen
from headrace.workflows.store import StoreDenied, StoreUnsuitable

_OLDEST: Final = (7, 0)
_WAITAOF_SINCE: Final = (7, 2)
_OTHER_LEVEL: Final = "Or choose another durability (fast, replicas)"
_SYNCED: Final = Durability("fsync")


async def check_server(client: Client, address: str) -> str:
    """Make sure that state is safe in this server, or in all of a cluster.

    Returns:
        Its name and version, such as `valkey 9.1.2`.

    Raises:
        StoreUnavailable: It cannot be reached.
        StoreUnsuitable: It might drop keys by itself, or is too old, or does not let us in.
    """
    name = ""
    for info, _ in await _looks(client, address, "server", "memory"):
        policy = info.get("maxmemory_policy")
        if policy != "noeviction":
            raise StoreUnsuitable(
                address,
                f"with maxmemory-policy {policy} it drops state when its memory is full",
                "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its configuration file).",
            )
        name = _name(info)
        if _version(info) < _OLDEST:
            raise StoreUnsuitable(address, f"it is {name}", "Use Redis 7.0, Valkey 7.2, or newer.")
    return name


async def check_durability(client: Client, address: str, durability: Durability) -> None:
    """Make sure that the server, or each of a cluster, can do what a level promises, as it is set up now.

    Raises:
        StoreUnavailable: It cannot be reached.
        StoreUnsuitable: It can't; says why, and what to do.
    """
    if not durability.waits:
        return
    for info, there in await _looks(client, address, "server", "persistence", "replication"):
        if durability.level == "fsync":
            problem = await _sync_problem(client, address, info, there)
        else:
            problem = _replica_problem(info, durability.replicas)
        if problem is not None:
            cause, cure = problem
            raise StoreUnsuitable(address, cause, f"{cure}.")


async def _looks(client: Client, address: str, *sections: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What each server says of itself, and how to ask it more."""
    untyped: Any = client
    try:
        with store_errors(address):
            return [(await untyped.info(*sections, **there), there) for there in await servers_of(client)]
    except StoreDenied as error:
        raise StoreUnsuitable(
            address, error.cause, "Check user and password in its address, and what the user may do there (INFO)."
        ) from error


async def choose_durability(url: str, asked: Durability | None) -> Durability:
    """The level that is to hold with the store at `url`: the one asked for, else `fsync` if the store can do it.

    Raises:
        StoreUnavailable: It cannot be reached.
        StoreUnsuitable: It can't do what is asked for.
        DurabilityUnchosen: None is asked for, and it can't do `fsync`: whoever starts the workflow has to choose.
    """
    address, client = address_of(url), connect(url, connections=1)
    try:
        await check_durability(client, address, asked or _SYNCED)
    except StoreUnsuitable as error:
        if asked is not None:
            raise
        raise DurabilityUnchosen(address, error.cause, error.cure) from error
    finally:
        await client.aclose()
    return asked or _SYNCED


async def _sync_problem(
    client: Client, address: str, info: dict[str, Any], there: dict[str, Any]
) -> tuple[str, str] | None:
    """Why this server does not sync before it answers, and the cure; None: it does."""
    if _version(info) < _WAITAOF_SINCE:
        return f"{_name(info)} has no WAITAOF", f"Use Valkey, or Redis 7.2 or newer. {_OTHER_LEVEL}"
    if not info.get("aof_enabled"):
        return "its append-only file is off", (
            "Set appendonly yes and appendfsync always (CONFIG SET, and in its configuration file)."
            f' Headrace\'s own: Valkey(appendfsync="always"). {_OTHER_LEVEL}'
        )
    untyped: Any = client
    try:
        with store_errors(address):
            policy: dict[str, str] = await untyped.config_get("appendfsync", "no-appendfsync-on-rewrite", **there)
    except StoreDenied as error:
        return f"how it syncs can't be seen ({error.cause})", f"Allow the user CONFIG GET (+config|get). {_OTHER_LEVEL}"
    if policy.get("appendfsync") != "always":
        # Under `everysec` WAITAOF answers before a sync (Valkey 9.1: at the first look at an empty buffer).
        return f"appendfsync is {policy.get('appendfsync')}", (
            f"Set it to always (CONFIG SET appendfsync always, and in its configuration file). {_OTHER_LEVEL}"
        )
    if policy.get("no-appendfsync-on-rewrite") == "yes":
        return "with no-appendfsync-on-rewrite it does not sync while it rewrites its file", (
            f"CONFIG SET no-appendfsync-on-rewrite no, and in its configuration file. {_OTHER_LEVEL}"
        )
    return None


def _replica_problem(info: dict[str, Any], wanted: int) -> tuple[str, str] | None:
    if info.get("role") != "master":
        return "it is itself a replica", "Give the address of the primary"
    rows = [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]
    online = sum(row.get("state") == "online" for row in rows)
    if online >= wanted:
        return None
    return (
        f"{online} of {wanted} replicas are connected",
        "Start replicas (REPLICAOF), or ask for fewer. Or choose another durability (fast, fsync)",
    )


def _name(info: dict[str, Any]) -> str:
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


def _version(info: dict[str, Any]) -> tuple[int, int]:
    """Version of Redis that the server is compatible with: Valkey says 7.2.4, whatever its own is."""
    major, minor, *_ = str(info["redis_version"]).split(".")
    return int(major), int(minor)
