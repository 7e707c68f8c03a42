"""The contract between a shell and what runs in it: the engine of a worker or of a node."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, TypeAlias

from headrace.actors.spec import Control, Reply, Report, RoleSpec, WorkerRole
from headrace.workflows.plan import Plan

OnReport: TypeAlias = Callable[[Report], None]
"""Tells the supervisor; callable from any thread, never blocks, never raises."""


class Engine(Protocol):
    """What a shell runs once it has a role. Made as `Engine(spec, plan, report)`."""

    def start(self) -> None:
        """Get ready to serve. The role is served when it returns.

        Raises:
            Exception: Whatever it raises is shown in the status, and tried again, with a growing delay, in
                another process. What may pass by itself (a server that is away) must not raise but be retried.
        """

    def call(self, batch: bytes) -> bytes:
        """Node work: one call at a time, in order. Workers are never called."""
        ...

    def control(self, message: Control) -> Reply:
        """Answer a message of the supervisor; from several threads, and also while `call` runs."""
        ...

    def stop(self) -> None:
        """The process is about to end; idempotent."""


def engine_class(name: str) -> Callable[[RoleSpec, Plan, OnReport], Engine]:
    """The class that `module:attr` names."""
    module, _, attr = name.partition(":")
    found: Callable[[RoleSpec, Plan, OnReport], Engine] = getattr(importlib.import_module(module), attr)
    return found


def make_engine(spec: RoleSpec, plan: Plan, report: OnReport) -> Engine:
    """The engine that the deployment names for this role."""
    deployment = spec.deployment
    name = deployment.worker_engine if isinstance(spec.role, WorkerRole) else deployment.node_engine
    return engine_class(name)(spec, plan, report)
