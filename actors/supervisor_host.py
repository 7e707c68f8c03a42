"""What the supervisor's process does: turns what happens into events, asks `reconcile`, does what it says.

All decisions are taken on one thread, in `roster` and `reconcile`. Nothing on it waits for another process:
answers come back as events, so a suspended worker can't hold up the supervisor.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import ray
import structlog

from headrace.actors.leases import LeaseKeeper
from headrace.actors.reconcile import Become, Instruction, Kill, Send, StartShell, reconcile
from headrace.actors.roster import STARTS_PER_TERM, Roster
from headrace.actors.roster_status import status_of
from headrace.actors.shell import names_of, start_shell
from headrace.actors.spec import (
    NAMESPACE,
    Assign,
    Deployment,
    GetStatus,
    Problem,
    Reply,
    Revoke,
    ShellStatus,
    decode_reply,
    decode_report,
    encode,
    shell_prefix,
    supervisor_name,
)
from headrace.actors.store_link import PROCESS, StoreLink
from headrace.actors.supervisor_metrics import SupervisorMetrics
from headrace.logs import configure_logs_by_environment
from headrace.metrics.publishing import Publisher

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = structlog.get_logger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at the clock when nothing happens."""
DRAIN_WITHIN: Final = 20.0
"""Seconds that workers may take to finish what is in flight when the workflow is stopped."""
LEASE_TTL: Final = timedelta(seconds=2.5)
Event: TypeAlias = Callable[[Roster, float], None]


class SupervisorHost:
    """One supervisor process. Nothing connects before `start`, and what fails then is tried again."""

    def __init__(self, workflow: str, redis_url: str) -> None:
        configure_logs_by_environment()
        self.pid = os.getpid()
        self._workflow = workflow
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._link = StoreLink(redis_url, workflow, self._events.put, self._stop_by_request)
        # Ray runs one supervisor of a name: who held the lease before is dead, or about to be.
        self._lease = LeaseKeeper(
            redis_url,
            supervisor_name(workflow),
            incarnation=secrets.token_hex(8),
            ttl=LEASE_TTL,
            take_over=True,
            on_lost=self._deposed,
        )
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._refs: set[Any] = set()
        self._status = b""
        self._metrics = SupervisorMetrics()
        self._publisher = Publisher(redis_url, workflow, PROCESS, self._metrics.registry)
        self._drained = threading.Event()
        self._held = threading.Event()
        self._stopped = threading.Event()
        self._ending = threading.Lock()

    def start(self) -> None:
        """Begin to supervise, on a thread of its own."""
        threading.Thread(target=self._run, name="headrace-supervisor", daemon=True).start()

    # Called by others, on Ray's threads

    def report(self, blob: bytes) -> None:
        """Something that a worker met."""
        report = decode_report(blob)
        log.info("reported", report=report)
        self._events.put(lambda roster, now: roster.reported(report, now))

    def status(self) -> bytes:
        """The last status document."""
        return self._status

    def shutdown(self, timeout: float) -> bool:
        """Drain, then end every shell. May be called again."""

        def stop(roster: Roster, _: float) -> None:
            roster.stopping = True

        self._events.put(stop)
        drained = self._drained.wait(timeout)
        self._stopped.set()
        for handle in list(self._handles.values()):
            ray.kill(handle, no_restart=True)
        self._lease.stop()
        self._link.stop()
        self._publisher.stop()
        return drained

    def hold(self, timeout: float) -> bool:
        """Finish and commit what is in flight, and pull nothing more, until `replace`; False: not in time."""

        def begin(roster: Roster, _: float) -> None:
            roster.holding = True

        self._held.clear()
        self._events.put(begin)
        return self._held.wait(timeout)

    def replace(self, blob: bytes) -> None:
        """Run another version from now on: a `Deployment` with the same number of partitions."""
        deployment = msgspec.msgpack.decode(blob, type=Deployment)
        log.info("deployment_replaced", workflow=self._workflow, version=deployment.code.version)
        self._events.put(lambda roster, now: roster.replace(deployment, now))

    def watch(self) -> None:
        """Blocks until the process ends."""
        threading.Event().wait()

    def _stop_by_request(self) -> None:
        """`headrace stop` has said in the store that the workflow is not to run: drain, and end this actor, too."""
        if not self._ending.acquire(blocking=False):
            return  # under way

        def end() -> None:
            log.info("supervisor_stops", workflow=self._workflow)
            self.shutdown(DRAIN_WITHIN)
            ray.kill(ray.get_actor(supervisor_name(self._workflow), namespace=NAMESPACE), no_restart=True)

        threading.Thread(target=end, name="headrace-end", daemon=True).start()

    def _deposed(self) -> None:
        """Another supervisor of this workflow has taken over (from another Ray cluster): this one must go."""
        log.error("supervisor_deposed", workflow=self._workflow)
        os._exit(1)

    # The supervisor's thread

    def _run(self) -> None:
        self._lease.start()
        self._publisher.start()
        term, deployment, pauses = self._link.start()
        roster = Roster(deployment, term, time.monotonic(), pauses=pauses)
        log.info("supervisor_started", workflow=self._workflow, term=term, pid=self.pid)
        self._find_shells(roster)
        while not self._stopped.is_set():
            try:
                self._step(roster)
            except Exception:  # the supervisor must outlive its own mistakes, and say that it made one
                log.exception("supervisor_step_failed", workflow=self._workflow)
                time.sleep(TICK)

    def _step(self, roster: Roster) -> None:
        self._take_events(roster)
        now = time.monotonic()
        for instruction in reconcile(roster, now):
            if self._stopped.is_set():
                return
            self._do(instruction)
        document = status_of(roster, now, time.time())
        self._status = encode(document)
        self._metrics.look(document)
        self._link.update(list(roster.processes), document)
        if (roster.stopping or roster.holding) and all(
            process.drained is not False for process in roster.processes.values()
        ):
            (self._drained if roster.stopping else self._held).set()

    def _take_events(self, roster: Roster) -> None:
        try:
            event = self._events.get(timeout=TICK)
            while True:
                event(roster, time.monotonic())
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _find_shells(self, roster: Roster) -> None:
        """Shells that a supervisor before this one started: who answers is adopted."""
        prefix = shell_prefix(self._workflow)
        for name in names_of(self._workflow):
            if not name.startswith(prefix):
                continue
            try:
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                continue  # it died between the two questions
            incarnation = int(name.rpartition(":")[2])
            log.info("shell_found", actor=name, term=incarnation // STARTS_PER_TERM)
            roster.found(name, incarnation, time.monotonic())
            self._welcome(name)

    def _do(self, instruction: Instruction) -> None:
        log.debug("supervisor_does", instruction=type(instruction).__name__)
        match instruction:
            case StartShell(spec, resources):
                log.info("shell_starting", actor=spec.actor)
                self._handles[spec.actor] = start_shell(spec, resources)
                self._welcome(spec.actor)
            case Become(actor, spec):
                log.info("role_given", role=spec.role.name, actor=actor)
                self._ask(actor, "become", encode(spec), lambda r, reply, now: r.became(actor, reply, now))
            case Send(actor, Assign(partitions=numbers) as message):
                log.info("assigned", actor=actor, partitions=numbers, placement=message.placement)
                self._ask(
                    actor, "control", encode(message), lambda r, reply, now: r.assigned(actor, numbers, reply, now)
                )
            case Send(actor, Revoke(partitions=numbers) as message):
                log.info("revoked", actor=actor, partitions=numbers, placement=message.placement)
                self._ask(actor, "control", encode(message), lambda r, _, __: r.revoked(actor, numbers))
            case Send(actor, message):
                self._ask(
                    actor, "control", encode(message), lambda r, reply, now: r.answered(actor, message, reply, now)
                )
            case Kill(actor):
                log.info("shell_killed", actor=actor)
                ray.kill(self._handles[actor], no_restart=True)

    def _welcome(self, actor: str) -> None:
        """Watch a new process, and ask what it is: its first answer says that it has imported everything."""
        handle: Any = self._handles[actor]
        watch = handle.watch.remote()
        self._refs.add(watch)

        def gone(future: Any) -> None:
            self._refs.discard(watch)
            reason = _first_line(future.exception())
            self._events.put(lambda roster, now: self._died(roster, actor, reason, now))

        watch.future().add_done_callback(gone)
        self._ask(actor, "control", encode(GetStatus()), lambda r, reply, now: self._ready(r, actor, reply, now))

    def _ready(self, roster: Roster, actor: str, reply: Reply, now: float) -> None:
        if isinstance(reply, ShellStatus):
            log.info("shell_ready", actor=actor, state=reply.state)
            roster.ready(actor, reply, now)

    def _died(self, roster: Roster, actor: str, reason: str, now: float) -> None:
        log.warning("shell_died", actor=actor, reason=reason)
        self._handles.pop(actor, None)
        roster.died(actor, reason, now)

    def _ask(self, actor: str, method: str, blob: bytes, take: Callable[[Roster, Reply, float], None]) -> None:
        """Call a shell; its answer, or what went wrong, becomes an event."""
        handle = self._handles.get(actor)
        if handle is None:
            return  # it died; that is an event of its own
        ref = getattr(handle, method).remote(blob)
        self._refs.add(ref)

        def done(future: Any) -> None:
            self._refs.discard(ref)
            error = future.exception()
            if error is None:
                reply = decode_reply(future.result())
            else:
                reply = Problem(where=actor, word="unanswered", sentence=_first_line(error))
            self._events.put(lambda roster, now: take(roster, reply, now))

        ref.future().add_done_callback(done)


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
