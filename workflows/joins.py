"""Joins as they are written: which branches meet, and which types the place where they do takes and gives."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Union

from headrace.workflows.codec import json_codec
from headrace.workflows.errors import CodecError
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Branching, Graph, Join, NodeItem, NodeOptions, Route, Start, Where
from headrace.workflows.joining import JoinArrived, Joined, JoinProcess, JoinState, Port
from headrace.workflows.plan import PART
from headrace.workflows.returns import Returns
from headrace.workflows.routing import flowing, routing_of, written
from headrace.workflows.signature import Signature

Met = tuple[Start, tuple[object, ...] | None]
"""Where a branch begins, and what of it, as `.on(...)` has it; None: data without a route of its own."""


def add_join(graph: Graph, met: list[Met], when: Any, limit: Any, name: str | None, where: Where) -> NodeItem:
    """Put a join into the graph; nothing is judged here.

    Args:
        graph: The workflow's.
        met: Its branches.
        when: As for `Workflow.join`.
        limit: The same.
        name: The same.
        where: The user's line.
    """
    names = [_name(start, matches) for start, matches in met]
    chosen = name or "-".join(["join", *names])
    item = NodeItem(chosen, where, None, NodeOptions(), None)
    branches: list[Branching] = []
    for branch, (start, matches) in zip(names, met, strict=True):
        port = NodeItem(f"{chosen}{PART}{branch}", where, None, NodeOptions(), None, feeds=item)
        port.signature = plain_signature(Port(branch), None, [JoinArrived])
        branches.append(Branching(branch, port, start, matches))
        graph.routes.append(Route(start, matches, (port,), where, joins=True))
    item.join = Join(tuple(branches), when, limit)
    graph.nodes.append(item)
    return item


def _name(start: Start, matches: tuple[object, ...] | None) -> str:
    """Of a branch: that of its node, with what of it where that is not all."""
    return ".".join([start.name, *(written(match).rpartition(".")[2] for match in matches or ())])


def plain_signature(process: Any, state: Any, data: list[Any]) -> Signature:
    """Of a node that is no user's."""
    return Signature(
        process=process, takes=Any, state=state, run_state=None, returns=Returns(data=data), is_async=False,
        is_batch=False, sets_timers=False,
    )  # fmt: skip


def need_of(join: Join) -> int | None:
    """How many branches are enough; None: all are heard of first."""
    return None if join.when == "all" else 1 if join.when == "any" else int(join.when)


def sign_joins(graph: Graph) -> None:
    """Say what each join gives: that hangs on the routes of its branches, so it is known once all are written."""
    joined: Any = Joined
    for item in graph.nodes:
        if item.join is not None:
            types = [_type_of(graph, branch) for branch in item.join.branches]
            members = tuple(Union[data_type, None] for data_type in types)  # noqa: UP007  from a list of types
            results: Any = GenericAlias(tuple, members)
            given = joined[results]
            decoders = [_decoder(data_type) for data_type in types]
            names = tuple(branch.name for branch in item.join.branches)
            need = need_of(item.join) if isinstance(item.join.when, int) or item.join.when == "any" else None
            process = JoinProcess(item.name, names, decoders, need, item.join.limit)
            item.signature = plain_signature(process, JoinState, [given])


def _type_of(graph: Graph, branch: Branching) -> Any:
    start, matches = branch.start, branch.match
    route = Route(start, matches, (), graph.where)
    routing = routing_of(start, Findings(graph)) if isinstance(start, NodeItem) else None
    found: list[Any] = []
    for match in matches or (None,):
        found += [data_type for data_type in flowing(route, match, routing) if data_type not in found]
    return Union[tuple(found)] if found else Any  # noqa: UP007  from a list of types


def _decoder(data_type: Any) -> Any:
    try:
        return json_codec(data_type).decode
    except CodecError:  # a finding by itself: the join's data can't travel
        return None
