"""Checks time-outs and waits: what can never be, or would be taken for something else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from headrace.workflows.actions import Timeout
from headrace.workflows.composing import awaited_inside, is_messages
from headrace.workflows.findings import Findings
from headrace.workflows.graph import TimeoutItem
from headrace.workflows.timers import LONGEST

SHORTEST: Final = timedelta(milliseconds=1)


def check_times(findings: Findings) -> None:
    """All of `workflow.timeout(...)`."""
    seen: dict[str, TimeoutItem] = {}
    for item in findings.graph.timeouts:
        given = {"idle": item.idle, "total": item.total}
        chosen = [word for word, time in given.items() if time is not None]
        if len(chosen) != 1:
            message = "takes one of idle= and total="
            cure = "Write workflow.timeout(idle=timedelta(minutes=5)), or total=; for both, two time-outs"
            findings.add(item.where, item.name, "timeout", message, cure)
            continue
        word = chosen[0]
        _check_duration(findings, item, word, given[word])
        first = seen.setdefault(word, item)
        if first is not item:
            message = f"a time-out with {word}= was added at {first.where}"
            findings.add(item.where, item.name, "timeout", message, "Leave one of them out")


def check_waits(findings: Findings) -> None:
    """All of `workflow.wait(...)`, and sources of messages."""
    graph = findings.graph
    for item in graph.waits:
        if item.timeout is not None and (problem := duration_problem(item.timeout)) is not None:
            cure = "Write timeout=timedelta(hours=1), or whatever it is"
            findings.add(item.where, item.name, "wait", f"timeout={item.timeout!r} {problem}", cure)
        for route in graph.routes_of(item):
            for match in route.match or ():
                if match is not Timeout:
                    message = f"a wait has no outcome {getattr(match, '__name__', match)!r}"
                    findings.add(route.where, item.name, "wait", message, f"Write {item.name}.on(Timeout)")
                elif item.timeout is None:
                    cure = "Write workflow.wait(..., timeout=timedelta(hours=1)), or take the route out"
                    findings.add(route.where, item.name, "wait", "`.on(Timeout)`, but it has no timeout=", cure)
    inside = awaited_inside(graph)
    for source in graph.sources:
        if not is_messages(source):
            continue
        if source not in inside and not any(wait.source is source for wait in graph.waits):
            cure = f"Add: approval = workflow.wait({source.name})"
            findings.add(source.where, source.name, "wait", "no wait takes its messages", cure)
        for route in graph.routes_of(source):
            message = "messages go on from waits only"
            findings.add(route.where, source.name, "wait", message, f"Route the wait for {source.name}, not the source")


def _check_duration(findings: Findings, item: TimeoutItem, word: str, time: Any) -> None:
    problem = duration_problem(time)
    if problem is not None:
        message = f"{word}={time!r} {problem}"
        findings.add(item.where, item.name, "timeout", message, f"Write {word}=timedelta(minutes=5), or whatever it is")


def duration_problem(time: Any) -> str | None:
    """What is wrong with a time to wait, as a sentence goes on; None: nothing."""
    if not isinstance(time, timedelta):
        return "is no timedelta"
    if not SHORTEST <= time <= LONGEST:
        return f"is not within a millisecond and {LONGEST.days} days"
    return None
