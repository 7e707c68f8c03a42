"""What crosses the borders between driver, supervisor, shells and Redis: one struct for each, as msgpack.

Only names and numbers travel, never the user's objects: every process imports the workflow by `CodeRef`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from headrace.tracing.options import Tracing
from headrace.workflows.calls import Hasten

NAMESPACE: Final = "headrace"
"""Ray namespace of every actor of Headrace."""
WORKER_ENGINE: Final = "headrace.actors.worker:Worker"
NODE: Final = "node:"
"""Before the name of a node, where names of sources stand, too."""
NODE_ENGINE: Final = "headrace.actors.node_host:NodeHost"


class CodeRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workflow is found: `attr` of `module`, with `folder` on the path of imports."""

    folder: str
    """On this machine; of a bundle: inside it, "" for all of it."""
    module: str
    attr: str = "workflow"
    version: str
    """Hash of the code: two processes with the same version have equal plans."""
    bundle: bool = False
    """The code lies in the store, under `version`: each process unpacks it (`headrace deploy`)."""


class UnitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A unit of nodes that has actors of its own (units inside the worker have none)."""

    index: int
    name: str
    replicas: int = 1
    resources: dict[str, float] = {}
    """Ray resources that its nodes ask for; empty: any spare will do."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow as it is to run: written to Redis by whoever starts it, read by the supervisor."""

    workflow: str
    code: CodeRef
    redis_url: str
    partitions: int
    incarnation: str = ""
    """Random id of this life of the workflow, from the store; `launch` puts it in."""
    cluster: str = ""
    """Label of the Ray cluster that it was deployed to; empty: `run` or `dev`, whose Ray ends with them."""
    address: str = ""
    """Address of that cluster, as it was typed."""
    target: str = ""
    """What was deployed, as it was typed: `flow.py:workflow`."""
    deployed: float = 0.0
    """Seconds since 1970 UTC."""
    revision: int = 0
    """Counts what has been said to run, since the workflow was started: the supervisor tells which it runs."""
    workers: int = 1
    units: tuple[UnitSpec, ...] = ()
    fuse: bool = False
    """All nodes run inside the workers."""
    spares: int = 1
    """Warm processes kept ready to become any worker or node."""
    late_code: bool = False
    """Processes import the user's code when they get a role, not when they start: a spare fits every version
    (`dev --reload`), and a fail-over takes as much longer as that import."""
    kafka: dict[str, str] = {}
    """Options of the default Kafka cluster: `bootstrap_servers`, TLS, SASL (secrets only as references)."""
    clusters: dict[str, dict[str, str]] = {}
    """Options of named Kafka clusters, for sources and sinks with `cluster=`."""
    start_over: bool = False
    """Begin anew even where a consumer group has positions of a partition that the store knows nothing of."""
    topics: dict[str, tuple[str, ...]] = {}
    """Topics that it reads and writes, by the name of their Kafka cluster; "": the default one."""
    states: tuple[str, ...] = ()
    """Fields of runs that hold its states: `node:<name>`, and `state` where its nodes share one."""
    renames: dict[str, str] = {}
    """Field with a former name of a node -> field with its name now: runs without an event since have the former."""
    durability: str = "fast"
    """When what follows from a commit may leave: `fast`, `fsync`, `replicas`, `replicas:2`; see `Durability`."""
    settings: dict[str, str | int | float | bool] = {}
    traces: Tracing | None = None
    """Where traces go, and of which events; None: there are none."""
    crash_at: dict[str, str] = {}
    """Role (`worker/0`, `node/1/0`) -> name of the crash point at which its first incarnation dies (fault tests)."""
    lease_ttl: float = 2.5
    """Seconds after which a silent process is taken for dead."""
    open_timeout: float = 120.0
    """Seconds that a node's `open()` may take."""
    worker_engine: str = WORKER_ENGINE
    node_engine: str = NODE_ENGINE


class WorkerRole(msgspec.Struct, frozen=True, tag="worker"):
    """To own partitions: pull, route, commit."""

    index: int

    @property
    def name(self) -> str:
        """`worker/0`: what the role is called between processes."""
        return f"worker/{self.index}"


class NodeRole(msgspec.Struct, frozen=True, tag="node"):
    """To run the nodes of a unit."""

    unit: int
    replica: int

    @property
    def name(self) -> str:
        """`node/1/0`: unit and replica."""
        return f"node/{self.unit}/{self.replica}"


Role: TypeAlias = WorkerRole | NodeRole


class ShellSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who a shell is, before it has a role."""

    actor: str
    """Its name in Ray's namespace `headrace`; never given twice."""
    incarnation: int
    """Larger than that of every shell started before it."""
    deployment: Deployment


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A source, or a node (without either all of a workflow) that a person has paused."""

    source: str
    since: float
    """Seconds since 1970 UTC."""
    by: str = ""
    """Who it was, as far as known: user and host."""
    node: str = ""

    @property
    def name(self) -> str:
        """What is paused, in one word: the source, or `node:` and the node; "": all of the workflow."""
        return f"{NODE}{self.node}" if self.node else self.source


class RoleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a shell becomes: everything that its engine needs to start."""

    role: Role
    actor: str
    incarnation: int
    term: int
    deployment: Deployment
    paused: tuple[str, ...] = ()
    """What is paused as it starts: see `HoldSources`."""
    crash_at: str | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    """One replica of a unit, as workers find it."""

    actor: str
    incarnation: int
    """Changes with the process: states sent to another incarnation are not known to this one."""


NodeMap: TypeAlias = dict[int, list[NodeAddress | None]]
"""Unit index -> address of each of its replicas; None while a replica has no actor."""


# Control messages: supervisor -> shell. Each is answered by a `Reply`.


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """Acquire these partitions, under this term and placement version. Idempotent."""

    partitions: tuple[int, ...]
    term: int
    placement: int


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag="revoke"):
    """Finish and commit what is in flight for these partitions, then release them. Answered when done."""

    partitions: tuple[int, ...]
    term: int
    placement: int


class Nodes(msgspec.Struct, frozen=True, kw_only=True, tag="nodes"):
    """Where the nodes are now. `version` rises; an older map than the one held is ignored.

    Answered once the worker is connected to them, or has tried for a while.
    """

    version: int
    nodes: NodeMap


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Stop pulling, finish and commit everything, release all partitions. Answered when done."""


class HoldSources(msgspec.Struct, frozen=True, tag="hold_sources"):
    """Take nothing new from these sources, and from no others less than before; "": from none at all.

    To nodes (`node:` and the name) it gives no events.
    """

    sources: tuple[str, ...]


class GetStatus(msgspec.Struct, frozen=True, tag="status"):
    """Answered with an `EngineStatus` (by a shell: with a `ShellStatus`)."""


Control: TypeAlias = Assign | Revoke | Nodes | Drain | HoldSources | GetStatus | Hasten
"""`Hasten` is a worker's, to nodes that it has calls at."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, tag="problem"):
    """Something that keeps a part from doing its work, named."""

    where: str
    """`worker/0`, `classify/1`, `partition/3`, `kafka` ..."""
    word: str
    """Stable word: `import`, `open`, `starting`, `unplaced`, `store_unreachable`, `torn` ..."""
    sentence: str
    """What is wrong and, where we know it, what to do."""
    traceback: str | None = None
    """Frames of the user's code only."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The message took effect."""


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True, tag="engine"):
    """How an engine does."""

    partitions: tuple[int, ...] = ()
    """Partitions that a worker owns now."""
    paused: tuple[str, ...] = ()
    """Sources that a worker takes nothing new from, and nodes that get no events: see `HoldSources`."""
    in_flight: int = 0
    """Events that a worker has taken and not committed, and outputs of committed ones that have not left."""
    counters: dict[str, int | float] = {}
    problems: tuple[Problem, ...] = ()


class ShellStatus(msgspec.Struct, frozen=True, kw_only=True, tag="shell"):
    """What a shell says of itself: enough for a new supervisor to adopt it."""

    actor: str
    incarnation: int
    pid: int
    version: str
    """Version of the code that it has imported."""
    state: str
    """`spare`, `becoming`, `serving`, or `failed` (see `problem`)."""
    role: Role | None = None
    engine: EngineStatus | None = None
    kind: str = ""
    """What it was started for, in short: see `changing.kind_of`."""
    problem: Problem | None = None


Reply: TypeAlias = Done | EngineStatus | ShellStatus | Problem


# Reports: shell -> supervisor.


class NodeFailed(msgspec.Struct, frozen=True, kw_only=True, tag="node_failed"):
    """A worker's call to a node met a dead actor."""

    unit: int
    replica: int
    incarnation: int


class PartitionLost(msgspec.Struct, frozen=True, kw_only=True, tag="partition_lost"):
    """A worker dropped a partition (a commit was refused); only the supervisor gives it back."""

    actor: str
    partition: int
    reason: str


class PartitionReleased(msgspec.Struct, frozen=True, kw_only=True, tag="partition_released"):
    """A worker has released one of the partitions of a `Revoke`; others may take longer."""

    actor: str
    partition: int
    placement: int
    """Of the `Revoke`."""


Report: TypeAlias = NodeFailed | PartitionLost | PartitionReleased


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process in the status document."""

    name: str
    """For people: `worker/0`, `classify/1`, `spare`."""
    actor: str | None
    pid: int | None
    state: str
    """`starting`, `spare`, `becoming`, `serving`, `waiting` (for a process), `backing-off`."""
    incarnation: int | None
    role: str | None = None
    """`worker/0`, `node/2/1`; None: a spare."""
    restarts: int = 0
    partitions: tuple[int, ...] = ()
    counters: dict[str, int | float] = {}


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor's status document, in Redis, twice a second."""

    workflow: str
    version: str
    state: str
    """`starting`, `running`, `paused` (all its sources are), `degraded` (something is named in `problems`),
    `stopping`, `stopped`."""
    ready: bool
    """Every role is served, every partition has an owner."""
    term: int
    placement: int
    partitions: int
    roles: tuple[RoleStatus, ...]
    unplaced: tuple[int, ...]
    problems: tuple[Problem, ...]
    time: float
    """Seconds since 1970 UTC, by the supervisor's clock."""
    durability: str = "fast"
    """Level at which outputs and replies leave."""
    paused: tuple[Pause, ...] = ()
    """Sources and nodes that a person has paused; with neither: all sources."""
    revision: int = 0
    """`Deployment.revision` of what runs."""
    coming: str = ""
    """How far a change of what runs is; empty: there is none."""
    at_rest: bool = False
    """All workers have heard of the pause; if it is one of all sources, nothing is in flight any more."""


def supervisor_name(workflow: str) -> str:
    """Name of a workflow's supervisor in Ray's namespace `headrace`."""
    return f"headrace:{workflow}:supervisor"


def shell_prefix(workflow: str) -> str:
    """What the names of all shells of a workflow start with."""
    return f"headrace:{workflow}:shell:"


def shell_name(workflow: str, version: str, incarnation: int) -> str:
    """Name of a shell: carries the version and is never given twice."""
    return f"{shell_prefix(workflow)}{version}:{incarnation}"


def encode(message: msgspec.Struct) -> bytes:
    """Any struct of this module as msgpack."""
    return msgspec.msgpack.encode(message)


def decode_control(blob: bytes) -> Control:
    """What `encode` made of a control message."""
    message: Control = msgspec.msgpack.decode(blob, type=Control)
    return message


def decode_reply(blob: bytes) -> Reply:
    """What `encode` made of a reply."""
    reply: Reply = msgspec.msgpack.decode(blob, type=Reply)
    return reply


def decode_report(blob: bytes) -> Report:
    """What `encode` made of a report."""
    report: Report = msgspec.msgpack.decode(blob, type=Report)
    return report
