"""Refuses, by name, what the API has but this version can't run yet."""

from __future__ import annotations

from headrace.workflows.composing import inside
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Where


def check_later(findings: Findings) -> None:
    """One finding for each use of something that comes in a later release."""
    graph = findings.graph

    def later(where: Where, name: str, what: str) -> None:
        findings.add(
            where,
            name,
            "not-yet",
            f"{what} can be written and drawn, but this version can't run it yet",
            "Take it out for now; a later release runs it",
        )

    for node in graph.nodes:
        if node.inner:
            for joined in inside(node).nodes:
                if joined.join is not None:
                    later(joined.where, node.name, "workflow.join in a workflow that is a node")
            for route in inside(node).routes_of(inside(node).letters):
                later(route.where, node.name, "workflow.dead_letters in a workflow that is a node")
