"""The Ray actor in which every role runs: a warm process that becomes a worker or a node by one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from headrace.actors.spec import NAMESPACE, ShellSpec, encode, shell_prefix, supervisor_name

if TYPE_CHECKING:
    from ray.actor import ActorHandle

CPUS = 0.001
"""What a shell asks of Ray. Shells are many and mostly wait: cores are shared out by the operating system."""


class Shell:
    """A thin shell: Ray pickles the class by value, so what it does lives in `ShellHost`, imported in the process.

    Only synchronous methods: one `async def` would make Ray reorder the calls of a caller.
    """

    def __init__(self, spec: bytes) -> None:
        from headrace.actors.shell_host import ShellHost  # noqa: PLC0415  the class is pickled by value

        self._host = ShellHost(spec)

    @ray.method(concurrency_group="control")
    def become(self, spec: bytes) -> bytes:
        """Take the role of a `RoleSpec`; answered with a `Reply` when the role is served."""
        return self._host.become(spec)

    @ray.method(concurrency_group="control")
    def control(self, message: bytes) -> bytes:
        """A `Control` message for the engine; answered with a `Reply`."""
        return self._host.control(message)

    @ray.method(concurrency_group="watch")
    def watch(self) -> None:
        """Never returns: whoever holds the reference learns at once when the process dies."""
        self._host.watch()

    @ray.method(concurrency_group="control")
    def pid(self) -> int:
        """Number of the process."""
        return self._host.pid

    def call(self, batch: bytes) -> bytes:
        """Node work; calls of one caller run in the order they were sent, one at a time."""
        return self._host.call(batch)


def names_of(workflow: str) -> list[str]:
    """Names of the workflow's actors that live, as Ray knows them: shells and supervisor."""
    ours = (shell_prefix(workflow), supervisor_name(workflow))
    rows: Any = ray.util.list_named_actors(all_namespaces=True)  # its types say: names only
    return [row["name"] for row in rows if row["namespace"] == NAMESPACE and row["name"].startswith(ours)]


def start_shell(spec: ShellSpec, resources: dict[str, float]) -> ActorHandle[Any]:
    """Start a shell under its name; returns at once, before the process exists.

    Args:
        spec: Who it is.
        resources: Ray resources beyond the little that a shell takes: `num_cpus`, `num_gpus`, custom names.
    """
    custom = {name: amount for name, amount in resources.items() if name not in ("num_cpus", "num_gpus")}
    options: dict[str, Any] = {
        "name": spec.actor,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": resources.get("num_cpus", CPUS),
        "num_gpus": resources.get("num_gpus", 0),
        "resources": custom,
        # A shell that Ray restarted would have no role: the supervisor replaces it by the spare instead.
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    remote: Any = ray.remote  # its types don't know `concurrency_groups`
    actor = remote(concurrency_groups={"control": 4, "watch": 2})(Shell)
    handle: ActorHandle[Any] = actor.options(**options).remote(encode(spec))
    return handle
