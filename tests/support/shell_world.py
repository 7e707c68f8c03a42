"""A world of pretended processes that does what the supervisor's core says, with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.actors.changing import kind_of
from headrace.actors.reconcile import Become, Kill, Send, StartShell, reconcile
from headrace.actors.roster import Roster
from headrace.actors.roster_status import status_of
from headrace.actors.spec import (
    Assign,
    ClusterStatus,
    CodeRef,
    Deployment,
    Done,
    Drain,
    EngineStatus,
    GetStatus,
    HoldSources,
    NodeMap,
    Nodes,
    Problem,
    Reply,
    Revoke,
    Role,
    RoleSpec,
    ShellStatus,
    UnitSpec,
)

STEP = 0.25
"""Seconds that the clock goes on with each step."""


@dataclass(slots=True)
class PretendedShell:
    """A process: what it owns and knows."""

    actor: str
    incarnation: int
    version: str
    kind: str
    role: Role | None = None
    owned: set[int] = field(default_factory=set)
    nodes: NodeMap = field(default_factory=dict)
    suspended: bool = False
    """Neither answers nor holds a lease, but Ray does not see it die."""
    crash_at: str | None = None
    paused: tuple[str, ...] = ()
    in_flight: int = 0

    def status(self) -> ShellStatus:
        engine = (
            EngineStatus(partitions=tuple(self.owned), paused=self.paused, in_flight=self.in_flight)
            if self.role
            else None
        )
        state = "serving" if self.role else "spare"
        return ShellStatus(
            actor=self.actor, incarnation=self.incarnation, pid=1, version=self.version, state=state, role=self.role,
            engine=engine, kind=self.kind,
        )  # fmt: skip


def deployment(*, partitions: int = 4, workers: int = 2, nodes: int = 1, **options: object) -> Deployment:
    """Two workers, one node, one spare, four partitions; or as asked for."""
    units = tuple(UnitSpec(index=index, name=f"n{index}") for index in range(nodes))
    code = CodeRef(folder="/", module="m", version="v1")
    fields: dict[str, object] = {
        "workflow": "w", "code": code, "redis_url": "redis://", "partitions": partitions, "workers": workers,
        "units": units,
    } | options  # fmt: skip
    return Deployment(**fields)  # type: ignore[arg-type]


class ShellWorld:
    """Processes and their supervisor; `step` lets time pass, `settle` lets everything happen that will."""

    def __init__(self, spec: Deployment) -> None:
        self.now = 100.0
        self.term = 1
        self.shells: dict[str, PretendedShell] = {}
        self.roster = Roster(spec, self.term, self.now)
        self.broken: dict[str, Problem] = {}
        """Role -> what happens when a process takes it."""
        self.starts = 0
        self.given: list[tuple[str, str]] = []
        """(role, actor), in order."""
        self.store_away = False
        self.no_room = False
        """Processes that are started never come up."""
        self.unanswered: set[type] = set()
        """Kinds of control messages that processes take their time for."""

    def step(self) -> None:
        """One period of the supervisor."""
        self.now += STEP
        for instruction in reconcile(self.roster, self.now):
            match instruction:
                case StartShell(spec, _):
                    self.starts += 1
                    if not self.no_room:
                        deployment = spec.deployment
                        version = "" if deployment.late_code else deployment.code.version
                        kind = kind_of(deployment, None)
                        self.shells[spec.actor] = PretendedShell(spec.actor, spec.incarnation, version, kind)
                        self.roster.ready(spec.actor, self.shells[spec.actor].status(), self.now)
                case Become(actor, role):
                    self.given.append((role.role.name, actor))
                    if actor in self.shells:
                        self.shells[actor].paused = role.paused
                    self._become(actor, role)
                case Send(actor, message):
                    self._send(actor, message)
                case Kill(actor):
                    self.kill(actor)
        if self.store_away:
            self.roster.store_away("away", self.now)
        else:
            held = {shell.actor for shell in self.shells.values() if not shell.suspended}
            self.roster.leases(held, self.now)

    def _become(self, actor: str, spec: RoleSpec) -> None:
        shell = self.shells.get(actor)
        if shell is None or shell.suspended:
            return
        problem = self.broken.get(spec.role.name)
        if problem is None:
            shell.role, shell.crash_at = spec.role, spec.crash_at
            shell.version, shell.kind = spec.deployment.code.version, kind_of(spec.deployment, spec.role)
        self.roster.became(actor, problem or shell.status(), self.now)

    def _send(self, actor: str, message: object) -> None:
        shell = self.shells.get(actor)
        if shell is None or shell.suspended or type(message) in self.unanswered:
            return
        reply: Reply = Done()
        match message:
            case Assign(partitions=numbers):
                shell.owned.update(numbers)
                self.roster.assigned(actor, numbers, reply, self.now)
                return
            case Revoke(partitions=numbers):
                shell.owned.difference_update(numbers)
                self.roster.revoked(actor, numbers)
                return
            case HoldSources(names):
                shell.paused = names
            case Nodes(nodes=nodes):
                shell.nodes = nodes
            case Drain():
                shell.owned.clear()
            case GetStatus():
                reply = shell.status()
        self.roster.answered(actor, message, reply, self.now)  # type: ignore[arg-type]

    def refuse_hold(self, actor: str, problem: Problem) -> None:
        """The answer of a process that was told what is paused: it could not."""
        self.roster.answered(actor, HoldSources(()), problem, self.now)

    def kill(self, actor: str) -> None:
        """The process ends, and Ray says so."""
        if self.shells.pop(actor, None) is not None:
            self.roster.died(actor, "killed", self.now)

    def supervisor_dies(self, stored: Deployment | None = None) -> None:
        """Another supervisor finds what is there; by default the store says that the same is to run."""
        self.term += 1
        self.roster = Roster(stored or self.roster.deployment, self.term, self.now)
        for shell in list(self.shells.values()):
            self.roster.found(shell.actor, shell.incarnation, self.now)
            if not shell.suspended:
                self.roster.ready(shell.actor, shell.status(), self.now)

    def settle(self, seconds: float = 60.0) -> ClusterStatus:
        """Let time pass; how it is then."""
        for _ in range(round(seconds / STEP)):
            self.step()
        return self.status()

    def status(self) -> ClusterStatus:
        """The status document now."""
        return status_of(self.roster, self.now, 0.0)

    def holder(self, role: str) -> PretendedShell:
        """The process that serves the role."""
        process = self.roster.slots[role].serving
        assert process is not None, f"nobody serves {role}"
        return self.shells[process.actor]

    def spare(self) -> PretendedShell:
        """A process without a role."""
        return next(shell for shell in self.shells.values() if shell.role is None)
