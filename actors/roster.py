"""What the supervisor knows: processes, the roles they have, who owns which partition. Pure: events in, no I/O.

`reconcile` reads it and says what is to be done; both are told the time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace.actors.changing import ANY, Coming, kind_of
from headrace.actors.processes import Ownership, Process, Slot
from headrace.actors.spec import (
    Control,
    Deployment,
    Done,
    NodeFailed,
    NodeRole,
    Nodes,
    PartitionLost,
    PartitionReleased,
    Pause,
    Problem,
    Reply,
    Report,
    Role,
    ShellSpec,
    ShellStatus,
    WorkerRole,
    shell_name,
)

STARTS_PER_TERM: Final = 1_000_000
"""Incarnations and node maps of one supervisor: term x this + count, so that a later supervisor's are larger."""
ABSENT: Final = 1.0
"""Seconds that a lease must be missing: a store that lost its last second gets the leases back within it."""
QUICK: Final = 3.0
"""A process that dies within so many seconds of serving counts as a failure of its role: the next one waits."""
ADOPTION: Final = 4.0
"""Seconds that a new supervisor waits for answers of processes it found; who is silent is replaced."""
DENIALS: Final = 3
"""Answers of a worker in a row that leave out a partition we gave it, until we believe them."""
LONGEST_BACKOFF: Final = 30.0


def backoff(failures: int) -> float:
    """Seconds to wait before a role is tried again: none after one failure, then doubling from one half."""
    return 0.0 if failures <= 1 else min(LONGEST_BACKOFF, 0.5 * 2.0 ** (failures - 2))


@dataclass(slots=True)
class Roster:
    """State of the supervisor. Its methods are the events; each leaves a consistent state."""

    deployment: Deployment
    term: int
    now: float
    processes: dict[str, Process] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    partitions: list[Ownership] = field(default_factory=list)
    placement: int = 0
    map_version: int = 0
    count: int = 0
    stopping: bool = False
    holding: bool = False
    """Workers finish what is in flight and get nothing new: another version is about to come."""
    pauses: tuple[Pause, ...] = ()
    """Sources that a person has paused, as the store said last."""
    coming: Coming | None = None
    """What is to run next, beside what runs."""
    settled: bool = False
    """All workers have served once: partitions may be placed without waiting for the rest."""
    started_at: float = 0.0
    start_failures: int = 0
    start_retry_at: float = 0.0
    start_problem: Problem | None = None
    store_problem: Problem | None = None
    leases_trusted_from: float = 0.0

    def __post_init__(self) -> None:
        self.started_at = self.now
        self._lay_out()

    def _lay_out(self) -> None:
        """Roles and partitions of the deployment; nobody has any."""
        self.slots, self.coming = self.laid_out(self.deployment, self.now), None
        self.partitions = [Ownership() for _ in range(self.deployment.partitions)]

    @staticmethod
    def laid_out(deployment: Deployment, now: float) -> dict[str, Slot]:
        """The roles of a deployment, by name; nobody has any."""
        workers = [WorkerRole(index) for index in range(deployment.workers)]
        slots = {role.name: Slot(role, role.name, {}, now) for role in workers}
        for unit in deployment.units:
            for replica in range(unit.replicas):
                node = NodeRole(unit.index, replica)
                slots[node.name] = Slot(node, f"{unit.name}/{replica}", unit.resources, now)
        return slots

    def slots_of(self, process: Process) -> list[Slot]:
        """Where it has its role: in what runs, in what is to run next, or in both."""
        if process.role is None:
            return []
        layouts = [self.slots] if self.coming is None else [self.slots, self.coming.slots]
        found = [slots[process.role.name] for slots in layouts if process.role.name in slots]
        unique = {id(slot): slot for slot in found if slot.process is process}
        return list(unique.values())

    def replace(self, deployment: Deployment, now: float) -> None:
        """Another version: whoever has, or waits for, a role of the one before is to go. Spares that fit any stay."""
        self.deployment, self.now = deployment, now
        for process in self.processes.values():
            if process.role is not None or process.reserved is not None or not deployment.late_code:
                process.role = process.reserved = None
                process.enter("lapsed", now)
        self._lay_out()
        self.holding = self.settled = False
        self.started_at, self.map_version = now, self.map_version + 1
        self.start_failures, self.start_retry_at, self.start_problem = 0, 0.0, None

    @property
    def map_number(self) -> int:
        """Version of the node map as workers are told it: a later supervisor's are larger."""
        return self.term * STARTS_PER_TERM + self.map_version

    @property
    def paused(self) -> tuple[str, ...]:
        """Names of the sources and nodes that are paused."""
        return tuple(pause.name for pause in self.pauses)

    # Who is there

    def new_shell(
        self, resources: dict[str, float], reserved: Role | None, now: float, deployment: Deployment
    ) -> ShellSpec:
        """Note a process that is about to be started."""
        self.count += 1
        incarnation = self.term * STARTS_PER_TERM + self.count
        version = ANY if deployment.late_code else deployment.code.version
        actor = shell_name(deployment.workflow, version, incarnation)
        kind = kind_of(deployment, None)
        self.processes[actor] = Process(actor, incarnation, resources, now, reserved=reserved, kind=kind)
        return ShellSpec(actor=actor, incarnation=incarnation, deployment=deployment)

    def found(self, actor: str, incarnation: int, now: float) -> None:
        """A process that a supervisor before this one started; what it is, its status will say."""
        self.processes[actor] = Process(actor, incarnation, {}, now, adopted=True)

    def adopting(self, now: float) -> bool:
        """Whether processes found at the start may still tell which roles they have."""
        return now < self.started_at + ADOPTION and any(
            process.adopted and process.state == "starting" for process in self.processes.values()
        )

    def ready(self, actor: str, status: ShellStatus, now: float) -> None:
        """The first status of a process: it has imported everything, or it says why it could not."""
        process = self.processes.get(actor)
        if process is None or process.state != "starting":
            return
        process.pid = status.pid
        is_bare = self.deployment.late_code and not status.version
        versions = {deployment.code.version for deployment in self.deployments}
        if process.adopted:
            process.kind = kind_of(self.deployment, None)
        if (
            status.state == "failed"
            or (status.version not in versions and not is_bare)
            or (process.adopted and self._is_other(status))
        ):
            self._start_failed(process, status.problem, now)
        elif status.role is None:
            starts = self._starts_of(process)
            starts.start_failures, starts.start_problem = 0, None
            process.enter("spare", now)
        else:
            self._adopt(process, status, status.role, now)

    def _start_failed(self, process: Process, problem: Problem | None, now: float) -> None:
        process.enter("lapsed", now)
        if problem is not None:
            starts = self._starts_of(process)
            starts.start_problem = problem
            starts.start_failures += 1
            starts.start_retry_at = now + max(0.5, backoff(starts.start_failures + 1))

    @property
    def deployments(self) -> list[Deployment]:
        """What runs, and what is to run next."""
        return [self.deployment, *([] if self.coming is None else [self.coming.deployment])]

    def _starts_of(self, process: Process) -> Roster | Coming:
        """Who counts it when such a process does not start: a broken next version must not hold up this one."""
        coming = self.coming
        if coming is None or process.kind == kind_of(self.deployment, None):
            return self
        return coming if process.kind == kind_of(coming.deployment, None) else self

    def _is_other(self, status: ShellStatus) -> bool:
        """Whether a process that was found was started for something else than what is to run."""
        return bool(status.kind) and status.kind != kind_of(self.deployment, status.role) and status.kind != ANY

    def _adopt(self, process: Process, status: ShellStatus, role: Role, now: float) -> None:
        slot = self.slots.get(role.name)
        if slot is None or slot.process is not None:
            process.enter("lapsed", now)
            return
        process.role, slot.process = role, process
        slot.started = max(slot.started, 1)
        process.resources = slot.resources
        process.enter("becoming", now)
        if status.state == "serving":
            self._serve(process, slot, now)
        if status.engine is not None:
            for number in status.engine.partitions:
                if number < len(self.partitions):
                    self.partitions[number].owner = process.actor
                    self.partitions[number].wanted = role.name

    # Roles

    def give(self, slot: Slot, process: Process, now: float) -> None:
        """Note that `process` is asked to take the role."""
        process.paused_sent = self.paused
        process.role, slot.process = slot.role, process
        slot.started += 1
        process.enter("becoming", now)

    def became(self, actor: str, reply: Reply, now: float) -> None:
        """The answer to `become`."""
        process = self.processes.get(actor)
        if process is None or process.role is None or process.state != "becoming":
            return
        if isinstance(reply, Problem):
            self.vacate(process, now, reply)
            return
        for slot in self.slots_of(process):
            self._serve(process, slot, now)

    def _serve(self, process: Process, slot: Slot, now: float) -> None:
        process.enter("serving", now)
        slot.problem = None
        if isinstance(slot.role, NodeRole):
            self.map_version += 1

    def vacate(self, process: Process, now: float, problem: Problem | None) -> None:
        """Take the role away: the process is dead, silent, or could not serve it."""
        for slot in self.slots_of(process):
            quick = process.state != "serving" or now - process.since < QUICK
            slot.failures = slot.failures + 1 if quick else 0
            slot.process, slot.vacant_since, slot.problem = None, now, problem
            slot.retry_at = now + backoff(slot.failures)
            if isinstance(slot.role, NodeRole):
                self.map_version += 1
        for partition in self.partitions:
            if partition.owner == process.actor:
                partition.owner = None
            if partition.asked == process.actor:
                partition.asked = None
        process.enter("lapsed", now)

    # What happens to processes

    def died(self, actor: str, reason: str, now: float) -> None:
        """Ray says that the process is gone."""
        process = self.processes.pop(actor, None)
        if process is None or process.state == "lapsed":
            return
        if process.state == "starting" and not process.adopted:
            sentence = f"A process ended while it was starting: {reason}"
            self._start_failed(process, Problem(where="process", word="starting", sentence=sentence), now)
        problem = Problem(where=actor, word="died", sentence=f"The process died: {reason}")
        self.vacate(process, now, None if process.role is None else problem)

    def leases(self, held: Collection[str], now: float) -> None:
        """The store was asked: these names have a lease."""
        self.store_problem = None
        for process in self.processes.values():
            if process.actor in held:
                process.leased, process.absent_since = True, None
            elif self._should_hold_lease(process) and now >= self.leases_trusted_from:
                if process.absent_since is None:
                    process.absent_since = now
                elif now - process.absent_since >= ABSENT:
                    sentence = "The process gives no sign of life (suspended, starved, or cut off from the store)."
                    self.vacate(process, now, Problem(where=process.actor, word="silent", sentence=sentence))

    def _should_hold_lease(self, process: Process) -> bool:
        """A process takes its lease before it imports, so one that has told what it is has had one."""
        return process.state != "lapsed" and (process.leased or process.state != "starting")

    def store_away(self, sentence: str, now: float) -> None:
        """The store does not answer: leases say nothing until they had time to be renewed."""
        self.store_problem = Problem(where="store", word="store_unreachable", sentence=sentence)
        self.leases_trusted_from = now + self.deployment.lease_ttl + ABSENT
        for process in self.processes.values():
            process.absent_since = None

    def reported(self, report: Report, now: float) -> None:
        """A worker tells what it met."""
        if isinstance(report, NodeFailed):
            slot = self.slots.get(NodeRole(report.unit, report.replica).name)
            process = slot.serving if slot is not None else None
            if process is not None and process.incarnation == report.incarnation:
                sentence = "A worker's call found the process dead."
                self.vacate(process, now, Problem(where=process.actor, word="died", sentence=sentence))
        elif isinstance(report, PartitionLost) and report.partition < len(self.partitions):
            partition = self.partitions[report.partition]
            if report.actor in (partition.owner, partition.asked):  # it may come before the answer to the Assign
                self._lost(report.partition, report.reason, now)
        elif isinstance(report, PartitionReleased) and report.placement == self._placement_of(report.partition):
            self.revoked(report.actor, [report.partition])

    def _placement_of(self, number: int) -> int:
        """By which a partition was asked for last."""
        return self.partitions[number].placement if number < len(self.partitions) else -1

    def _lost(self, number: int, reason: str, now: float) -> None:
        partition = self.partitions[number]
        partition.owner = partition.asked = None
        partition.retry_at = now + 0.2
        partition.problem = Problem(where=f"partition/{number}", word="lost", sentence=reason)

    # Answers to control messages

    def assigned(self, actor: str, numbers: Sequence[int], reply: Reply, now: float) -> None:
        """The answer to an Assign."""
        for number in numbers:
            partition = self.partitions[number]
            if partition.asked != actor:
                continue
            partition.asked = None
            if isinstance(reply, Problem):
                partition.problem, partition.retry_at = reply, now + 1.0
            else:
                partition.owner, partition.problem, partition.denied = actor, None, 0

    def revoked(self, actor: str, numbers: Sequence[int]) -> None:
        """The answer to a Revoke, or its time is up: the owner token keeps a late owner out."""
        for number in numbers:
            partition = self.partitions[number]
            if partition.owner == actor:
                partition.owner = None
            if partition.asked == actor:
                partition.asked = None

    def answered(self, actor: str, message: Control, reply: Reply, now: float) -> None:
        """The answer to a Nodes, Drain, HoldSources or GetStatus."""
        process = self.processes.get(actor)
        if process is None:
            return
        kind = type(message).__name__
        if kind == "Drain":
            process.drained = True
        elif kind == "HoldSources" and not isinstance(reply, Done):
            process.paused_sent = None
        elif isinstance(message, Nodes):
            process.map_sent = process.map_sent if isinstance(reply, Done) else -1
            process.map_known = message.version if isinstance(reply, Done) else -1
        elif isinstance(reply, ShellStatus):
            process.engine = reply.engine
            if reply.engine is not None:
                self._compare(actor, reply.engine.partitions, now)
            if process.state == "becoming" and process.adopted and process.role is not None:
                self._status_of_adopted(process, reply, now)

    def _compare(self, actor: str, owned: Collection[int], now: float) -> None:
        """A report that a partition was lost may itself be lost; one status may be older than an assignment."""
        for number, partition in enumerate(self.partitions):
            if partition.owner != actor:
                continue
            partition.denied = 0 if number in owned else partition.denied + 1
            if partition.denied >= DENIALS and partition.asked is None:
                self._lost(number, "its worker does not own it", now)

    def _status_of_adopted(self, process: Process, status: ShellStatus, now: float) -> None:
        """An adopted process was still becoming when found, and its answer went to the supervisor before."""
        assert process.role is not None
        if status.state == "serving":
            for slot in self.slots_of(process):
                self._serve(process, slot, now)
        elif status.state == "failed":
            self.vacate(process, now, status.problem)
