"""The worker role: owns partitions; pulls, routes, commits and relays. A thread with one event loop does it all."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import structlog
import uvloop

from headrace.actors.activity import Activity
from headrace.actors.clock import StoreClock
from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.engine import OnReport
from headrace.actors.feeds import Feeds, make_feeds
from headrace.actors.formats import Formats
from headrace.actors.host_progress import progress_of
from headrace.actors.large_states import LargeStates
from headrace.actors.node_calls import NodeCalls
from headrace.actors.node_settings import settings_of
from headrace.actors.outlets import make_outlets
from headrace.actors.partition_driver import PartitionDriver
from headrace.actors.pausing import Pausing
from headrace.actors.relay import Relay
from headrace.actors.shared import Shared
from headrace.actors.sizing import Sizing
from headrace.actors.spec import (
    Assign,
    Control,
    Done,
    Drain,
    EngineStatus,
    GetStatus,
    HoldSources,
    Nodes,
    PartitionLost,
    PartitionReleased,
    Problem,
    Reply,
    Revoke,
    RoleSpec,
)  # fmt: skip
from headrace.actors.store import Store
from headrace.actors.store_streams import StreamWriter
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.logs import hide_in_logs
from headrace.metrics.publishing import Publisher
from headrace.metrics.span_counts import SpanCounts
from headrace.sources.feeding import Surroundings
from headrace.tracing.processes import ProcessTraces
from headrace.workflows.calls import CallResult
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.instructions import Limits
from headrace.workflows.plan import Plan
from headrace.workflows.progress import Progress
from headrace.workflows.runner import UnitRunner
from headrace.workflows.state_sizes import StateSizes
from headrace.workflows.store import NotDurable, StoreUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

CONTROL_TIMEOUT: Final = 30.0
"""Seconds within which a control message is answered."""
VERIFY: Final = 1.0
"""Seconds between two looks whether the store has lost its tail."""
_WAIT: Final = 0.5
_CONNECT_WITHIN: Final = 5.0
"""Seconds that the answer to a new node map waits for the connections; whoever is not there is named by then."""


class Worker:
    """Engine of a worker's process; see `Engine`.

    Args:
        spec: Its role.
        plan: The compiled workflow, as this process has imported it.
        report: Tells the supervisor.
        progress: What is noted of nodes that run here; by default for whoever comes after this process.
    """

    def __init__(self, spec: RoleSpec, plan: Plan, report: OnReport, *, progress: Progress | None = None) -> None:
        self._spec = spec
        self._plan = plan
        self._report = report
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-worker", daemon=True)
        self._drivers: dict[int, PartitionDriver] = {}
        self._problems: dict[str, str] = {}
        self._undurable = False
        self._clock = StoreClock()
        self._large_states = LargeStates()
        sizes, settings = StateSizes(on_large=self._large_states), settings_of(spec.deployment.settings)
        hide_in_logs(settings.hidden)
        deployment = spec.deployment
        self._traces = ProcessTraces(deployment.traces, plan, spec.role.name, deployment.incarnation)
        inside = [unit.index for unit in plan.units if unit.in_worker]
        self._progress = progress or (progress_of(spec) if inside else Progress())
        self._streams = StreamWriter(deployment.redis_url, plan.name, spec.incarnation)
        self._runners = {
            unit: UnitRunner(
                plan, unit, sizes=sizes, settings=settings, scope=self._traces.scope, progress=self._progress,
                streams=self._streams,
            )
            for unit in inside
        }  # fmt: skip

    def start(self) -> None:
        """Connect, open the nodes that run here, and be ready for partitions."""
        self._thread.start()
        self._submit(self._start()).result()

    def call(self, batch: bytes) -> bytes:
        """Workers are never called."""
        raise HeadraceError(f"{self._spec.actor} is a worker, not a node")

    def control(self, message: Control) -> Reply:
        """Answer the supervisor."""
        return self._submit(self._control(message)).result(CONTROL_TIMEOUT)

    def stop(self) -> None:
        """Disconnect; what is in flight is processed by the next owner."""
        if self._loop.is_running():
            self._submit(self._stop()).result(CONTROL_TIMEOUT)
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self) -> None:
        deployment, plan = self._spec.deployment, self._plan
        channels = {source.name: source.source.capacity for source in plan.sources if source.source.kind == "channel"}
        sinks = [sink.name for sink in plan.sinks]
        durability = Durability.parse(deployment.durability)
        self._store = Store(
            deployment.redis_url, plan.name, channels=channels, sinks=sinks, durability=durability,
            retention=plan.letters_kept,
        )  # fmt: skip
        while True:
            try:
                await self._store.open()
                await self._store.check_format(plan.name)
                break
            except StoreUnavailable as error:
                self._problem("store_unreachable", str(error))
                await asyncio.sleep(_WAIT)
        self._problem("store_unreachable", "")
        await self._clock.look(self._store.time)
        log.info("durability", workflow=plan.name, level=str(durability), holds=durability.sentence)
        for runner in self._runners.values():
            await runner.open()
        places = [
            (unit.index, replica) for unit in plan.units if not unit.in_worker for replica in range(unit.replicas)
        ]
        metrics = self._metrics = WorkerMetrics(plan)
        metrics.registry.register(SpanCounts(self._traces.counters))
        closed = ClosedNodes()
        self._nodes = NodeCalls(
            places, self._finished, self._wake_all, self._report, metrics.called, closed=closed,
            deadline=plan.epoch_deadline, opening=deployment.open_timeout,
        )  # fmt: skip
        self._formats = Formats(plan, self._problem)
        await self._formats.open()
        surroundings = Surroundings(
            workflow=plan.name, partitions=deployment.partitions, keyed=plan.keyed, redis_url=deployment.redis_url,
            clock=self._store.time, on_ready=self._ready, on_problem=self._problem, on_closed=self._source_closed,
        )  # fmt: skip
        self._feeds: Feeds = make_feeds(plan, deployment, surroundings)
        self._pausing = Pausing(plan.sources, self._feeds, self._read_to_its_end, self._wake_all, closed)
        self._pausing.pause(self._spec.paused)
        await self._feeds.open()
        self._outlets = make_outlets(plan, deployment, self._store)
        outlets = self._outlets
        self._relay = Relay(
            outlets.all, outlets.index_of, self._problem, self._wake_all, metrics.delivered, inner=outlets.inner
        )
        await self._relay.open()
        self._shared = Shared(
            plan=plan, partitions=deployment.partitions, worker=self._spec.actor, store=self._store, feed=self._feeds,
            nodes=self._nodes, relay=self._relay, runners=self._runners, formats=self._formats, clock=self._clock,
            sizing=Sizing(), activity=Activity(), metrics=metrics, limits=Limits(), tracer=self._traces.tracer,
            on_problem=self._problem, on_lost=self._partition_lost, closed=closed,
        )  # fmt: skip
        self._publisher = Publisher(deployment.redis_url, plan.name, self._spec.role.name, metrics.registry)
        self._publisher.start()
        self._verifying = self._loop.create_task(self._verify())

    async def _verify(self) -> None:
        while True:
            await asyncio.sleep(VERIFY)
            looks = [driver.verify() for driver in self._drivers.values()]
            looks += [self._look_at_durability(), self._clock.look(self._store.time)]
            for problem in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(problem, BaseException):
                    log.error("not_verified", exc_info=problem)
            words = {problem.word for problem in self._all_problems()}
            self._metrics.look(
                self._drivers.values(),
                self._relay,
                self._feeds.lags(),
                self._nodes.parked(),
                words,
                self._shared.closed,
            )

    async def _look_at_durability(self) -> None:
        """Also a worker without events says so when the store can't keep the level any more."""
        try:
            await self._store.durable.look_now_and_then()
        except NotDurable as error:
            self._undurable = True
            self._problem(error.word, str(error))
        except StoreUnavailable:
            return  # whoever needs it names it
        else:
            if self._undurable:
                self._problem(NotDurable.word, "")
            self._undurable = False

    async def _stop(self) -> None:
        self._verifying.cancel()
        self._publisher.stop()
        for driver in list(self._drivers.values()):
            await driver.drop()
        await self._relay.close()
        await self._feeds.close()
        await self._formats.close()
        for runner in self._runners.values():
            await runner.close()
        await self._streams.close()
        self._progress.close()
        await self._store.close()
        await asyncio.to_thread(self._traces.close)

    async def _control(self, message: Control) -> Reply:
        match message:
            case Assign():
                await self._assign(message)
            case Revoke():
                await self._release(message.partitions, message.placement)
            case Nodes():
                self._nodes.update(message.version, message.nodes)
                await self._nodes.connecting(_CONNECT_WITHIN)
            case Drain():
                await self._release(tuple(self._drivers))
                await asyncio.to_thread(self._traces.flush)  # a process that is drained is killed
            case HoldSources(names):
                self._pausing.pause(names)
            case GetStatus():
                return self._status()
        return Done()

    async def _assign(self, message: Assign) -> None:
        new = [number for number in message.partitions if number not in self._drivers]
        drivers = [PartitionDriver(number, self._shared) for number in new]
        self._drivers.update(zip(new, drivers, strict=True))
        acquiring = (driver.acquire(message.term, message.placement) for driver in drivers)
        for driver, is_ours in zip(drivers, await asyncio.gather(*acquiring, return_exceptions=True), strict=True):
            if isinstance(is_ours, BaseException):
                log.error("partition_not_acquired", partition=driver.number, exc_info=is_ours)
                self._problem("internal", f"partition {driver.number}: {type(is_ours).__name__}: {is_ours}")
                await driver.drop()
            if is_ours is not True and driver.state != "torn":
                self._partition_lost(driver, "stale placement" if is_ours is False else "internal")

    async def _release(self, partitions: tuple[int, ...], placement: int | None = None) -> None:
        """Let partitions go, each as soon as it is drained: one that takes long must not hold up the others."""
        drivers = [self._drivers[number] for number in partitions if number in self._drivers]
        await asyncio.gather(*(self._let_go(driver, placement) for driver in drivers))

    async def _let_go(self, driver: PartitionDriver, placement: int | None) -> None:
        await driver.release()
        if self._drivers.get(driver.number) is driver:
            del self._drivers[driver.number]
        if placement is not None:
            released = PartitionReleased(actor=self._spec.actor, partition=driver.number, placement=placement)
            self._report(released)

    def _status(self) -> EngineStatus:
        drivers = self._drivers.values()
        owned = tuple(sorted(driver.number for driver in drivers if driver.state in ("owned", "ended", "torn")))
        counters: dict[str, int | float] = {
            "events": sum(driver.events for driver in drivers),
            "epochs": sum(driver.epochs for driver in drivers),
            "dead_letters": sum(driver.dead for driver in drivers),
            "letters_dropped": sum(driver.letters.dropped for driver in drivers),
            "outputs": self._relay.sent,
            "outputs_waiting": sum(self._relay.waiting(driver.number) for driver in drivers),
            "calls": self._nodes.calls,
            "calls_resent": self._nodes.resent,
            "ended": sum(driver.state == "ended" for driver in drivers),
            "lag": self._feeds.lag(),
            **self._outlets.counters(),
            "clock_ahead_ms": self._clock.host_ahead_ms,
            "large_states": self._large_states.count,
            **self._shared.activity.counters(),
        }
        moved = sum((driver.moved for driver in drivers), Counter[str]())
        if moved:
            counters["sent_on"] = moved.total()
            counters.update({f"sent_on:{source}": count for source, count in moved.items()})
        in_flight = sum(driver.epochs_in_flight + driver.events_in_flight for driver in drivers)
        return EngineStatus(
            partitions=owned, counters=counters, problems=tuple(self._all_problems()), paused=self._pausing.names,
            in_flight=in_flight + int(counters["outputs_waiting"]),
        )  # fmt: skip

    def _all_problems(self) -> list[Problem]:
        where = self._spec.role.name
        problems = [Problem(where=where, word=word, sentence=sentence) for word, sentence in self._problems.items()]
        problems += [
            Problem(where=f"partition/{driver.number}", word=standing[0], sentence=standing[1])
            for driver in self._drivers.values()
            if (standing := driver.standing) is not None
        ]
        sentences = self._nodes.unreachable()
        problems += [Problem(where=where, word="node_unavailable", sentence=sentence) for sentence in sentences]
        return problems

    def _finished(self, result: CallResult) -> None:
        driver = self._drivers.get(result.partition)
        if driver is not None:
            driver.finished(result)

    def _ready(self, partition: int) -> None:
        driver = self._drivers.get(partition)
        if driver is not None:
            driver.wake()

    def _wake_all(self) -> None:
        for driver in self._drivers.values():
            driver.wake()

    def _source_closed(self, partition: int, source: int) -> None:
        self._pausing.closed(partition, source)

    def _read_to_its_end(self, partition: int, source: int) -> None:
        driver = self._drivers.get(partition)
        if driver is not None:
            driver.source_closed(source)

    def _problem(self, word: str, sentence: str) -> None:
        if sentence:
            if self._problems.get(word) != sentence:
                log.warning("problem", word=word, sentence=sentence)
            self._problems[word] = sentence
        elif self._problems.pop(word, None) is not None:
            log.info("problem_over", word=word)

    def _partition_lost(self, driver: PartitionDriver, reason: str) -> None:
        if self._drivers.get(driver.number) is driver:
            del self._drivers[driver.number]
            self._report(PartitionLost(actor=self._spec.actor, partition=driver.number, reason=reason))
