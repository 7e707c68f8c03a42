"""What people, and machines that end, do to the nodes of a workflow while it runs."""

from __future__ import annotations

from typing import Any

from headrace.testing.engine import Engine
from headrace.testing.parts import part_of
from headrace.workflows.handles import NodeHandle


class Operations:
    """Of a `Harness`: nodes that get no events for a while."""

    _engine: Engine

    def _settle(self) -> None:
        raise NotImplementedError

    def pause(self, node: NodeHandle[Any, Any] | str) -> None:
        """From now on the node gets no events: they stand still before it, as by `headrace pause --node`."""
        self._engine.paused.add(self._name(node))
        self._settle()

    def resume(self, node: NodeHandle[Any, Any] | str) -> None:
        """A paused node goes on, with what stands before it first."""
        self._engine.paused.discard(self._name(node))
        self._settle()

    def take_away(self, node: NodeHandle[Any, Any] | str) -> None:
        """The node's processes have been away for longer than an epoch waits; nodes in one process are so together."""
        self._engine.away |= self._engine.replicas(self._name(node))
        self._settle()

    def bring_back(self, node: NodeHandle[Any, Any] | str) -> None:
        """They answer again."""
        self._engine.away -= self._engine.replicas(self._name(node))
        self._settle()

    def _name(self, node: NodeHandle[Any, Any] | str) -> str:
        plan = self._engine.plan
        return part_of(plan.nodes, node, plan.name).name
