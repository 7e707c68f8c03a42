"""The workflow `ledger` on real parts: put under load, hit, and compared with the offline result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.spec import NAMESPACE, ClusterStatus, RoleStatus, supervisor_name
from headrace.actors.store import Store
from ledger import PARTITIONS, Load, alert_differences, differences, drained, offline, write_flow
from waiting import until

T = TypeVar("T")
CATCH_UP = 90.0
"""Seconds to work off what a fault has left behind; generous."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, whether this thread has a loop or not."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


def send_signal(pid: int, number: int) -> bool:
    """Whether the process was there to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Rig:
    """A running deployment of `ledger`, or of another workflow of the fault tests.

    Args:
        folder: Where its file is written.
        bootstrap: The broker.
        redis_url: The store.
        readings: Topic with the readings.
        alerts: Topic for the alerts.
        flow: Which workflow.
        sink: Broker of the alerts, if it is another one.
        scattered: The readings' keys lie in other topic partitions than theirs.
        options: Fields of the `Deployment`.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        redis_url: str,
        readings: str,
        alerts: str,
        *,
        flow: str = "ledger",
        sink: str | None = None,
        scattered: bool = False,
        **options: Any,
    ) -> None:
        self.bootstrap, self.redis_url = bootstrap, redis_url
        self.readings, self.alerts = readings, alerts
        self.sink = sink or bootstrap
        self.load = Load(bootstrap, readings, scattered=scattered)
        file = write_flow(folder, readings, alerts, name=flow, sink="sink" if sink else None)
        self.code, self.workflow = load_workflow(file.name, folder)
        plan = self.workflow.compile(fuse="all" if options.get("fuse") else None)
        options = {
            "kafka": {"bootstrap_servers": bootstrap}, "clusters": {"sink": {"bootstrap_servers": self.sink}},
            "incarnation": secrets.token_hex(4),  # tests on one broker must not meet each other's markers
            **options,
        }  # fmt: skip
        self.deployment = deployment_of(plan, self.code, redis_url, **options)
        self.cluster: Cluster | None = None

    def __enter__(self) -> Rig:
        self.cluster = start(self.deployment)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.cluster is not None
        self.cluster.stop()

    # Who is there

    def status(self) -> ClusterStatus:
        """The status, as soon as there is one."""
        assert self.cluster is not None
        found: ClusterStatus = until(self.cluster.status, "the supervisor has a status")
        return found

    def ready(self) -> ClusterStatus:
        """The status once every role is served, every partition owned and a spare is there."""
        assert self.cluster is not None
        cluster = self.cluster

        def look() -> ClusterStatus | None:
            status = cluster.status()
            if status is None or not status.ready:
                return None
            spare = any(row.name == "spare" and row.state == "spare" for row in status.roles)
            return status if spare or self.deployment.spares == 0 else None

        found: ClusterStatus = until(look, "all is served and a spare is ready", within=40)
        return found

    def role(self, name: str) -> RoleStatus:
        """One process, with its pid."""
        for row in self.ready().roles:
            if row.name == name and row.pid is not None:
                return row
        raise AssertionError(f"nobody is {name}")

    def pid(self, name: str) -> int:
        """Process id of a role, or of the `supervisor`."""
        if name == "supervisor":
            self.ready()
            supervisor: Any = ray.get_actor(supervisor_name(self.deployment.workflow), namespace=NAMESPACE)
            return int(ray.get(supervisor.pid.remote()))
        pid = self.role(name).pid
        assert pid is not None
        return pid

    # What happens to them

    def hit(self, *names: str, by: int = signal.SIGKILL) -> float:
        """Send a signal to these processes, under load.

        Returns:
            Seconds until each partition had a new commit.
        """
        pids = [self.pid(name) for name in names]
        before = run(self.sequences())
        self.wait_for_commits(before)
        for pid in pids:
            os.kill(pid, by)
        began = time.monotonic()
        run(asyncio.sleep(0.05))  # what was on its way to the store gets there
        self.wait_for_commits(run(self.sequences()))
        seconds = time.monotonic() - began
        what = signal.Signals(by).name
        print(f"\nfail-over: {' + '.join(names)} {what}: {seconds:.2f} s to a new commit in every partition")
        return seconds

    def hit_if_there(self, name: str, by: int) -> int | None:
        """Send a process a signal, whatever it is doing. Returns its process id; None if nobody has the role now."""
        pid: int | None = None
        if name == "supervisor":
            with contextlib.suppress(RayError, ValueError):
                supervisor: Any = ray.get_actor(supervisor_name(self.deployment.workflow), namespace=NAMESPACE)
                pid = ray.get(supervisor.pid.remote(), timeout=1)
        else:
            status = None if self.cluster is None else self.cluster.status(timeout=1)
            pid = next((row.pid for row in status.roles if row.name == name), None) if status is not None else None
        return pid if pid is not None and send_signal(pid, by) else None

    async def sequences(self) -> list[int]:
        """Number of the last commit, by partition."""
        async with Store(self.redis_url, self.deployment.workflow, connections=1) as store:
            return [(await store.head(partition)).sequence for partition in range(PARTITIONS)]

    def wait_for_commits(self, before: list[int]) -> None:
        """Until every partition has committed after `before`."""

        async def watch() -> None:
            deadline = time.monotonic() + CATCH_UP
            async with Store(self.redis_url, self.deployment.workflow, connections=1) as store:
                for partition, sequence in enumerate(before):
                    while (await store.head(partition)).sequence <= sequence:
                        assert time.monotonic() < deadline, f"partition {partition} stands still: {self.explain()}"
                        await asyncio.sleep(0.01)

        run(watch())

    def explain(self) -> str:
        """Roles and problems, for a test that fails; workers without a cluster tell for themselves (`solo`)."""
        if self.cluster is None:
            return "no cluster"
        status = self.cluster.status()
        if status is None:
            return "no status"
        rows = [f"{row.name} {row.state} {row.partitions} {row.counters}" for row in status.roles]
        problems = [f"{problem.where} {problem.word}: {problem.sentence}" for problem in status.problems]
        return "\n".join([*rows, f"unplaced {status.unplaced}", *problems])

    # What came of it

    def check(self, *, repeats: bool = False) -> None:
        """Wait until the log is worked off, and compare all of it with the offline result.

        Args:
            repeats: Alerts may be there again, with the same id.
        """
        run(self._check(self.explain, repeats))

    async def _check(self, explain: Callable[[], str], repeats: bool) -> None:
        expected = await offline(self.bootstrap, self.readings)
        deadline = time.monotonic() + CATCH_UP
        async with Store(self.redis_url, self.deployment.workflow, connections=2) as store:
            while not await drained(store, self.readings, expected.ends):
                if time.monotonic() > deadline:
                    heads = [await store.head(partition) for partition in range(PARTITIONS)]
                    raise AssertionError(f"not drained: {heads}, wanted {expected.ends}\n{explain()}")
                await asyncio.sleep(0.05)
            wrong = await differences(store, expected)
        wrong += await alert_differences(self.sink, self.alerts, expected, repeats=repeats)
        assert not wrong, f"{len(wrong)} differences: {wrong[:5]}"
