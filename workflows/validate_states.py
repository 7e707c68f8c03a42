"""Checks what a workflow says of earlier versions: former names of nodes and waits, and migrations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.workflows.findings import Findings
from headrace.workflows.graph import NodeItem, WaitItem, Where


def check_states(findings: Findings) -> None:
    """`renamed_from=` of all nodes and waits, `migrations=` of all nodes and of the workflow."""
    graph = findings.graph
    _check_renames(findings, "node", graph.nodes)
    _check_renames(findings, "wait", graph.waits)
    _check_migrations(findings, graph.where, graph.name, graph.migrations, has_state=graph.state is not None)
    for node in graph.nodes:
        if node.signature is not None:
            has_state = node.signature.state is not None
            _check_migrations(findings, node.where, node.name, node.options.migrations, has_state=has_state)


def _check_renames(findings: Findings, kind: str, items: Sequence[NodeItem | WaitItem]) -> None:
    named = {item.name: item for item in items}
    taken: dict[str, NodeItem | WaitItem] = {}
    for item in items:

        def wrong(message: str, cure: str, *, item: NodeItem | WaitItem = item) -> None:
            findings.add(item.where, item.name, "renamed-from", message, cure)

        options = item.options if isinstance(item, NodeItem) else item
        given: Any = options.renamed_from
        if given is not None and not isinstance(given, (str, list, tuple)):
            wrong(f"renamed_from={given!r} is no name", "Write renamed_from='old', or ('old', 'older')")
            continue
        for name in options.former_names:
            if not isinstance(name, str) or not name:
                wrong(f"renamed_from names {name!r}, which is no name", f"Write the name that the {kind} had")
                continue
            before = taken.setdefault(name, item)
            if name == item.name:
                wrong("renamed_from is the name that it has", "Leave it out, or write the name that it had before")
            elif name in named:
                message = f"renamed_from is {name!r}, but that {kind} is still there, at {named[name].where}"
                wrong(message, f"Leave renamed_from out, or give the other {kind} another name and take {name} out")
            elif before is not item:
                message = f"renamed_from is {name!r}, and so is that of {before.name}, at {before.where}"
                have = "its state; the other one begins anew" if kind == "node" else "the runs that stand there"
                wrong(message, f"Let one of them have {have}")


def _check_migrations(findings: Findings, where: Where, name: str, migrations: Any, *, has_state: bool) -> None:
    def wrong(message: str, cure: str) -> None:
        findings.add(where, name, "migrations", message, cure)

    example = "migrations={1: from_1_to_2}"
    if migrations is None:
        return
    if not isinstance(migrations, Mapping) or not migrations:
        wrong(f"migrations={migrations!r} are none", f"Write {example}, or leave it out")
        return
    if not has_state:
        wrong("has migrations, but no state", "Leave migrations= out, or say which state it has")
    versions = list(migrations)
    if any(isinstance(version, bool) or not isinstance(version, int) or version < 1 for version in versions):
        wrong(f"migrations are from {versions}, which are not all versions", "Versions are whole numbers from 1")
        return
    gaps = sorted(set(range(min(versions), max(versions))) - set(versions))
    if gaps:
        missing = ", ".join(f"{gap}: ..." for gap in gaps)
        message = f"migrations lead from version {gaps[0]} nowhere, though from {max(versions)} on"
        wrong(message, f"Add what is missing: {{{missing}}}")
    for version, migration in migrations.items():
        problem = _problem(migration)
        if problem:
            wrong(f"its migration from version {version} {problem}", "Give a function of one argument, the old state")


def _problem(migration: Any) -> str | None:
    if not callable(migration):
        return f"is {migration!r}, which can't be called"
    if inspect.iscoroutinefunction(migration):
        return "is async: there is nothing to wait for"
    try:
        inspect.signature(migration).bind({})
    except TypeError:
        return "does not take one argument"
    except ValueError:  # a builtin that does not tell
        return None
    return None
