"""Checks the parts of a workflow one by one: names, numbers, sources, sinks, nodes and their states."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from headrace.workflows.callback_address import target_of
from headrace.workflows.codec import json_codec, state_codec, type_name, without_tombstone
from headrace.workflows.errors import CodecError
from headrace.workflows.fields import missing_field
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Fuse, Fused, NodeItem, SinkItem, SourceItem, Unknown, WaitItem, Where
from headrace.workflows.nodes import BatchNode
from headrace.workflows.ports import Sink, Source
from headrace.workflows.retention import retention_faults
from headrace.workflows.retry import WHEN_FULL, retry_faults
from headrace.workflows.signature import UNSAID

_WORKFLOW_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_PART_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MOST_PARTITIONS = 65_536
_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(days=1)
"""Of a node's `timeout=`: what waits for longer is no call, and would hold up its partition."""


_LONGEST_RETENTION = timedelta(days=3650)
_SHORTEST_DEADLINE = timedelta(seconds=1)
_LONGEST_DEADLINE = timedelta(hours=1)
_LATE = ("new-run", "dead-letter", "drop")


def check_parts(findings: Findings, fuse: Fuse, now: datetime) -> None:
    """All parts of the graph, each for itself."""
    graph = findings.graph
    _check_workflow(findings)
    for kind, items in (
        ("source", graph.sources),
        ("node", graph.nodes),
        ("sink", graph.sinks),
        ("wait", graph.waits),
    ):
        _check_names(findings, kind, items)
    for source in graph.sources:
        _check_source(findings, source, now)
    _check_logs(findings)
    for sink in graph.sinks:
        _check_sink(findings, sink)
    for node in graph.nodes:
        _check_node(findings, node, fuse)
    _check_fused(findings)


def _check_workflow(findings: Findings) -> None:
    graph = findings.graph
    add = findings.add
    if not (isinstance(graph.name, str) and _WORKFLOW_NAME.fullmatch(graph.name)):
        message = f"the workflow's name {graph.name!r} can't be part of keys and addresses"
        add(graph.where, str(graph.name), "name", message, "Use a-z, 0-9, '.', '_', '-'; begin with a letter or digit")
    if graph.partitions is not None and not _whole(graph.partitions, 1, _MOST_PARTITIONS):
        message = f"partitions={graph.partitions!r} is no number of partitions"
        add(graph.where, graph.name, "number", message, f"Write a whole number from 1 to {_MOST_PARTITIONS}")
    elif not graph.keyed and graph.partitions not in (None, 1):
        message = f"partitions={graph.partitions} in an unkeyed workflow, which has a single run"
        add(graph.where, graph.name, "number", message, "Leave partitions= out")
    lasts = (
        ("retention", graph.retention, "remember ended runs"),
        ("id_retention", graph.id_retention, "know ids"),
        ("reply_retention", graph.reply_retention, "keep answers"),
    )
    for name, given, what in lasts:
        if not (isinstance(given, timedelta) and timedelta(milliseconds=1) <= given <= _LONGEST_RETENTION):
            message = f"{name}={given!r} is no time to {what} for"
            cure = f"Write a timedelta of a millisecond or more and at most {_LONGEST_RETENTION.days} days"
            add(graph.where, graph.name, "retention", message, cure)
    if graph.callback is not None and (problem := _address_problem(graph.callback)) is not None:
        add(graph.where, graph.name, "callback", f"callback=: {problem}", "Write callback='https://shop.example/hooks'")
    deadline: object = graph.epoch_deadline
    if not (isinstance(deadline, timedelta) and _SHORTEST_DEADLINE <= deadline <= _LONGEST_DEADLINE):
        message = f"epoch_deadline={deadline!r} is no time to wait for a node"
        add(graph.where, graph.name, "deadline", message, "Write a timedelta of 1 second to 1 hour")
    fuse: object = graph.fuse
    if fuse not in (None, "all"):
        add(graph.where, graph.name, "fuse", f"fuse={fuse!r} means nothing", "Write fuse='all', or leave it out")
    if graph.parked_full not in WHEN_FULL:
        cure = f"Write one of {', '.join(map(repr, WHEN_FULL))}"
        add(graph.where, graph.name, "parked-full", f"parked_full={graph.parked_full!r} is no way to go on", cure)
    elif graph.parked_full != "pause" and any(n.join is not None for one in graph.with_inner() for n in one.nodes):
        message = (
            "parked_full='dead-letter' in a workflow with a join, which would wait for branches that have made room"
        )
        add(graph.where, graph.name, "parked-full", message, "Leave it out: sources pause then")
    for fault in retention_faults(graph.letters_kept):
        add(graph.where, graph.name, "number", f"dead_letters=: {fault}", "See headrace.Retention")
    if graph.state is not None:
        _check_state(findings, graph.where, graph.name, "the runs' state", graph.state)


def _address_problem(given: object) -> str | None:
    if not isinstance(given, str):
        return f"{given!r} is no text"
    try:
        target_of(given)
    except ValueError as error:
        return str(error)
    return None


def _whole(number: Any, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


def _check_names(findings: Findings, kind: str, items: Iterable[SourceItem | NodeItem | SinkItem | WaitItem]) -> None:
    seen: dict[str, Where] = {}
    for item in items:
        if not _PART_NAME.fullmatch(item.name):
            message = f"{item.name!r} can't be the name of a {kind}"
            findings.add(
                item.where, item.name, "name", message, "Give one: name='...', of letters, digits, '.', '_', '-'"
            )
        elif item.name in seen:
            message = f"a {kind} of this name was added at {seen[item.name]}"
            findings.add(item.where, item.name, "duplicate-name", message, "Give one of them another: name='...'")
        seen.setdefault(item.name, item.where)


def _check_source(findings: Findings, item: SourceItem, now: datetime) -> None:
    source: Any = item.source
    where, name = item.where, item.name
    if not isinstance(source, Source):
        message = f"{_kind(source)} is no source"
        findings.add(
            where, name, "source", message, "Give an instance: workflow.source(KafkaSource('readings', Reading))"
        )
        return
    _check_late(findings, item)
    _check_data(findings, where, name, source.type)
    for fault in source.check(now, keyed=findings.graph.keyed):
        findings.fault(where, name, fault)
    for option, value in (("key", source.key), ("time", source.time)):
        _check_field(findings, where, name, source.type, (option, value))
    if source.key is None and findings.graph.keyed and not source.brings_keys:
        message = "has no key, and its workflow is keyed"
        findings.add(where, name, "key", message, f"{source.key_cure}, or make it Workflow(..., keyed=False)")


def _check_late(findings: Findings, item: SourceItem) -> None:
    late: object = item.late
    if late not in _LATE:
        findings.add(item.where, item.name, "late", f"late={late!r} means nothing", f"Write one of {', '.join(_LATE)}")
    elif late != _LATE[0] and not findings.graph.keyed:
        message = f"has late={late!r}, and its workflow is not keyed: once its run has ended, nothing is taken any more"
        findings.add(item.where, item.name, "late", message, "Leave late= out")
    elif late != _LATE[0] and getattr(item.source, "kind", "") == "messages":
        message = f"has late={late!r}, but a message whose run has ended is a dead letter (no-run) whatever is said"
        findings.add(item.where, item.name, "late", message, "Leave late= out")


def _check_field(findings: Findings, where: Where, name: str, data_type: Any, option: tuple[str, Any]) -> None:
    """What `key=` and `time=` of a port name is a field of its data, or a function."""
    word, value = option
    if isinstance(value, str):
        missing = missing_field(without_tombstone(data_type), value)
        if missing is not None:
            owner, field, fields = missing
            message = f"{type_name(owner)} has no field {field!r} to take the {word} from"
            choice = ", ".join(repr(found) for found in fields)
            cure = f"Write {word}= with one of {choice}" if fields else f"Write {word}= with a function of the data"
            findings.add(where, name, word, message, cure)
    elif value is not None and not callable(value):
        message = f"{word}={value!r} is neither a field nor a function"
        findings.add(where, name, word, message, f"Write {word}='field', or {word}=lambda data: ...")


def _check_logs(findings: Findings) -> None:
    """A log is read once: two sources on it would each commit positions of the other's events."""
    seen: dict[tuple[object, object], SourceItem] = {}
    for item in findings.graph.sources:
        topic = getattr(item.source, "topic", None)
        if topic is None:
            continue
        first = seen.setdefault((getattr(item.source, "cluster", None), topic), item)
        if first is not item:
            message = f"the topic {topic!r} is read by {first.name} already ({first.where})"
            cure = f"Route that source to both: {first.name}.to(a, b)"
            findings.add(item.where, item.name, "topic-twice", message, cure)
        elif isinstance(topic, re.Pattern):
            _check_pattern(findings, item, topic)


def _check_pattern(findings: Findings, item: SourceItem, pattern: re.Pattern[str]) -> None:
    """A topic that is read by name must not match; what two patterns share shows when topics do."""
    for other in findings.graph.sources:
        topic = getattr(other.source, "topic", None)
        same_cluster = getattr(other.source, "cluster", None) == getattr(item.source, "cluster", None)
        if same_cluster and isinstance(topic, str) and pattern.fullmatch(topic):
            message = f"its pattern {pattern.pattern!r} matches the topic {topic!r}, which {other.name} reads"
            cure = f"Change the pattern, or leave {other.name} out and route {item.name} to both"
            findings.add(item.where, item.name, "topic-twice", message, cure)


def _kind(port: object) -> str:
    return f"the class {port.__name__}" if isinstance(port, type) else repr(port)


def _check_sink(findings: Findings, item: SinkItem) -> None:
    sink: Any = item.sink
    if not isinstance(sink, Sink):
        message = f"{_kind(sink)} is no sink"
        findings.add(
            item.where, item.name, "sink", message, "Give an instance: workflow.sink(KafkaSink('alerts', Alert))"
        )
        return
    _check_data(findings, item.where, item.name, sink.type)
    _check_field(findings, item.where, item.name, sink.type, ("key", sink.key))
    for fault in sink.check():
        findings.fault(item.where, item.name, fault)


def _check_node(findings: Findings, node: NodeItem, fuse: Fuse) -> None:
    for fault in node.faults:
        findings.fault(node.where, node.name, fault)
    _check_options(findings, node, fuse)
    signature = node.signature
    if signature is None:
        return
    for data_type in signature.returns.data:
        _check_data(findings, node.where, node.name, data_type)
    if signature.state is not None:
        _check_state(findings, node.where, node.name, "its state", signature.state)
    run_state, said = findings.graph.state, signature.run_state
    if said is not UNSAID and said is not None and said != run_state:
        has = "no state=" if run_state is None else f"state={type_name(run_state)}"
        message = f"its ctx says run state {type_name(said)}, but the workflow has {has}"
        cure = f"Write Workflow({findings.graph.name!r}, state={type_name(said)}), or another ctx"
        findings.add(node.where, node.name, "run-state", message, cure)


def _check_options(findings: Findings, node: NodeItem, fuse: Fuse) -> None:
    options = node.options

    def wrong(message: str, cure: str) -> None:
        findings.add(node.where, node.name, "number", message, cure)

    if not _whole(options.replicas, 1, 10_000):
        wrong(f"replicas={options.replicas!r} is no number of actors", "Write a whole number from 1")
    for name, amount in {"cpus": options.cpus, "gpus": options.gpus, **(options.resources or {})}.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < float("inf"):
            wrong(f"{name}={amount!r} is no amount", "Write a number from 0")
    if not _whole(options.batch_size, 0, 1_000_000):
        wrong(f"batch_size={options.batch_size!r} is no number of events", "Write a whole number from 1")
    if options.batch_delay < timedelta(0):
        wrong(f"batch_delay={options.batch_delay} is negative", "Write a timedelta from 0")
    timeout: Any = options.timeout
    if (
        timeout is not None
        and not node.inner
        and not (isinstance(timeout, timedelta) and _SHORTEST <= timeout <= _LONGEST)
    ):
        wrong(f"timeout={timeout} is no time for one call", "Write a timedelta from a millisecond to a day")
    if options.retry is not None:
        for fault in retry_faults(options.retry):
            wrong(f"retry=: {fault}", "See headrace.Retry")
    if (options.batch_size or options.batch_delay) and not isinstance(node.user, BatchNode):
        wrong("batch_size and batch_delay are for batch nodes", "Derive it from BatchNode, or leave them out")
    if fuse == "all" and (options.gpus or options.resources):
        message = "asks for resources of its own, but fuse='all' runs it inside the worker"
        findings.add(node.where, node.name, "fuse", message, "Leave out fuse='all', or gpus= and resources=")


def _check_fused(findings: Findings) -> None:
    seen: dict[NodeItem, Fused] = {}
    name = findings.graph.name
    for fused in findings.graph.fused:
        nodes = [node for node in fused.nodes if isinstance(node, NodeItem)]
        for node in fused.nodes:
            if isinstance(node, Unknown):
                message = f"fuse names {node.text}, which is no node of this workflow"
                findings.add(fused.where, name, "fuse", message, "Name what workflow.node(...) gave back")
            elif node in seen:
                message = f"is fused twice, first at {seen[node].where}"
                findings.add(fused.where, node.name, "fuse", message, "Name all nodes of the group in one fuse(...)")
            else:
                seen[node] = fused
        if len({node.options.replicas for node in nodes}) > 1:
            counts = ", ".join(f"{node.name} {node.options.replicas}" for node in nodes)
            message = f"fused nodes share their actors, but ask for different numbers of them: {counts}"
            findings.add(fused.where, name, "fuse", message, "Give each the same replicas=")


def _check_data(findings: Findings, where: Where, name: str, data_type: Any) -> None:
    try:
        json_codec(data_type)
    except CodecError as error:
        message = f"{type_name(data_type)} can't travel as JSON: {error}"
        findings.add(where, name, "data-type", message, "Make it a msgspec.Struct of types that JSON can carry")


def _check_state(findings: Findings, where: Where, name: str, what: str, state_type: Any) -> None:
    try:
        state_codec(state_type)
    except CodecError as error:
        message = f"{what} can't be kept: {error}"
        cure = "Make it a msgspec.Struct with a default for every field, of types that JSON can carry"
        findings.add(where, name, "state-type", message, cure)
