"""Looks at every machine of a Ray cluster before anything is started there; each runs `machine_check`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import ray
from packaging.requirements import InvalidRequirement, Requirement
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from headrace.actors.machine_check import Finding
from headrace.sources.kafka_connection import KafkaConnection
from headrace.workflows.errors import HeadraceError

WITHIN: Final = 45.0
"""Seconds for all machines: each starts a process and imports Headrace."""
_MOST: Final = 64
"""Machines that are looked at; in a larger cluster the first so many."""


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


def probe_cluster(redis_url: str, kafka: Sequence[KafkaConnection], requirements: Sequence[str] = ()) -> list[Finding]:
    """Ask every machine of the cluster that this process is connected to.

    Args:
        redis_url: The store.
        kafka: Each Kafka cluster.
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
            redis_url, msgspec.json.encode(list(kafka)), list(requirements)
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


def _look(version: str) -> Callable[[str, bytes, list[str]], bytes]:
    """The task; a closure travels by value, so it can also say that Headrace itself is missing over there."""

    def look(redis_url: str, kafka: bytes, requirements: list[str]) -> bytes:
        import json  # noqa: PLC0415  it runs elsewhere, with nothing imported
        import socket  # noqa: PLC0415

        try:
            import importlib.metadata  # noqa: PLC0415

            import msgspec  # noqa: PLC0415

            from headrace.actors.machine_check import connections_of, find  # noqa: PLC0415
        except ImportError as error:
            sentence = f"Headrace can't be imported there ({error}). Install headrace=={version} in the cluster's image"
            return json.dumps({"host": socket.gethostname(), "versions": "", "problems": [sentence]}).encode()
        there = importlib.metadata.version("headrace")
        if there != version:
            sentence = f"it has Headrace {there}, this is {version}. Use the same version"
            return json.dumps({"host": socket.gethostname(), "versions": there, "problems": [sentence]}).encode()
        return msgspec.json.encode(find(redis_url, connections_of(kafka), requirements))

    return look
