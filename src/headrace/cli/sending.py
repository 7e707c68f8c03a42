"""`runs send`: a message to a run, into the inbox of its partition."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import msgspec

from headrace.actors.run_beginning import ACCEPTED
from headrace.actors.run_views import get_run
from headrace.actors.store_registry import Registry
from headrace.actors.store_requests import REMEMBERED, Admission, Request, RequestStore
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.settings import Loaded
from headrace.workflows.durability import Durability
from headrace.workflows.keyspace import partition_of
from headrace.workflows.runs import RUNNING
from headrace.workflows.store import WorkflowDescriptor


def send(address: str, name: str, data: str, loaded: Loaded, screen: Screen, *, message: str | None) -> ExitCode:
    """Send a message, for a wait on the source of that name.

    Args:
        address: `workflow/key`; of an unkeyed workflow `workflow`.
        name: Of the `MessageSource`.
        data: JSON; `-`: from standard input.
        loaded: Settings.
        screen: Says what became of it.
        message: Its id: one that was sent already is not sent again. None: a new one.

    Raises:
        UsageError: The data is no JSON, or the workflow has no such source.
        NothingRuns: There is no such run, or it has ended.
        StoreUnavailable: The store does not answer: type it again, with the same id.
    """
    text = sys.stdin.buffer.read() if data == "-" else data.encode()
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"This is no JSON: {error}. A text has quotes in quotes: '\"yes\"'") from error
    return asyncio.run(_send(address, name, text, loaded, screen, message))


async def _send(address: str, name: str, body: bytes, loaded: Loaded, screen: Screen, chosen: str | None) -> ExitCode:
    message = chosen or secrets.token_hex(8)
    workflow, _, key = address.partition("/")
    async with found_workflow(workflow, loaded, Project(Path.cwd()), "runs send") as (registry, descriptor):
        names = [source.name for source in descriptor.sources if source.kind == "messages"]
        if name not in names:
            known = f"Those it has: {', '.join(names)}." if names else "It has none."
            raise UsageError(f"{workflow} has no MessageSource {name!r}. {known}")
        await _check(registry, descriptor, address, key)
        partition = partition_of(key, descriptor.partitions) if descriptor.keyed else 0
        request = Request(id=message, key=key, source=name, body=body)
        async with RequestStore(registry.url, connections=2) as store:
            level = Durability.parse(descriptor.durability)
            remembered = REMEMBERED if chosen is None else descriptor.id_retention / 1000
            done = await store.append_request(workflow, partition, request, durability=level, remembered=remembered)
    if done is Admission.FULL:
        screen.say(f"Not sent: too much waits in the inbox of its partition. Look: headrace status {workflow}")
        return ExitCode.PROBLEMS
    again = "was sent before" if done is Admission.ALREADY else "sent"
    screen.say(f"Message {message} {again}.")
    return ExitCode.OK


async def _check(registry: Registry, descriptor: WorkflowDescriptor, address: str, key: str) -> None:
    if descriptor.keyed and not key:
        raise UsageError(f"Say to which run: headrace runs send {descriptor.name}/KEY ...")
    run = await get_run(registry, descriptor, key)
    if run is None:
        raise NothingRuns(f"There is no run {address}. There are: headrace runs list {descriptor.name}")
    if run.status not in (ACCEPTED, RUNNING):
        raise NothingRuns(f"The run {address} has ended: {run.status}. Nothing was sent.")
