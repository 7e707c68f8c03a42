"""What the supervisor does next: compares what is wanted with what the roster knows. Pure.

Called after every event and every tick, it may be called at any time and says each thing once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from headrace.actors.changing import Coming, fits, is_home, kind_of, leaves, settle
from headrace.actors.placement import place
from headrace.actors.processes import Process, Slot
from headrace.actors.roster import Roster
from headrace.actors.spec import (
    Assign,
    Control,
    Deployment,
    Drain,
    GetStatus,
    HoldSources,
    NodeAddress,
    NodeMap,
    NodeRole,
    Nodes,
    Revoke,
    RoleSpec,
    ShellSpec,
    WorkerRole,
)

PATIENCE: Final = 10.0
"""Seconds for an answer to Assign or Revoke; then it is asked again, or done without."""
GRACE_AT_START: Final = 8.0
"""Seconds to wait for all workers before partitions are given to those that are there."""
GRACE_FOR_SPARE: Final = 2.0
"""Seconds that partitions of a dead worker wait for the spare that takes its place."""
HUNG: Final = 8.0
"""Seconds after which a silent process is killed even if nothing has taken its place."""
UNASKED: Final = 5.0
"""Seconds that one spare too many is kept: what has just come back may go again."""
REMIND: Final = 5.0
"""Seconds after which a worker is told again where the nodes are."""
POLL: Final = 1.0
"""Seconds between two questions for a process' status."""


@dataclass(frozen=True, slots=True)
class StartShell:
    """Start a process, under a new name."""

    spec: ShellSpec
    resources: dict[str, float]


@dataclass(frozen=True, slots=True)
class Become:
    """Give a warm process its role."""

    actor: str
    spec: RoleSpec


@dataclass(frozen=True, slots=True)
class Send:
    """Send a process a control message."""

    actor: str
    message: Control


@dataclass(frozen=True, slots=True)
class Kill:
    """End a process: it is silent, failed, or of no use."""

    actor: str


Instruction: TypeAlias = StartShell | Become | Send | Kill


def reconcile(roster: Roster, now: float) -> list[Instruction]:
    """What is to be done now; the roster notes it as under way."""
    if roster.stopping or roster.holding:
        return [*_drain(roster), *_polls(roster, now)]
    settle(roster, now)
    instructions: list[Instruction] = [*_kills(roster, now), *(Send(actor, Drain()) for actor in leaves(roster, now))]
    if not roster.adopting(now):
        _give_up_silent(roster, now)
        instructions += _roles(roster, now)
        instructions += _surplus(roster, now)
    instructions += _node_maps(roster, now)
    instructions += _pauses(roster)
    instructions += _placements(roster, now)
    if not roster.adopting(now):
        instructions += _starts(roster, now)
    instructions += _polls(roster, now)
    return instructions


def node_map(layout: Roster | Coming) -> NodeMap:
    """Where the nodes are now."""
    nodes: NodeMap = {unit.index: [None] * unit.replicas for unit in layout.deployment.units}
    for slot in layout.slots.values():
        if isinstance(slot.role, NodeRole) and (process := slot.serving) is not None:
            nodes[slot.role.unit][slot.role.replica] = NodeAddress(process.actor, process.incarnation)
    return nodes


def _kills(roster: Roster, now: float) -> Iterator[Instruction]:
    """A silent process goes once another has its role: it may well be the last to know where it stood."""
    for process in [process for process in roster.processes.values() if process.state == "lapsed"]:
        slot = None if process.role is None else roster.slots.get(process.role.name)
        replaced = slot is None or slot.serving is not None
        if replaced or now - process.since > HUNG:
            del roster.processes[process.actor]
            yield Kill(process.actor)


def _give_up_silent(roster: Roster, now: float) -> None:
    """Processes of the supervisor before that did not answer are replaced."""
    for process in roster.processes.values():
        if process.adopted and process.state == "starting":
            process.enter("lapsed", now)


def _roles(roster: Roster, now: float) -> Iterator[Instruction]:
    for layout in _layouts(roster):
        deployment = layout.deployment
        for slot in layout.slots.values():
            if slot.process is not None or now < slot.retry_at:
                continue
            process = _fitting(roster, slot, deployment)
            if process is not None:
                crash_at = deployment.crash_at.get(slot.role.name) if slot.started == 0 else None
                roster.give(slot, process, now)
                yield Become(process.actor, _role_spec(roster, deployment, process, slot, crash_at))


def _layouts(roster: Roster) -> list[Roster | Coming]:
    """What runs, and what is to run next."""
    return [roster, *([] if roster.coming is None else [roster.coming])]


def _role_spec(roster: Roster, deployment: Deployment, process: Process, slot: Slot, crash_at: str | None) -> RoleSpec:
    return RoleSpec(
        role=slot.role,
        actor=process.actor,
        incarnation=process.incarnation,
        term=roster.term,
        deployment=deployment,
        paused=roster.paused,
        crash_at=crash_at,
    )


def _fitting(roster: Roster, slot: Slot, deployment: Deployment) -> Process | None:
    for process in roster.processes.values():
        if process.state != "spare" or process.absent_since is not None or not fits(process, deployment):
            continue
        if process.reserved == (slot.role if slot.resources else None):
            return process
    return None


def _starts(roster: Roster, now: float) -> Iterator[Instruction]:
    """Processes for the roles that nobody has; when all are served, the spares.

    A process that starts takes a core for seconds: spares wait until partitions that go over have arrived.
    """
    waiting: dict[str, int] = defaultdict(int)
    for layout in _layouts(roster):
        deployment = layout.deployment
        if now < layout.start_retry_at:
            continue
        vacant = [slot for slot in layout.slots.values() if slot.process is None]
        coming = [
            process
            for process in roster.processes.values()
            if process.state in ("starting", "spare") and (fits(process, deployment) or not process.kind)
        ]
        for slot in vacant:
            if slot.resources and not any(process.reserved == slot.role for process in coming):
                yield StartShell(roster.new_shell(slot.resources, slot.role, now, deployment), slot.resources)
        wanted = sum(not slot.resources for slot in vacant)
        served = all(slot.serving for slot in layout.slots.values() if slot.failures == 0)
        if layout is roster and served and not _on_their_way(roster, now):
            wanted += deployment.spares
        kind = kind_of(deployment, None)
        waiting[kind] += wanted  # those of one kind are counted together: they fit what runs and what is to
        have = sum(process.reserved is None for process in coming)
        for _ in range(waiting[kind] - have):
            yield StartShell(roster.new_shell({}, None, now, deployment), {})


def _on_their_way(roster: Roster, now: float) -> bool:
    """Whether partitions go from one worker to another; one that can't get there does not count."""
    return any(
        partition.problem is None and now - partition.asked_at < PATIENCE and not is_home(roster, partition)
        for partition in roster.partitions
    )


def _surplus(roster: Roster, now: float) -> Iterator[Instruction]:
    """Spares that nobody asked for end: as they were started for a role whose process came back, say."""
    if roster.coming is not None or not all(slot.serving for slot in roster.slots.values()):
        return
    spares = [
        process
        for process in roster.processes.values()
        if process.state == "spare" and process.reserved is None and fits(process, roster.deployment)
    ]
    spares.sort(key=lambda process: (process.absent_since is not None, process.since))
    for process in spares[roster.deployment.spares :]:
        if now - process.since > UNASKED:
            del roster.processes[process.actor]
            yield Kill(process.actor)


def _node_maps(roster: Roster, now: float) -> Iterator[Instruction]:
    """To every worker when something moved; and now and then, should a worker have given up a node that lives."""
    told: set[str] = set()
    for layout in _layouts(roster):
        nodes: NodeMap | None = None
        for slot in layout.slots.values():
            process = slot.serving
            if not isinstance(slot.role, WorkerRole) or process is None or process.actor in told:
                continue
            told.add(process.actor)  # one that serves now and will serve then is told of what it calls now
            if process.map_sent < roster.map_version or now - process.map_sent_at >= REMIND:
                process.map_sent, process.map_sent_at = roster.map_version, now
                nodes = node_map(layout) if nodes is None else nodes
                yield Send(process.actor, Nodes(version=roster.map_number, nodes=nodes))


def _pauses(roster: Roster) -> Iterator[Instruction]:
    """To every worker that has not heard yet what is paused; before it gets partitions that it has not."""
    for process in roster.processes.values():
        is_worker = isinstance(process.role, WorkerRole) and process.state in ("serving", "leaving")
        if is_worker and process.paused_sent != roster.paused:
            process.paused_sent = roster.paused
            yield Send(process.actor, HoldSources(roster.paused))


def _placements(roster: Roster, now: float) -> Iterator[Instruction]:
    workers = [slot for slot in roster.slots.values() if isinstance(slot.role, WorkerRole)]
    serving = {slot.role.name: process for slot in workers if (process := slot.serving) is not None}
    roster.settled = roster.settled or len(serving) == len(workers) or now - roster.started_at > GRACE_AT_START
    if not roster.settled:
        return
    # A worker that a spare is about to replace keeps its share: moving it twice would take longer.
    expected = [slot.role.name for slot in workers if slot.role.name in serving or _soon(roster, slot, now)]
    current = {number: partition.wanted for number, partition in enumerate(roster.partitions) if partition.wanted}
    wanted = place(len(roster.partitions), expected, current)
    assigns: dict[str, list[int]] = defaultdict(list)
    revokes: dict[str, list[int]] = defaultdict(list)
    for number, partition in enumerate(roster.partitions):
        partition.wanted = wanted.get(number, partition.wanted)
        target = serving.get(partition.wanted or "")
        if partition.asked is not None and now - partition.asked_at > PATIENCE:
            if partition.owner == partition.asked:
                partition.owner = None
            partition.asked = None
        if target is None or partition.asked is not None or partition.owner == target.actor:
            continue
        if partition.owner is not None:
            revokes[partition.owner].append(number)
        elif now >= partition.retry_at:
            assigns[target.actor].append(number)
    yield from _asks(roster, revokes, assigns, now)


def _soon(roster: Roster, slot: Slot, now: float) -> bool:
    if now - slot.vacant_since > GRACE_FOR_SPARE:
        return False
    return slot.process is not None or _fitting(roster, slot, roster.deployment) is not None


def _asks(
    roster: Roster, revokes: dict[str, list[int]], assigns: dict[str, list[int]], now: float
) -> Iterator[Instruction]:
    if revokes or assigns:
        roster.placement += 1
    term, placement = roster.term, roster.placement
    for asked in (revokes, assigns):
        for actor, numbers in asked.items():
            for number in numbers:
                roster.partitions[number].asked = actor
                roster.partitions[number].asked_at = now
                roster.partitions[number].placement = placement
    for actor, numbers in revokes.items():
        yield Send(actor, Revoke(partitions=tuple(numbers), term=term, placement=placement))
    for actor, numbers in assigns.items():
        yield Send(actor, Assign(partitions=tuple(numbers), term=term, placement=placement))


def _polls(roster: Roster, now: float) -> Iterator[Instruction]:
    for process in roster.processes.values():
        adopted = process.adopted and process.state == "becoming"
        if (process.state == "serving" or adopted) and now - process.asked_at >= POLL:
            process.asked_at = now
            yield Send(process.actor, GetStatus())


def _drain(roster: Roster) -> Iterator[Instruction]:
    for process in roster.processes.values():
        is_worker = isinstance(process.role, WorkerRole) and process.state in ("serving", "leaving")
        if is_worker and process.drained is None:
            process.drained = False
            yield Send(process.actor, Drain())
