"""Looks at every machine of a Ray cluster before anything is started there: code, libraries, store, brokers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import ray
from packaging.requirements import InvalidRequirement, Requirement
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from headrace.actors.store_registry import Registry
from headrace.sources.connection import address_of
from headrace.sources.store_address import StoreAddress
from headrace.workflows.errors import HeadraceError

WITHIN: Final = 45.0
"""Seconds for all machines: each starts a process and imports Headrace."""
_CONNECT_WITHIN: Final = 3.0
_STORE_WITHIN: Final = 10.0
"""Seconds for the store, which may be asked for by Sentinels or nodes that are away."""
_MOST: Final = 64
"""Machines that are looked at; in a larger cluster the first so many."""


class Finding(msgspec.Struct, frozen=True):
    """What one machine says."""

    host: str
    versions: str
    """`Headrace 0.1.0, Python 3.11.9`."""
    problems: tuple[str, ...] = ()


class ClusterUnsuitable(HeadraceError):
    """The workflow would not run on the machines of this cluster.

    Attributes:
        problems: Sentence -> the machines that say it.
    """

    def __init__(self, problems: dict[str, list[str]]) -> None:
        self.problems = problems
        lines = [f"  {', '.join(hosts)}: {sentence}" for sentence, hosts in problems.items()]
        super().__init__("\n".join(["The workflow would not run on this cluster:", *lines]))

    def __reduce__(self) -> tuple[type[ClusterUnsuitable], tuple[dict[str, list[str]]]]:
        return type(self), (self.problems,)


def requirements_of(text: str) -> list[str]:
    """The requirements of a `requirements.txt`: names and versions, without comments and pip's own options.

    Raises:
        HeadraceError: A line is no requirement that can be checked on other machines (a file, a URL of pip's own kind).
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        wanted = line.split(" #")[0].strip()
        if not wanted or wanted.startswith(("#", "--hash", "-i ", "--index-url", "--extra-index-url")):
            continue
        try:
            found.append(str(Requirement(wanted.split(" --hash")[0].rstrip("\\ "))))
        except InvalidRequirement as error:
            raise HeadraceError(
                f"Line {number} of the requirements, {wanted!r}, is no name with versions, so it can't be looked for on"
                " the cluster's machines. Leave it out, and build it into their image."
            ) from error
    return found


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


def find(redis_url: str, servers: Sequence[str], requirements: Sequence[str]) -> Finding:
    """What there is to say of the machine that this runs on.

    Args:
        redis_url: The store, which is really asked: certificates and secrets must lie here, too.
        servers: Each Kafka cluster, `host:port,host:port`; of each one broker that answers is enough.
        requirements: Of the workflow.
    """
    store = _missing_file(redis_url) or asyncio.run(_store_problem(redis_url))
    problems = [] if store is None else [store]
    for brokers in servers:
        if not any(map(_reaches, brokers.split(","))):
            problems.append(f"no Kafka broker of {brokers} can be reached from there")
    missing = missing_of(requirements)
    if missing:
        problems.append(f"{', '.join(missing)} not installed. Build what is required into the cluster's image")
    versions = f"Headrace {importlib.metadata.version('headrace')}, Python {platform.python_version()}"
    return Finding(socket.gethostname(), versions, tuple(problems))


def probe_cluster(redis_url: str, servers: Sequence[str], requirements: Sequence[str] = ()) -> list[Finding]:
    """Ask every machine of the cluster that this process is connected to.

    Args:
        redis_url: The store.
        servers: Each Kafka cluster, `host:port,host:port`.
        requirements: What the workflow needs, as in `requirements.txt`.

    Raises:
        ClusterUnsuitable: Some machine lacks something; names each.
    """
    asked = {}
    ours = importlib.metadata.version("headrace")
    nodes: Any = ray.nodes  # it has no types
    for node in [row for row in nodes() if row["Alive"]][:_MOST]:
        remote: Any = ray.remote(num_cpus=0, max_retries=1)(_look(ours))
        at = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[node["NodeManagerHostname"]] = remote.options(scheduling_strategy=at).remote(
            redis_url, list(servers), list(requirements)
        )
    findings, problems = [], dict[str, list[str]]()
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=WITHIN) if asked else ([], [])
    for host, ref in asked.items():
        try:
            finding = msgspec.json.decode(ray.get(ref, timeout=0 if ref not in ready else 5.0), type=Finding)
        except GetTimeoutError:
            finding = Finding(host, "", (f"no answer within {WITHIN:.0f} s. Has it a free process?",))
        except RayError as error:
            finding = Finding(host, "", (str(error).strip().splitlines()[-1],))
        findings.append(finding)
        for sentence in finding.problems:
            problems.setdefault(sentence, []).append(host)
    if problems:
        raise ClusterUnsuitable(problems)
    return findings


def _look(version: str) -> Callable[[str, list[str], list[str]], bytes]:
    """The task; a closure travels by value, so it can also say that Headrace itself is missing over there."""

    def look(redis_url: str, servers: list[str], requirements: list[str]) -> bytes:
        import json  # noqa: PLC0415  it runs elsewhere, with nothing imported
        import socket  # noqa: PLC0415

        try:
            import importlib.metadata  # noqa: PLC0415

            import msgspec  # noqa: PLC0415

            from headrace.actors.cluster_probe import find  # noqa: PLC0415
        except ImportError as error:
            sentence = f"Headrace can't be imported there ({error}). Install headrace=={version} in the cluster's image"
            return json.dumps({"host": socket.gethostname(), "versions": "", "problems": [sentence]}).encode()
        there = importlib.metadata.version("headrace")
        if there != version:
            sentence = f"it has Headrace {there}, this is {version}. Use the same version"
            return json.dumps({"host": socket.gethostname(), "versions": there, "problems": [sentence]}).encode()
        return msgspec.json.encode(find(redis_url, servers, requirements))

    return look


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
        async with asyncio.timeout(_STORE_WITHIN), Registry(redis_url, connections=1):
            return None
    except TimeoutError:
        cause = f"the store at {address_of(redis_url)} has not answered within {_STORE_WITHIN:.0f} s"
    except HeadraceError as error:
        cause = str(error).rstrip(".")
    return f"{cause}. Give an address that is known there; files and variables it names must be there, too"


def _reaches(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_WITHIN).close()
    except (OSError, ValueError):
        return False
    return True
