"""Puts a test's own nodes and sinks into the places of a plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from headrace.testing.parts import part_of
from headrace.testing.problems import HarnessError
from headrace.workflows.handles import NodeHandle, SinkHandle
from headrace.workflows.nodes import BatchNode, Node
from headrace.workflows.plan import NodePlan, Plan

Replacements: TypeAlias = Mapping[NodeHandle[Any, Any] | SinkHandle[Any], Any]


def replaced(plan: Plan, replacements: Replacements) -> tuple[Plan, dict[int, Callable[[Any], Any]]]:
    """The plan with other nodes, and functions that take the place of sinks, by the sink's index."""
    nodes = list(plan.nodes)
    sinks: dict[int, Callable[[Any], Any]] = {}
    for part, replacement in replacements.items():
        if isinstance(part, NodeHandle):
            index = part_of(plan.nodes, part, plan.name).index
            nodes[index] = _node(nodes[index], replacement)
        elif isinstance(part, SinkHandle):
            sinks[part_of(plan.sinks, part, plan.name).index] = replacement
        else:
            raise HarnessError(f"{part!r} can't be replaced: name nodes and sinks of workflow {plan.name}")
    return replace(plan, nodes=tuple(nodes)), sinks


def _on_timer(instance: Node[Any, Any, Any] | BatchNode[Any, Any, Any] | None) -> Callable[..., Any] | None:
    if not isinstance(instance, Node) or type(instance).on_timer is Node.on_timer:
        return None
    return instance.on_timer


def _node(node: NodePlan, replacement: Any) -> NodePlan:
    instance = replacement if isinstance(replacement, Node | BatchNode) else None
    process = replacement if instance is None else instance.process
    if not callable(process):
        raise HarnessError(f"{node.name} can't be replaced by {replacement!r}: give a function, or a Node")
    return replace(
        node, instance=instance, process=process, is_async=inspect.iscoroutinefunction(process),
        is_batch=isinstance(instance, BatchNode), on_timer=_on_timer(instance),
    )  # fmt: skip
