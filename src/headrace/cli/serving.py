"""`serve`, `openapi` and `asyncapi`: runs the gateway, or prints what there is to be sent and read."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Final

from headrace.actors.loading import load_workflow
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode
from headrace.cli.finding import found_workflow
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.signals import Signals
from headrace.gateway import serving
from headrace.gateway.app import create_app
from headrace.gateway.asyncapi import asyncapi_of
from headrace.gateway.openapi import openapi_for
from headrace.gateway.settings import gateway_settings
from headrace.settings import Loaded
from headrace.tracing.options import Tracing
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.store import StoreUnavailable, WorkflowDescriptor

_NOWHERE: Final = "redis://127.0.0.1:6379/0"
"""Address of a store that is not asked."""


def serve(url: str, loaded: Loaded, screen: Screen, *, traces: Tracing | None) -> ExitCode:
    """Answer requests until a signal comes.

    Args:
        url: The store.
        loaded: Settings.
        screen: Says where.
        traces: Where spans go.

    Raises:
        GatewayOptionError: An option can't be used.
        AddressTaken: Somebody else listens there.
        StoreUnsuitable: State would not be safe in the store.
    """
    settings = gateway_settings(loaded.settings.gateway)
    asyncio.run(_look(url, screen))
    found = serving.listen(settings)
    where = serving.address_of_socket(found)
    with found, Signals(lambda: None):  # a server has handlers of its own, and hands signals on once it has ended
        if settings.authentication == "required":
            screen.say("Callers need credentials: headrace keys create NAME", "dim")
        screen.say(f"Gateway at {where}/v1/workflows, documents at {where}/docs; Ctrl-C stops")
        serving.serve(
            url, settings, found, traces=traces, level=loaded.settings.log_level, form=loaded.settings.log_format
        )
    screen.say("The gateway has stopped.")
    return ExitCode.OK


async def _look(url: str, screen: Screen) -> None:
    """A store that is away is waited for; in one that is unsuitable nothing should be put."""
    try:
        async with Registry(url, connections=1):
            pass
    except StoreUnavailable as problem:
        screen.say(f"{problem}. The gateway answers 503 until then.", "yellow")


def show_openapi(workflow: str | None, loaded: Loaded, screen: Screen) -> ExitCode:
    """Print the OpenAPI document, of one workflow or of any.

    Raises:
        HeadraceError: See `found_workflow`, `load_workflow` and `Workflow.compile`.
    """
    app = create_app(_NOWHERE)
    if workflow is None:
        screen.json(app.openapi())
        return ExitCode.OK
    screen.json(openapi_for(app, _descriptor(workflow, loaded, "openapi")))
    return ExitCode.OK


def show_asyncapi(workflow: str, loaded: Loaded, screen: Screen) -> ExitCode:
    """Print the AsyncAPI document of a workflow.

    Raises:
        HeadraceError: See `found_workflow`, `load_workflow` and `Workflow.compile`.
    """
    screen.json(asyncapi_of([_descriptor(workflow, loaded, "asyncapi")], version("headrace")))
    return ExitCode.OK


def _descriptor(workflow: str, loaded: Loaded, verb: str) -> WorkflowDescriptor:
    """What a file defines, as it would be deployed; or what the store has under a name."""
    if workflow.partition(":")[0].endswith(".py") or ":" in workflow:
        plan = load_workflow(workflow)[1].compile()
        return descriptor_of(plan, plan.partitions or 1)  # the documents do not say how many there are

    async def find() -> WorkflowDescriptor:
        async with found_workflow(workflow, loaded, Project(Path.cwd()), verb) as (_, descriptor):
            return descriptor

    return asyncio.run(find())
