"""The detached Ray actor that keeps a workflow's workers and nodes alive and its partitions placed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from headrace.actors.spec import NAMESPACE, supervisor_name

if TYPE_CHECKING:
    from ray.actor import ActorHandle

CPUS = 0.001


class Supervisor:
    """A thin shell around `SupervisorHost`; Ray restarts it for ever, and it finds its bearings by itself.

    Nothing here connects: an exception in a constructor would be final despite `max_restarts`.
    """

    def __init__(self, workflow: str, redis_url: str) -> None:
        from headrace.actors.supervisor_host import SupervisorHost  # noqa: PLC0415  the class is pickled by value

        self._host = SupervisorHost(workflow, redis_url)
        self._host.start()

    def report(self, report: bytes) -> None:
        """Something that a worker met, a `Report`."""
        self._host.report(report)

    @ray.method(concurrency_group="control")
    def status(self) -> bytes:
        """The `ClusterStatus` now; empty while the store has not answered yet."""
        return self._host.status()

    @ray.method(concurrency_group="control")
    def shutdown(self, timeout: float) -> bool:
        """Drain the workers and end all shells; False when they were ended without having drained in time."""
        return self._host.shutdown(timeout)

    @ray.method(concurrency_group="control")
    def hold(self, timeout: float) -> bool:
        """Drain the workers and keep them so until `replace`; False: not all in time."""
        return self._host.hold(timeout)

    @ray.method(concurrency_group="control")
    def replace(self, deployment: bytes) -> None:
        """Run another version, a `Deployment`, in new processes."""
        self._host.replace(deployment)

    @ray.method(concurrency_group="control")
    def pid(self) -> int:
        """Number of the process."""
        return self._host.pid

    @ray.method(concurrency_group="watch")
    def watch(self) -> None:
        """Never returns: whoever holds the reference learns at once when the process dies."""
        self._host.watch()


def start_supervisor(workflow: str, redis_url: str) -> ActorHandle[Any]:
    """Start the supervisor of a workflow; returns at once.

    Raises:
        ValueError: The name is taken: there is one already.
    """
    remote: Any = ray.remote  # its types don't know `concurrency_groups`
    actor = remote(concurrency_groups={"control": 4, "watch": 2})(Supervisor)
    handle: ActorHandle[Any] = actor.options(
        name=supervisor_name(workflow),
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=CPUS,
        max_restarts=-1,
        max_task_retries=0,
    ).remote(workflow, redis_url)
    return handle
