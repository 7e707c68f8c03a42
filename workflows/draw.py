"""Pictures of a workflow: Mermaid, dot, an outline for programs. Drawn from the graph as written, mistakes and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from headrace.workflows.actions import Complete, Terminate
from headrace.workflows.composing import is_door, opened, scope_of
from headrace.workflows.graph import (
    Destination,
    Graph,
    LettersItem,
    NodeItem,
    SinkItem,
    SourceItem,
    Start,
    TimeoutItem,
    Unknown,
    WaitItem,
)
from headrace.workflows.routing import written


@dataclass(frozen=True, slots=True)
class _Arrow:
    start: str
    label: str
    target: str
    box: str = ""
    """The box that it comes out of, of an outcome of a workflow that is a node."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of an outline."""

    id: str
    kind: str
    """`source`, `node`, `wait`, `timeout`, `letters`, `sink`, `end`."""
    name: str
    where: str = ""
    """`file.py:38`."""
    inside: str = ""
    """Id of the node that is a workflow, in which this is."""


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

    def __init__(self, written: Graph) -> None:
        graph = self.graph = opened(written, drawn=True)
        self.ids: dict[object, str] = {}
        kinds: dict[str, Sequence[Start | SinkItem]] = {
            "source": graph.sources, "node": graph.nodes, "wait": graph.waits,
            "timeout": graph.timeouts, "sink": graph.sinks,
        }  # fmt: skip
        for kind, items in kinds.items():
            for index, item in enumerate(items):
                self.ids[item] = f"{kind}{index}"
        self.begins: list[Start] = [*graph.sources, *(item for item in graph.timeouts if item.scope is None)]
        if graph.routes_of(graph.letters):
            self.ids[graph.letters] = "letters0"
            self.begins.append(graph.letters)
        self.ends: dict[str, str] = {}
        self.inside: dict[str, list[str]] = {}
        """By id of a node that is a workflow: the ends that are drawn in it."""
        self.arrows = list(self._arrows())
        """All ways."""
        members = [[node for node in fused.nodes if isinstance(node, NodeItem)] for fused in graph.fused]
        self.groups = [nodes for nodes in members if nodes]
        grouped = {node for nodes in self.groups for node in nodes}
        self.single = [node for node in graph.nodes if node not in grouped and node.scope is None]
        self.waits = [wait for wait in graph.waits if wait.scope is None]

    def times_within(self, node: NodeItem) -> tuple[list[WaitItem], list[TimeoutItem]]:
        """Waits and time-outs in a workflow that is a node."""
        graph = self.graph
        return [item for item in graph.waits if item.scope is node], [
            item for item in graph.timeouts if item.scope is node
        ]

    def within(self, node: NodeItem) -> list[NodeItem]:
        """The nodes in a workflow that is a node, those deeper inside not among them."""
        return [other for other in self.graph.nodes if other.scope is node]

    def outer_ends(self) -> dict[str, str]:
        """Ends that are in no box."""
        boxed = {end for ends in self.inside.values() for end in ends}
        return {name: title for name, title in self.ends.items() if name not in boxed}

    def _arrows(self) -> Iterator[_Arrow]:
        for route in self.graph.routes:
            start = self.ids[route.start]
            labels = [] if is_door(route) else [_label(match) for match in route.match or ()]
            out = isinstance(route.start, NodeItem) and route.start.inner and not is_door(route)
            box = f"box_{start}" if out and self.within(route.start) else ""  # type: ignore[arg-type]
            for target in route.targets:
                yield _Arrow(start, ", ".join(labels), self._target(target, scope_of(route)), box)

    def _target(self, target: Destination, scope: NodeItem | None) -> str:
        if isinstance(target, Unknown):
            name = f"unknown{len(self.ends)}"
            self.ends[name] = f"? {target.text}"
            return name
        if not (target is Complete or target is Terminate):
            return self.ids[(target.feeds or target) if isinstance(target, NodeItem) else target]
        title = name = "complete" if target is Complete else "terminate"
        if scope is not None:
            name = f"{title}_{self.ids[scope]}"
            self.inside.setdefault(self.ids[scope], []).append(name)
        self.ends[name] = f"{title}d"
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
    if isinstance(item, NodeItem) and item.maps is not None:
        return f"{item.name} (each item by {item.maps.name})"
    if isinstance(item, NodeItem):
        return f"{item.name} ({item.options.replicas} replicas)" if item.options.replicas != 1 else item.name
    if isinstance(item, LettersItem):
        return "dead letters"
    return "idle" if item.idle else "timeout"


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flow chart (https://mermaid.js.org/syntax/flowchart.html)."""
    picture = _Picture(graph)
    graph, ids = picture.graph, picture.ids
    lines = ["flowchart LR"]
    lines += [f"  {ids[item]}([{_mermaid(_title(item))}])" for item in picture.begins]
    for number, nodes in enumerate(picture.groups):
        lines.append(f"  subgraph fused{number} [fused]")
        lines += [f"  {line}" for node in nodes for line in _mermaid_node(picture, node)]
        lines.append("  end")
    lines += [line for node in picture.single for line in _mermaid_node(picture, node)]
    lines += [f"  {ids[wait]}{{{{{_mermaid(_title(wait))}}}}}" for wait in picture.waits]
    lines += [f"  {ids[sink]}[/{_mermaid(_title(sink))}/]" for sink in graph.sinks]
    lines += [f"  {name}(({_mermaid(title)}))" for name, title in picture.outer_ends().items()]
    for arrow in picture.arrows:
        label = f"|{_mermaid(arrow.label)}|" if arrow.label else ""
        lines.append(f"  {arrow.box or arrow.start} -->{label} {arrow.target}")
    return "\n".join(lines) + "\n"


def _mermaid_node(picture: _Picture, node: NodeItem) -> list[str]:
    """A node; one that is a workflow as a box with what is inside."""
    own, within = picture.ids[node], picture.within(node)
    line = f"  {own}[{_mermaid(_title(node))}]"
    if not within:
        return [line]
    lines = [f"  subgraph box_{own} [{_mermaid(node.name)}]", f"  {line}"]
    lines += [f"  {inner}" for other in within for inner in _mermaid_node(picture, other)]
    waits, timeouts = picture.times_within(node)
    lines += [f"    {picture.ids[wait]}{{{{{_mermaid(_title(wait))}}}}}" for wait in waits]
    lines += [f"    {picture.ids[item]}([{_mermaid(_title(item))}])" for item in timeouts]
    lines += [f"    {name}(({_mermaid(picture.ends[name])}))" for name in dict.fromkeys(picture.inside.get(own, ()))]
    return [*lines, "  end"]


def _mermaid(text: str) -> str:
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'


def outline(graph: Graph) -> Outline:
    """The graph as plain data."""
    picture = _Picture(graph)
    graph, ids = picture.graph, picture.ids
    inner: list[Start] = [*graph.nodes, *graph.waits, *graph.timeouts]
    letters: list[Start] = [graph.letters] if graph.letters in ids else []
    items: list[Start | SinkItem] = [*graph.sources, *inner, *letters, *graph.sinks]
    parts = [
        Part(ids[item], ids[item].rstrip("0123456789"), item.name, str(item.where), _inside(ids, item))
        for item in items
    ]
    parts += [Part(name, "end", title, "", name.partition("_")[2]) for name, title in picture.ends.items()]
    return Outline(
        workflow=str(graph.name),
        parts=parts,
        ways=[Way(arrow.start, arrow.target, arrow.label) for arrow in picture.arrows],
        fused=[[ids[node] for node in nodes] for nodes in picture.groups],
    )


def _inside(ids: dict[object, str], item: object) -> str:
    scope = item.scope if isinstance(item, NodeItem | WaitItem | TimeoutItem) else None
    return "" if scope is None else ids[scope]


def graphviz(graph: Graph) -> str:
    """The graph in Graphviz' dot language (https://graphviz.org/doc/info/lang.html)."""
    picture = _Picture(graph)
    graph, ids = picture.graph, picture.ids
    lines = [f"digraph {_dot(str(graph.name))} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [f"  {ids[item]} [label={_dot(_title(item))}, shape=oval];" for item in picture.begins]
    for number, nodes in enumerate(picture.groups):
        lines += [f"  subgraph cluster_fused{number} {{", '    label="fused";']
        lines += [f"  {line}" for node in nodes for line in _dot_node(picture, node)]
        lines.append("  }")
    lines += [line for node in picture.single for line in _dot_node(picture, node)]
    lines += [f"  {ids[wait]} [label={_dot(_title(wait))}, shape=hexagon];" for wait in picture.waits]
    lines += [f"  {ids[sink]} [label={_dot(_title(sink))}, shape=parallelogram];" for sink in graph.sinks]
    lines += [f"  {name} [label={_dot(title)}, shape=doublecircle];" for name, title in picture.outer_ends().items()]
    for arrow in picture.arrows:
        marks = [f"label={_dot(arrow.label)}"] * bool(arrow.label) + [f"ltail=cluster_{arrow.box}"] * bool(arrow.box)
        lines.append(f"  {arrow.start} -> {arrow.target}" + (f" [{', '.join(marks)}];" if marks else ";"))
    if any(arrow.box for arrow in picture.arrows):
        lines.insert(1, "  compound=true;")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_node(picture: _Picture, node: NodeItem) -> list[str]:
    own, within = picture.ids[node], picture.within(node)
    line = f"  {own} [label={_dot(_title(node))}];"
    if not within:
        return [line]
    lines = [f"  subgraph cluster_box_{own} {{", f"    label={_dot(node.name)};", f"  {line}"]
    lines += [f"  {inner}" for other in within for inner in _dot_node(picture, other)]
    waits, timeouts = picture.times_within(node)
    lines += [f"    {picture.ids[wait]} [label={_dot(_title(wait))}, shape=hexagon];" for wait in waits]
    lines += [f"    {picture.ids[item]} [label={_dot(_title(item))}, shape=oval];" for item in timeouts]
    ends = dict.fromkeys(picture.inside.get(own, ()))
    lines += [f"    {name} [label={_dot(picture.ends[name])}, shape=doublecircle];" for name in ends]
    return [*lines, "  }"]


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
