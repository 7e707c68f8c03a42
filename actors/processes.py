"""What the supervisor remembers of one process, one role, one partition."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.actors.spec import EngineStatus, Problem, Role


@dataclass(slots=True)
class Process:
    """One shell, from the moment its start is asked for until it is known to be dead or given up."""

    actor: str
    incarnation: int
    resources: dict[str, float]
    since: float
    """When it entered its state."""
    state: str = "starting"
    """`starting` -> `spare` -> `becoming` -> `serving`; `leaving`: of a version before, until its
    partitions are elsewhere; `lapsed`: silent, replaced or of no use, to be killed."""
    reserved: Role | None = None
    """The only role it is for (it holds that role's resources); None: any without resources."""
    adopted: bool = False
    kind: str = ""
    """Which roles it can take: see `changing.kind_of`."""
    role: Role | None = None
    pid: int | None = None
    leased: bool = False
    absent_since: float | None = None
    map_sent: int = -1
    map_sent_at: float = 0.0
    map_known: int = -1
    """Version of the last node map whose nodes a worker is connected to."""
    paused_sent: tuple[str, ...] | None = None
    """Sources that it was last told to hold, if it is a worker; None: that has to be said."""
    engine: EngineStatus | None = None
    asked_at: float = 0.0
    """When its status was asked for last."""
    drained: bool | None = None
    """None: not asked; False: asked; True: done."""

    def enter(self, state: str, now: float) -> None:
        """Change the state, and note when."""
        self.state, self.since = state, now


@dataclass(slots=True)
class Slot:
    """One role that somebody must have."""

    role: Role
    label: str
    """For people: `worker/0`, `classify/1`."""
    resources: dict[str, float]
    vacant_since: float
    process: Process | None = None
    started: int = 0
    """How many processes have been given this role."""
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    problem: Problem | None = None

    @property
    def serving(self) -> Process | None:
        """The process that serves the role; None while nobody does."""
        process = self.process
        return process if process is not None and process.state == "serving" else None


@dataclass(slots=True)
class Ownership:
    """One partition: who shall have it, who has it."""

    wanted: str | None = None
    """Name of a worker's role."""
    owner: str | None = None
    """Actor that has been told, and has agreed, to own it."""
    asked: str | None = None
    """Actor that an Assign or Revoke is under way to."""
    asked_at: float = 0.0
    placement: int = 0
    """By which it was asked."""
    denied: int = 0
    """How many times in a row its owner's status has left it out."""
    retry_at: float = 0.0
    problem: Problem | None = None
