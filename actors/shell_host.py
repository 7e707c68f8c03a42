"""What a shell's process does: holds a lease, imports the user's code, and runs the engine of its role."""

from __future__ import annotations

import os
import queue
import threading
from datetime import timedelta

import msgspec
import ray
import structlog
from ray.exceptions import RayError

from headrace.actors.bundle_store import local_code
from headrace.actors.changing import kind_of
from headrace.actors.deployed_parts import resized
from headrace.actors.engine import Engine, engine_class, make_engine
from headrace.actors.guardian import Guardian
from headrace.actors.leases import LeaseKeeper
from headrace.actors.loading import WorkflowImportError, import_workflow, user_traceback
from headrace.actors.node_settings import settings_of
from headrace.actors.spec import (
    NAMESPACE,
    Deployment,
    EngineStatus,
    GetStatus,
    NodeRole,
    Problem,
    Reply,
    Report,
    Role,
    RoleSpec,
    ShellSpec,
    ShellStatus,
    WorkerRole,
    decode_control,
    encode,
    supervisor_name,
)
from headrace.collecting import collect_seldom
from headrace.logs import configure_logs_by_environment, hide_in_logs
from headrace.workflows.effects import CrashPlan, arm
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan
from headrace.workflows.ports import BEGINNING
from headrace.workflows.settings import NO_SETTINGS

log = structlog.get_logger(__name__)


class ShellHost:
    """The inside of a shell. Constructing it imports everything, connects nothing, and never raises.

    With `late_code` the user's code is imported later: when the shell gets its role.

    States: `spare` -> `becoming` -> `serving`; or `failed`, when the user's code does not import or open.
    """

    def __init__(self, spec: bytes) -> None:
        configure_logs_by_environment()
        self._spec = msgspec.msgpack.decode(spec, type=ShellSpec)
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._state = "spare"
        self._role: Role | None = None
        self._engine: Engine | None = None
        self._plan: Plan | None = None
        self._version = ""
        """Of the user's code; empty until it is imported."""
        self._problem: Problem | None = None
        self._code = self._spec.deployment.code
        self._kind = kind_of(self._spec.deployment, None)
        self._settings = NO_SETTINGS
        self._reporter = Reporter(self._spec.deployment.workflow)
        deployment = self._spec.deployment
        self._lease = LeaseKeeper(
            deployment.redis_url,
            self._spec.actor,
            incarnation=str(self._spec.incarnation),
            ttl=timedelta(seconds=deployment.lease_ttl),
        )
        self._lease.start()
        self._import()

    def _import(self) -> None:
        deployment = self._spec.deployment
        if not deployment.late_code:
            self._import_code(deployment)
        if self._state == "failed":
            return
        try:  # after the user's code: an engine may lie in its folder
            for name in (deployment.worker_engine, deployment.node_engine):
                engine_class(name)
        except Exception as error:  # noqa: BLE001  an engine may be the user's: what it raises is named in the status
            self._fail(self._problem_of("code", "import", error))

    def _import_code(self, deployment: Deployment) -> None:
        self._version = deployment.code.version
        try:
            self._code = local_code(deployment.code, deployment.redis_url, deployment.workflow)
            workflow = import_workflow(self._code)
            self._plan = workflow.compile(fuse="all" if deployment.fuse else None, now=BEGINNING)
        except WorkflowImportError as error:
            self._fail(Problem(where="code", word="import", sentence=error.sentence, traceback=error.traceback))
        except Exception as error:  # noqa: BLE001  user code: whatever it raises is named in the status
            self._fail(self._problem_of("code", "import", error))

    def _fail(self, problem: Problem) -> None:
        log.error("shell_failed", actor=self._spec.actor, word=problem.word, sentence=problem.sentence)
        self._problem, self._state = problem, "failed"

    def _problem_of(self, where: str, word: str, error: Exception) -> Problem:
        if isinstance(error, HeadraceError):
            return Problem(where=where, word=word, sentence=self._settings.mask(str(error)))
        mask = self._settings.mask
        trace = mask(user_traceback(error, self._code.folder))
        return Problem(where=where, word=word, sentence=mask(f"{type(error).__name__}: {error}"), traceback=trace)

    def become(self, blob: bytes) -> bytes:
        """Start the engine of a role. A repeat for the role it has is answered as if it were the first."""
        spec = msgspec.msgpack.decode(blob, type=RoleSpec)
        with self._lock:
            if self._state == "spare":
                self._state, self._role = "becoming", spec.role
                self._kind = kind_of(spec.deployment, spec.role)
                self._start(spec)
            elif self._role is not None and self._role != spec.role:
                sentence = f"{spec.actor} is {self._role.name} already."
                return encode(Problem(where=spec.role.name, word="role", sentence=sentence))
        return encode(self._problem or self._status())

    def _start(self, spec: RoleSpec) -> None:
        if self._plan is None:
            self._import_code(spec.deployment)
            if self._plan is None:
                return  # `failed`
        collect_seldom()
        if spec.crash_at is not None:
            arm(CrashPlan(spec.crash_at))
        try:
            self._settings = settings_of(spec.deployment.settings)
            hide_in_logs(self._settings.hidden)
            self._engine = make_engine(spec, resized(self._plan, spec.deployment.units), self._reporter.report)
            self._engine.start()
        except Exception as error:  # noqa: BLE001  user code (`open`): whatever it raises is named in the status
            word = "open" if isinstance(spec.role, NodeRole) else "start"
            self._fail(self._problem_of(spec.role.name, word, error))
            return
        self._state = "serving"
        if isinstance(spec.role, WorkerRole):
            Guardian(spec.deployment.redis_url, spec.deployment.workflow, spec.role.index).start()
        log.info("shell_serving", actor=self._spec.actor, role=spec.role.name)

    def call(self, batch: bytes) -> bytes:
        """Node work. The caller sees `NotServing` if this shell has no role (yet)."""
        if self._engine is None:
            raise NotServing(self._spec.actor)
        return self._engine.call(batch)

    def control(self, blob: bytes) -> bytes:
        """Answer a control message: with the shell's status, or as the engine says."""
        message = decode_control(blob)
        if isinstance(message, GetStatus):
            return encode(self._status())
        if self._engine is None:
            return encode(Problem(where=self._spec.actor, word="role", sentence="It has no role yet."))
        try:
            return encode(self._engine.control(message))
        except Exception as error:
            log.exception("control_failed", actor=self._spec.actor)
            return encode(self._problem_of(self._spec.actor, "control", error))

    def _status(self) -> ShellStatus:
        engine = None
        if self._engine is not None and self._state == "serving":
            reply: Reply = self._engine.control(GetStatus())
            engine = reply if isinstance(reply, EngineStatus) else None
        return ShellStatus(
            actor=self._spec.actor,
            incarnation=self._spec.incarnation,
            pid=self.pid,
            version=self._version,
            state=self._state,
            role=self._role,
            engine=engine,
            kind=self._kind,
            problem=self._problem,
        )

    def watch(self) -> None:
        """Blocks until the process ends."""
        threading.Event().wait()


class NotServing(HeadraceError):
    """A call reached a shell that has no role: its caller's map of nodes is older than the shell."""

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} serves no node. Ask the supervisor where the node is.")
        self.actor = actor

    def __reduce__(self) -> tuple[type[NotServing], tuple[str]]:
        return type(self), (self.actor,)


class Reporter:
    """Brings reports to the supervisor from a thread of its own: finding an actor may block for long."""

    def __init__(self, workflow: str) -> None:
        self._name = supervisor_name(workflow)
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def report(self, report: Report) -> None:
        """Send `report` soon; a report that can't be sent is dropped, the supervisor also finds out by itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name="headrace-reporter", daemon=True)
            self._thread.start()
        self._reports.put(report)

    def _send(self) -> None:
        while True:
            report = self._reports.get()
            try:
                ray.get_actor(self._name, namespace=NAMESPACE).report.remote(encode(report))
            except (ValueError, RayError) as error:
                log.warning("report_dropped", report=type(report).__name__, reason=str(error))
