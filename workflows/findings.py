"""Collects what is wrong with a workflow, to report it all at once in the order of its lines."""

from __future__ import annotations

from headrace.workflows.errors import Problem
from headrace.workflows.graph import Graph, Where
from headrace.workflows.returns import Fault


class Findings:
    """Mistakes found so far in one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: list[tuple[Where, Problem]] = []

    def add(self, where: Where, subject: str, code: str, message: str, cure: str) -> None:
        """Note a mistake; the same one is noted once."""
        self.take(where, Problem(str(where), subject, code, message, cure))

    def take(self, where: Where, problem: Problem) -> None:
        """The same, of a mistake that has been put into words."""
        if (where, problem) not in self.found:
            self.found.append((where, problem))

    def fault(self, where: Where, subject: str, fault: Fault) -> None:
        """Note a mistake that was found while a node was read."""
        self.add(where, subject, fault.code, fault.message, fault.cure)

    def problems(self) -> list[Problem]:
        """All of them, by file and line."""
        return [problem for _, problem in sorted(self.found, key=lambda found: found[0])]
