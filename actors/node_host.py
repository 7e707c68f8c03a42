"""The node role: opens one replica of a unit, then processes the calls that workers send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.actors.activity import Activity
from headrace.actors.engine import OnReport
from headrace.actors.host_progress import progress_of
from headrace.actors.large_states import LargeStates
from headrace.actors.node_settings import settings_of
from headrace.actors.spec import Control, Done, EngineStatus, GetStatus, NodeRole, Problem, Reply, RoleSpec
from headrace.actors.store_streams import StreamWriter
from headrace.metrics.publishing import Publisher
from headrace.metrics.span_counts import SpanCounts
from headrace.tracing.processes import ProcessTraces
from headrace.workflows.calls import Call, CallResult, Hasten
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan
from headrace.workflows.runner import UnitRunner
from headrace.workflows.state_sizes import StateSizes

log = structlog.get_logger(__name__)
T = TypeVar("T")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `close()` of a unit's nodes may take."""
_calls: Final = msgspec.msgpack.Decoder(list[Call])
_results: Final = msgspec.msgpack.Encoder()


class OpenTimeout(HeadraceError):
    """`open()` of a node did not return in time; the process is given up and another one tries."""

    def __init__(self, unit: str, seconds: float) -> None:
        super().__init__(
            f"open() of {unit} took more than {seconds:g} s. Make it faster, or give it more time: open_timeout."
        )
        self.unit = unit
        self.seconds = seconds


class Runner(Protocol):
    """What opens nodes and runs a call; `UnitRunner` is one."""

    is_async: bool

    async def open(self) -> None:
        """Open the unit's nodes."""

    async def close(self) -> None:
        """Close the unit's nodes."""

    def run(self, call: Call) -> CallResult:
        """Process a call, if no node is async."""
        ...

    async def run_async(self, call: Call) -> CallResult:
        """Process a call, if a node is async."""
        ...

    def hasten(self, asked: Hasten) -> None:
        """Runs end; see there."""


class UserThread:
    """The one thread on which all user code of a process runs: `open`, `process`, `close`, and its event loop.

    A connection or a model that `open` made is then always used by the thread that made it. A call costs
    one hop to it and back (about 50 microseconds), whatever it holds.
    """

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-user", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it on the thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, work: Callable[[], None]) -> None:
        """Have it done on the thread, amid whatever it waits for."""
        self._loop.call_soon_threadsafe(work)

    def stop(self) -> None:
        """End the loop; what still runs on it is dropped."""
        self._loop.call_soon_threadsafe(self._loop.stop)


class NodeHost:
    """Engine of a node's process.

    Args:
        spec: Its role.
        plan: The compiled workflow, as this process has imported it.
        report: Not used: a node has nothing to tell that its caller does not see.
        runner: For tests; by default the unit's `UnitRunner`.
    """

    def __init__(self, spec: RoleSpec, plan: Plan, report: OnReport, *, runner: Runner | None = None) -> None:
        assert isinstance(spec.role, NodeRole), "worker roles have another engine"
        self._name = f"{plan.units[spec.role.unit].name(plan)}/{spec.role.replica}"
        self._open_timeout = spec.deployment.open_timeout
        self._large_states = LargeStates()
        deployment = spec.deployment
        self._traces = ProcessTraces(deployment.traces, plan, spec.role.name, deployment.incarnation)
        self._progress = progress_of(spec)
        self._streams = StreamWriter(deployment.redis_url, plan.name, spec.incarnation)
        self._runner: Runner = runner or UnitRunner(
            plan,
            spec.role.unit,
            sizes=StateSizes(on_large=self._large_states),
            settings=settings_of(spec.deployment.settings),
            scope=self._traces.scope,
            progress=self._progress,
            streams=self._streams,
        )
        self._user = UserThread()
        self._counters: dict[str, int | float] = {"calls": 0, "events": 0, "failed": 0, "seconds": 0.0}
        self._activity = Activity()
        self._publisher = _publisher(spec, self._counters, self._traces)
        self._stopped = False

    def start(self) -> None:
        """Open the unit's nodes.

        Raises:
            OpenTimeout: It took too long.
            Exception: Whatever a node's `open()` raised.
        """
        self._publisher.start()
        opening = self._user.submit(self._runner.open())
        try:
            opening.result(self._open_timeout)
        except TimeoutError:
            if opening.done():
                raise  # it is the user's own
            opening.cancel()
            raise OpenTimeout(self._name, self._open_timeout) from None

    def call(self, batch: bytes) -> bytes:
        """Run calls, one after the other.

        Args:
            batch: A msgpack list of `Call`, of one partition or several.

        Returns:
            A msgpack list of `CallResult`, in the same order.
        """
        results = self._user.submit(self._run(_calls.decode(batch))).result()
        return _results.encode(results)

    async def _run(self, calls: Sequence[Call]) -> list[CallResult]:
        runner, counters = self._runner, self._counters
        results = []
        if calls:
            self._activity.begin()
        for call in calls:
            result = await runner.run_async(call) if runner.is_async else runner.run(call)
            results.append(result)
            counters["calls"] += 1
            counters["events"] += len(call.runs)
            counters["failed"] += len(result.failed)
            counters["seconds"] += result.seconds
        self._activity.done()
        return results

    def control(self, message: Control) -> Reply:
        """Supervisors ask nodes for their status, workers tell them what need not go on."""
        if isinstance(message, Hasten):
            self._user.soon(partial(self._runner.hasten, message))
            return Done()
        if isinstance(message, GetStatus):
            large = {"large_states": self._large_states.count}
            return EngineStatus(counters={**self._counters, **large, **self._activity.counters()})
        return Problem(where=self._name, word="role", sentence=f"A node has no {type(message).__name__}.")

    def stop(self) -> None:
        """Close the unit's nodes."""
        if self._stopped:
            return
        self._stopped = True
        self._publisher.stop()
        closing = self._user.submit(self._close())
        try:
            closing.result(CLOSE_TIMEOUT)
        except Exception as error:  # noqa: BLE001  user code: the process ends anyway
            log.warning("close_failed", node=self._name, reason=f"{type(error).__name__}: {error}")
        self._user.stop()
        self._progress.close()
        self._traces.close()

    async def _close(self) -> None:
        await self._runner.close()
        await self._streams.close()


def _publisher(spec: RoleSpec, counters: Mapping[str, int | float], traces: ProcessTraces) -> Publisher:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Counted(counters))
    registry.register(SpanCounts(traces.counters))
    return Publisher(spec.deployment.redis_url, spec.deployment.workflow, spec.role.name, registry)


class _Counted(Collector):
    """What a node's process counts: by call, so nothing is counted twice for Prometheus."""

    def __init__(self, counters: Mapping[str, int | float]) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        """Calls, and the CPU time of the nodes in them."""
        counters = self._counters
        yield CounterMetricFamily("headrace_replica_calls", "Calls that this replica ran.", counters["calls"])
        yield CounterMetricFamily(
            "headrace_replica_cpu_seconds", "CPU time of its nodes in these calls.", counters["seconds"]
        )
