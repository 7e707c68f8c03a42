"""What a supervisor counts, in Prometheus' words: taken from its status document."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from headrace.actors.spec import ClusterStatus


class SupervisorMetrics:
    """The metrics of one supervisor; `look` on its thread, read from any."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._ready = Gauge(
            "headrace_ready", "1 when every role is served and every partition has an owner.", registry=registry
        )
        self._term = Gauge("headrace_supervisor_term", "Number of this supervisor.", registry=registry)
        self._unplaced = Gauge("headrace_partitions_unplaced", "Partitions without a worker.", registry=registry)
        self._roles = Gauge("headrace_role_serving", "1 when the role is served.", ["role"], registry=registry)
        self._restarts = Gauge(
            "headrace_role_restarts", "How often the role went to another process, in this supervisor's time.",
            ["role"], registry=registry,
        )  # fmt: skip
        self._paused = Gauge(
            "headrace_paused", "1 while a person has paused this source, or node; without a name: all.",
            ["source", "node"], registry=registry,
        )  # fmt: skip
        self._spares = Gauge("headrace_spares", "Warm processes without a role.", registry=registry)
        self._problems = Gauge(
            "headrace_problem", "1 while a problem of that word stands.", ["word"], registry=registry
        )

    def look(self, status: ClusterStatus) -> None:
        """Levels as the document has them."""
        self._ready.set(status.ready)
        self._term.set(status.term)
        self._unplaced.set(len(status.unplaced))
        self._spares.set(sum(role.role is None and role.state == "spare" for role in status.roles))
        self._paused.clear()
        for pause in status.paused:
            self._paused.labels(pause.source, pause.node).set(1)
        self._roles.clear()
        self._restarts.clear()
        for role in status.roles:
            if role.role is not None:
                self._roles.labels(role.role).set(role.state == "serving")
                self._restarts.labels(role.role).set(role.restarts)
        self._problems.clear()
        for problem in status.problems:
            self._problems.labels(problem.word).set(1)
