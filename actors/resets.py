"""Sets the positions of a stopped workflow's Kafka sources anew, over its states or from empty ones."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from headrace.actors.backup import names_of_partition, refuse_running
from headrace.actors.deployments import get_deployment
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.sources.kafka_connection import KafkaConnection, connection_of
from headrace.sources.kafka_log import offset_of
from headrace.sources.kafka_moments import Moment, Span, spans_of
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import PartitionKeys, audit_key
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

_RESET: Final = Script(Path(__file__).parent / "scripts" / "reset.lua")
_AT_ONCE: Final = 1000
_KEPT: Final = (
    "head", "positions", "from", "inbox", "internal", "control", "outbox", "dead", "letters", "channels",
)  # fmt: skip
_KEPT_OF: Final = ("channel:", "credits:", "sender:", "request:", "starting:", "claimed:", "reply:", "asked:")
"""What is no state, and stays when states are dropped."""
_REASON: Final = "a reset was broken off: type the same `headrace reset` again"

To: TypeAlias = Moment | Mapping[tuple[str, int], int]
"""A moment for all topic partitions, or an offset for some."""


class ResetRefused(HeadraceError):
    """Positions can't be set so; nothing was changed, unless the sentence says so.

    Attributes:
        workflow: Its name.
        cause: Why, and what to do.
    """

    def __init__(self, workflow: str, cause: str) -> None:
        self.workflow, self.cause = workflow, cause
        super().__init__(f"{workflow} can't be reset: {cause}")

    def __reduce__(self) -> tuple[type[ResetRefused], tuple[str, str]]:
        return type(self), (self.workflow, self.cause)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one topic partition."""

    partition: int
    """Of the workflow."""
    origin: str
    before: int | None
    """Offset that would be read next; None: it was never read."""
    after: int
    position: str
    """As the store keeps it."""


class ResetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a reset would do."""

    workflow: str
    partitions: int
    moves: tuple[Move, ...]
    left: tuple[str, ...] = ()
    """Sources that stay where they are."""
    drop_state: bool = False
    states: int = 0
    """Keys of states that would go."""

    @property
    def again(self) -> int:
        """Offsets that are processed again."""
        return sum(max(0, (move.before or 0) - move.after) for move in self.moves if move.before is not None)

    @property
    def skipped(self) -> int:
        """Offsets that are never processed."""
        return sum(max(0, move.after - move.before) for move in self.moves if move.before is not None)


@dataclass(frozen=True, slots=True)
class _Port:
    """A source as `connection_of` asks for one."""

    name: str
    cluster: str | None


async def plan_reset(registry: Registry, workflow: str, to: To, *, drop_state: bool = False) -> ResetPlan:
    """Look what a reset would do; nothing is changed.

    Raises:
        ResetRefused: It can't be done; says why, and what to do.
        StillRunning: Somebody runs it.
        ClusterUnavailable: Kafka does not answer.
        StoreUnavailable: The store doesn't.
    """
    await refuse_running(registry, workflow)
    descriptor, deployment = await registry.workflow(workflow), await get_deployment(registry, workflow)
    if descriptor is None or deployment is None:
        raise ResetRefused(workflow, "the store knows no deployment of it. Start it once")
    sources = [row for row in descriptor.sources if row.kind == "kafka"]
    positions = await _positions(registry, descriptor)
    moves: list[Move] = []
    for connection, mine in _by_cluster(sources, deployment):
        topics = {row.topic for row in mine if row.topic}
        topics |= {topic for row in mine if not row.topic for topic in _matched(row, positions)}
        spans = await spans_of(connection, topics, "earliest" if isinstance(to, Mapping) else to)
        moves += _moves(workflow, descriptor, mine, positions, _asked(workflow, spans, to))
    if isinstance(to, Mapping):
        missing = to.keys() - {(_topic(move, sources), int(move.origin.rpartition("/")[2])) for move in moves}
        if missing:
            named = ", ".join(f"{topic}/{number}" for topic, number in sorted(missing))
            raise ResetRefused(
                workflow, f"it reads no {named}. It reads {', '.join(sorted(positions)) or 'nothing yet'}"
            )
    if not moves:
        raise ResetRefused(
            workflow, "none of its sources reads a topic that exists; only those of Kafka have positions to set"
        )
    left = tuple(f"{row.name} ({row.kind})" for row in descriptor.sources if row.kind != "kafka")
    states = await _droppable(registry, descriptor) if drop_state else 0
    return ResetPlan(
        workflow=workflow, partitions=descriptor.partitions, moves=tuple(moves), left=left, drop_state=drop_state,
        states=states,
    )  # fmt: skip


async def reset(registry: Registry, plan: ResetPlan, *, who: str, why: str) -> None:
    """Do it. May be asked again where it was broken off; until it is done, no partition that it has begun can run.

    Args:
        registry: The store.
        plan: What to do.
        who: The person, for the audit.
        why: What was asked for, for the audit.

    Raises:
        ResetRefused: A partition is torn, or somebody has begun to run it.
        StoreUnavailable: Ask again.
    """
    await refuse_running(registry, plan.workflow)
    said: Any = {"what": "positions reset", "count": str(len(plan.moves)), "who": who, "why": why}
    with store_errors(registry.address), effect(Effect.AUDIT):
        await registry.client.xadd(audit_key(plan.workflow), said)
    token = secrets.token_hex(16)
    term = str(await registry.next_term(plan.workflow))
    by_partition: dict[int, list[Move]] = defaultdict(list)
    for move in plan.moves:
        by_partition[move.partition].append(move)
    numbers = range(plan.partitions) if plan.drop_state else sorted(by_partition)
    for number in numbers:
        await _step(registry, plan.workflow, number, "begin", token, term, _REASON)
    for number in numbers:
        if plan.drop_state:
            names = [name async for name in names_of_partition(registry, plan.workflow, number) if _is_state(name)]
            for start in range(0, len(names), _AT_ONCE):
                await _step(registry, plan.workflow, number, "drop", token, *names[start : start + _AT_ONCE])
        set_to = [part for move in by_partition[number] for part in (move.origin, move.position)]
        await _step(registry, plan.workflow, number, "finish", token, *set_to)


async def _step(registry: Registry, workflow: str, partition: int, step: str, token: str, *more: str | bytes) -> None:
    with store_errors(registry.address):
        answer = await _RESET.write(
            registry.client, Effect.RESET, PartitionKeys(workflow, partition).head, step, token, *more
        )
    if answer[0] == b"REFUSED":
        raise ResetRefused(workflow, f"partition {partition}: {answer[1].decode(errors='replace')}")
    if answer[0] == b"FENCED":
        raise ResetRefused(workflow, f"another reset has taken partition {partition}. Wait for it, and look")


async def _positions(registry: Registry, descriptor: WorkflowDescriptor) -> dict[str, str]:
    """All positions, by origin: each is in one partition."""
    found: dict[str, str] = {}
    for number in range(descriptor.partitions):
        with store_errors(registry.address):
            answer: Any = registry.client.hgetall(PartitionKeys(descriptor.name, number).positions)
            found |= {origin.decode(): position.decode() for origin, position in (await answer).items()}
    return {origin: at for origin, at in found.items() if origin.rpartition("/")[2].isdecimal()}


def _by_cluster(
    sources: Iterable[SourceDescriptor], deployment: Deployment
) -> list[tuple[KafkaConnection, list[SourceDescriptor]]]:
    by_name: dict[str, list[SourceDescriptor]] = defaultdict(list)
    for row in sources:
        by_name[row.cluster].append(row)
    return [
        (connection_of(_Port(deployment.workflow, cluster or None), deployment), rows)
        for cluster, rows in by_name.items()
    ]


def _matched(source: SourceDescriptor, positions: Mapping[str, str]) -> set[str]:
    """Topics that a source with a pattern has read."""
    prefix = f"{source.name}/"
    return {origin.removeprefix(prefix).rpartition("/")[0] for origin in positions if origin.startswith(prefix)} - {""}


def _asked(workflow: str, spans: Mapping[tuple[str, int], Span], to: To) -> dict[tuple[str, int], Span]:
    if not isinstance(to, Mapping):
        return dict(spans)
    found = {}
    for place, offset in to.items():
        span = spans.get(place)
        if span is None:
            continue
        if not span.extent.first <= offset <= span.extent.high:
            raise ResetRefused(
                workflow,
                f"{place[0]}/{place[1]} has offsets {span.extent.first} to {span.extent.high}, not {offset}",
            )
        found[place] = span._replace(offset=offset)
    return found


def _moves(
    workflow: str, descriptor: WorkflowDescriptor, sources: Sequence[SourceDescriptor], positions: Mapping[str, str],
    spans: Mapping[tuple[str, int], Span],
) -> list[Move]:  # fmt: skip
    moves = []
    for row in sources:
        for (topic, number), span in sorted(spans.items()):
            if row.topic and row.topic != topic:
                continue
            origin = f"{row.name}/{number}" if row.topic else f"{row.name}/{topic}/{number}"
            if not row.topic and origin not in positions:
                continue
            before = positions.get(origin)
            moves.append(
                Move(
                    partition=number % descriptor.partitions, origin=origin, position=span.position, after=span.offset,
                    before=None if before is None else offset_of(before),
                )
            )  # fmt: skip
    return moves


def _topic(move: Move, sources: Iterable[SourceDescriptor]) -> str:
    for row in sources:
        if row.topic and move.origin.rpartition("/")[0] == row.name:
            return row.topic
    return move.origin.rpartition("/")[0].partition("/")[2]


async def _droppable(registry: Registry, descriptor: WorkflowDescriptor) -> int:
    """How many keys of states there are.

    Raises:
        ResetRefused: There is what would count over the empty state, or it has ended.
    """
    await _refuse_under_way(registry, descriptor.name, range(descriptor.partitions))
    count = 0
    for number in range(descriptor.partitions):
        count += len([1 async for name in names_of_partition(registry, descriptor.name, number) if _is_state(name)])
    return count


async def _refuse_under_way(registry: Registry, workflow: str, partitions: Iterable[int]) -> None:
    for number in partitions:
        keys = PartitionKeys(workflow, number)
        with store_errors(registry.address):
            waiting = await registry.client.xlen(keys.internal) + await registry.client.xlen(keys.outbox)
            asked: Any = registry.client.hmget(keys.head, "ended", "torn")
            ended, torn = await asked
        if torn == b"reset":
            continue  # begun before, when nothing was on its way; what other workflows have sent since is new
        if ended == b"1":
            raise ResetRefused(workflow, "its run has ended. Remove it and deploy it anew: headrace workflows remove")
        if waiting:
            raise ResetRefused(
                workflow,
                f"partition {number} has events on their way, which would count over the empty state. Let it run until"
                " `headrace status` shows none, stop it, and begin again; or remove the workflow and deploy it with"
                " --start-over",
            )


def _is_state(name: bytes) -> bool:
    text = name.decode(errors="replace")
    return text not in _KEPT and not text.startswith(_KEPT_OF)
