"""`runs execute`: one node of a run, by itself."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Final

import msgspec

from headrace.actors.audit import audit
from headrace.actors.store_requests import Admission, Condition, Request, RequestStore
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import who
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.sending import check_run, json_in
from headrace.settings import Loaded
from headrace.workflows.durability import Durability
from headrace.workflows.envelope import RequestAnswer, decode
from headrace.workflows.executing import source_of
from headrace.workflows.keyspace import partition_of
from headrace.workflows.store import WorkflowDescriptor

PATIENCE: Final = 30.0
"""Seconds that it waits for the answer."""
_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


def execute(address: str, node: str, data: str, loaded: Loaded, screen: Screen, *, commit: bool) -> ExitCode:
    """Have a node process data with the states of a run, and print what it returned.

    Args:
        address: `workflow/key`; of an unkeyed workflow `workflow`.
        node: Its name.
        data: JSON; `-`: from standard input.
        loaded: Settings.
        screen: Gets the answer, or why there is none.
        commit: Keep what it does.

    Raises:
        UsageError: The data is no JSON, or there is no such node, or it goes with the graph only.
        NothingRuns: There is no such run, or it has ended.
        StoreUnavailable: The store does not answer: it may be executed or not.
    """
    return asyncio.run(_execute(address, node, json_in(data), loaded, screen, commit=commit))


async def _execute(address: str, node: str, body: bytes, loaded: Loaded, screen: Screen, *, commit: bool) -> ExitCode:
    workflow, _, key = address.partition("/")
    async with found_workflow(workflow, loaded, Project(Path.cwd()), "runs execute") as (registry, descriptor):
        _check_node(descriptor, node)
        await check_run(registry, descriptor, address, key, "execute")
        if commit:
            await audit(registry, workflow, "nodes executed", 1, who(), f"{node} of {address}")
        partition = partition_of(key, descriptor.partitions) if descriptor.keyed else 0
        request = Request(
            id=secrets.token_hex(16), key=key, source=source_of(node, commit=commit), body=body, reply="nobody",
            condition=Condition.RUNNING,
        )  # fmt: skip
        async with RequestStore(registry.url, connections=2) as store:
            level = Durability.parse(descriptor.durability)
            done = await store.append_request(workflow, partition, request, durability=level)
            if done is not Admission.APPENDED:
                screen.say(f"Not executed: {_WHY.get(done, 'the run has ended meanwhile')}.")
                return ExitCode.PROBLEMS
            answer = await _answer(store, workflow, partition, request.id, level)
    if answer is None:
        screen.say(f"No answer within {PATIENCE:g} s: does {workflow} run? It is executed once it does.")
        return ExitCode.PROBLEMS
    if answer.kind != "executed":
        screen.say(f"{answer.node or address}: {answer.error or answer.outcome} ({answer.reason or answer.kind})")
        return ExitCode.PROBLEMS
    screen.say(msgspec.json.encode(answer.data).decode())
    return ExitCode.OK


_WHY: Final = {Admission.FULL: "too much waits in the inbox of its partition"}


def _check_node(descriptor: WorkflowDescriptor, node: str) -> None:
    known = sorted(row.name for row in descriptor.inputs if not row.refused)
    if node in known:
        return
    there = f"Those that can be executed: {', '.join(known)}." if known else "It has none that can be executed."
    if any(row.name == node for row in descriptor.inputs) or node in descriptor.nodes:
        raise UsageError(f"{node!r} of {descriptor.name} goes with the graph only. {there}")
    raise UsageError(f"{descriptor.name} has no node {node!r}. {there}")


async def _answer(
    store: RequestStore, workflow: str, partition: int, request: str, level: Durability
) -> RequestAnswer | None:
    pause = _PAUSE
    until = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < until:
        (blob,) = await store.replies([(workflow, partition, request)], level)
        if blob is not None:
            return decode(blob)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return None
