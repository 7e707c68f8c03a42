"""A change of what runs, while it runs: processes of the new version come up beside those that serve. Pure.

Only when every role of the new version is served do partitions go over, one after the other's last commit; then those
that nobody needs any more end. A version that can't start changes nothing: the one before serves on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from headrace.actors.processes import Ownership, Process, Slot
from headrace.actors.spec import Deployment, NodeRole, Problem, Role, WorkerRole, encode

if TYPE_CHECKING:
    from headrace.actors.roster import Roster

LEAVE_WITHIN: Final = 10.0
"""Seconds that a worker without partitions may take to finish what is left, such as its traces."""
ANY: Final = "any"
"""Kind of a process that imports the user's code when it gets its role."""


@dataclass(slots=True)
class Coming:
    """What is to run next: its roles, and who has them already."""

    deployment: Deployment
    slots: dict[str, Slot]
    start_failures: int = 0
    start_retry_at: float = 0.0
    start_problem: Problem | None = None

    @property
    def served(self) -> int:
        """Roles that are served."""
        return sum(slot.serving is not None for slot in self.slots.values())


def kind_of(deployment: Deployment, role: Role | None) -> str:
    """What a process of this role is of: processes of one kind can stand in for each other.

    Args:
        deployment: What it was started for.
        role: Its role; None: it has none yet, only the code counts.
    """
    if role is None:
        if deployment.late_code:
            return ANY
        return f"{deployment.code.version}{'+fused' if deployment.fuse else ''}"
    told = {"workers": 0, "spares": 0, "deployed": 0.0, "revision": 0, "target": "", "address": "", "crash_at": {}}
    if isinstance(role, NodeRole):
        told["units"] = ()  # how many others there are is nothing to a node
    return hashlib.sha256(encode(msgspec.structs.replace(deployment, **told))).hexdigest()[:16]


def begin(roster: Roster, deployment: Deployment, now: float) -> None:
    """Something else is to run from now on; who fits it stays where it is."""
    if roster.stopping or roster.holding or (deployment == roster.deployment and roster.coming is None):
        return
    if roster.coming is not None and deployment == roster.coming.deployment:
        return
    if deployment.partitions != roster.deployment.partitions:
        return  # nobody writes that: it is refused before
    if roster.coming is not None:
        abandon(roster, now)
    slots = roster.laid_out(deployment, now)
    for name, slot in slots.items():
        old = roster.slots.get(name)
        if old is None or old.process is None or old.resources != slot.resources:
            continue
        if kind_of(roster.deployment, slot.role) == kind_of(deployment, slot.role):
            slots[name] = old
    roster.coming = Coming(deployment, slots)


def abandon(roster: Roster, now: float) -> None:
    """It is not to run after all: who was only there for it goes."""
    coming, roster.coming = roster.coming, None
    if coming is None:
        return
    kind = kind_of(coming.deployment, None)
    for process in roster.processes.values():
        alone = kind != kind_of(roster.deployment, None) and process.role is None and process.kind == kind
        if alone or (process.role is not None and not roster.slots_of(process) and process.state != "leaving"):
            process.enter("lapsed", now)


def settle(roster: Roster, now: float) -> None:
    """Once all that is to run next is served, it is what runs: partitions go over, the others leave."""
    coming = roster.coming
    if coming is None or coming.served < len(coming.slots) or not _connected(roster, coming):
        return
    roster.deployment, roster.slots, roster.coming = coming.deployment, coming.slots, None
    roster.map_version += 1
    roster.start_failures, roster.start_retry_at, roster.start_problem = 0, 0.0, None
    kind = kind_of(roster.deployment, None)
    for process in roster.processes.values():
        if process.role is None and process.reserved is None:
            if process.state in ("starting", "spare") and process.kind not in (kind, ANY):
                process.enter("lapsed", now)
        elif not roster.slots_of(process) and process.state in ("serving", "becoming"):
            process.enter("leaving", now)
        elif process.role is None and not any(slot.role == process.reserved for slot in roster.slots.values()):
            process.enter("lapsed", now)


def _connected(roster: Roster, coming: Coming) -> bool:
    """Whether its workers have lines to its nodes: that takes a while, in which partitions would stand still."""
    workers = [slot.process for slot in coming.slots.values() if isinstance(slot.role, WorkerRole)]
    return all(process is None or process.map_known >= roster.map_number for process in workers)


def leaves(roster: Roster, now: float) -> Iterator[str]:
    """Workers that own nothing any more, to be asked to finish; who has, is let go, nodes after the last worker."""
    leaving = [process for process in roster.processes.values() if process.state == "leaving"]
    workers = [process for process in leaving if isinstance(process.role, WorkerRole)]
    for process in workers:
        if any(process.actor in (partition.owner, partition.asked) for partition in roster.partitions):
            process.since = now
        elif process.drained is None:
            process.drained = False
            yield process.actor
        elif process.drained or now - process.since > LEAVE_WITHIN:
            process.enter("lapsed", now)
    if not workers:
        for process in leaving:
            process.enter("lapsed", now)


def sentence_of(roster: Roster) -> str:
    """How far a change is; empty: there is none."""
    if roster.coming is not None:
        coming = roster.coming
        return f"version {coming.deployment.code.version}: {coming.served} of {len(coming.slots)} processes are ready"
    left = sum(process.state == "leaving" for process in roster.processes.values())
    if left:
        return f"handing over: {left} processes of before are still there"
    moving = sum(not is_home(roster, partition) for partition in roster.partitions)
    return f"handing over: {moving} partitions are on their way" if moving else ""


def is_home(roster: Roster, partition: Ownership) -> bool:
    """Whether the worker that is to have a partition has it, if there is one."""
    slot = roster.slots.get(partition.wanted or "")
    return slot is None or slot.serving is None or slot.serving.actor == partition.owner


def problems_of(roster: Roster) -> Iterator[Problem]:
    """What keeps the next version from coming up."""
    if roster.coming is None:
        return
    if roster.coming.start_problem is not None:
        yield _of_next(roster.coming.start_problem)
    for name, slot in roster.coming.slots.items():
        if slot.problem is not None and roster.slots.get(name) is not slot:
            yield _of_next(msgspec.structs.replace(slot.problem, where=slot.label))


def _of_next(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, where=f"next {problem.where}")


def fits(process: Process, deployment: Deployment) -> bool:
    """Whether a process without a role can take one of this deployment."""
    return process.kind == kind_of(deployment, None)
