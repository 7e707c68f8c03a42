"""Pictures of a workflow: Mermaid, dot, an outline for programs. Drawn from the graph as written, mistakes and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from headrace.workflows.actions import Complete, Terminate
from headrace.workflows.graph import (
    Destination,
    Graph,
    LettersItem,
    NodeItem,
    SinkItem,
    SourceItem,
    Start,
    Unknown,
    WaitItem,
)
from headrace.workflows.routing import written


@dataclass(frozen=True, slots=True)
class _Arrow:
    start: str
    label: str
    target: str


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of an outline."""

    id: str
    kind: str
    """`source`, `node`, `wait`, `timeout`, `letters`, `sink`, `end`."""
    name: str
    where: str = ""
    """`file.py:38`."""


class Way(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way from part to part."""

    start: str
    target: str
    on: str = ""
    """What has to be returned to go this way; empty: data."""


class Outline(msgspec.Struct, frozen=True):
    """A graph as plain data."""

    workflow: str
    parts: list[Part]
    ways: list[Way]
    fused: list[list[str]]
    """Ids of nodes that share a process."""


class _Picture:
    """Ids of what is drawn; names are labels only, as they may hold any character."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ids: dict[object, str] = {}
        kinds: dict[str, Sequence[Start | SinkItem]] = {
            "source": graph.sources, "node": graph.nodes, "wait": graph.waits,
            "timeout": graph.timeouts, "sink": graph.sinks,
        }  # fmt: skip
        for kind, items in kinds.items():
            for index, item in enumerate(items):
                self.ids[item] = f"{kind}{index}"
        self.begins: list[Start] = [*graph.sources, *graph.timeouts]
        if graph.routes_of(graph.letters):
            self.ids[graph.letters] = "letters0"
            self.begins.append(graph.letters)
        self.ends: dict[str, str] = {}
        self.arrows = list(self._arrows())
        members = [[node for node in fused.nodes if isinstance(node, NodeItem)] for fused in graph.fused]
        self.groups = [nodes for nodes in members if nodes]
        grouped = {node for nodes in self.groups for node in nodes}
        self.single = [node for node in graph.nodes if node not in grouped]

    def _arrows(self) -> Iterator[_Arrow]:
        for route in self.graph.routes:
            start = self.ids[route.start]
            labels = [_label(match) for match in route.match or ()]
            for target in route.targets:
                yield _Arrow(start, ", ".join(labels), self._target(target))

    def _target(self, target: Destination) -> str:
        if target is Complete or target is Terminate:
            name = "complete" if target is Complete else "terminate"
        elif isinstance(target, Unknown):
            name = f"unknown{len(self.ends)}"
            self.ends[name] = f"? {target.text}"
            return name
        else:
            return self.ids[(target.feeds or target) if isinstance(target, NodeItem) else target]
        self.ends[name] = f"{name}d"
        return name


def _label(match: object) -> str:
    """`HIGH` for `Heat.HIGH`: the enum is the node's own, so its name says nothing new."""
    return written(match).rpartition(".")[2]


def _title(item: Start | SinkItem) -> str:
    if isinstance(item, SourceItem):
        return f"{getattr(item.source, 'kind', 'source')}: {item.name}"
    if isinstance(item, SinkItem):
        return f"{getattr(item.sink, 'kind', 'sink')}: {item.name}"
    if isinstance(item, WaitItem):
        return f"{item.name}, {item.timeout}" if item.timeout else item.name
    if isinstance(item, NodeItem) and item.join is not None:
        return f"{item.name} ({item.join.when})"
    if isinstance(item, NodeItem):
        return f"{item.name} ({item.options.replicas} replicas)" if item.options.replicas != 1 else item.name
    if isinstance(item, LettersItem):
        return "dead letters"
    return "idle" if item.idle else "timeout"


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flow chart (https://mermaid.js.org/syntax/flowchart.html)."""
    picture = _Picture(graph)
    ids = picture.ids
    lines = ["flowchart LR"]
    lines += [f"  {ids[item]}([{_mermaid(_title(item))}])" for item in picture.begins]
    for number, nodes in enumerate(picture.groups):
        lines.append(f"  subgraph fused{number} [fused]")
        lines += [f"    {ids[node]}[{_mermaid(_title(node))}]" for node in nodes]
        lines.append("  end")
    lines += [f"  {ids[node]}[{_mermaid(_title(node))}]" for node in picture.single]
    lines += [f"  {ids[wait]}{{{{{_mermaid(_title(wait))}}}}}" for wait in graph.waits]
    lines += [f"  {ids[sink]}[/{_mermaid(_title(sink))}/]" for sink in graph.sinks]
    lines += [f"  {name}(({_mermaid(title)}))" for name, title in picture.ends.items()]
    for arrow in picture.arrows:
        label = f"|{_mermaid(arrow.label)}|" if arrow.label else ""
        lines.append(f"  {arrow.start} -->{label} {arrow.target}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'


def outline(graph: Graph) -> Outline:
    """The graph as plain data."""
    picture = _Picture(graph)
    ids = picture.ids
    inner: list[Start] = [*graph.nodes, *graph.waits]
    items: list[Start | SinkItem] = [*graph.sources, *inner, *picture.begins[len(graph.sources) :], *graph.sinks]
    parts = [Part(ids[item], ids[item].rstrip("0123456789"), item.name, str(item.where)) for item in items]
    parts += [Part(name, "end", title) for name, title in picture.ends.items()]
    return Outline(
        workflow=str(graph.name),
        parts=parts,
        ways=[Way(arrow.start, arrow.target, arrow.label) for arrow in picture.arrows],
        fused=[[ids[node] for node in nodes] for nodes in picture.groups],
    )


def graphviz(graph: Graph) -> str:
    """The graph in Graphviz' dot language (https://graphviz.org/doc/info/lang.html)."""
    picture = _Picture(graph)
    ids = picture.ids
    lines = [f"digraph {_dot(str(graph.name))} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [f"  {ids[item]} [label={_dot(_title(item))}, shape=oval];" for item in picture.begins]
    for number, nodes in enumerate(picture.groups):
        lines += [f"  subgraph cluster_fused{number} {{", '    label="fused";']
        lines += [f"    {ids[node]} [label={_dot(_title(node))}];" for node in nodes]
        lines.append("  }")
    lines += [f"  {ids[node]} [label={_dot(_title(node))}];" for node in picture.single]
    lines += [f"  {ids[wait]} [label={_dot(_title(wait))}, shape=hexagon];" for wait in graph.waits]
    lines += [f"  {ids[sink]} [label={_dot(_title(sink))}, shape=parallelogram];" for sink in graph.sinks]
    lines += [f"  {name} [label={_dot(title)}, shape=doublecircle];" for name, title in picture.ends.items()]
    for arrow in picture.arrows:
        label = f" [label={_dot(arrow.label)}]" if arrow.label else ""
        lines.append(f"  {arrow.start} -> {arrow.target}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def svg(chart: str) -> str | None:
    """A Mermaid chart as a picture; None where the library that draws it (`headrace[notebook]`) is not installed."""
    try:
        import mermaidx  # noqa: PLC0415  an extra
    except ImportError:
        return None
    picture: str = mermaidx.render(chart).svg()
    return picture
