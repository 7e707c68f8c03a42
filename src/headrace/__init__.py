"""Event-driven workflows on Ray actors: exactly-once state, fed by Kafka and channels, answered over HTTP.

Everything that users write is here. A name is imported when it is first asked for: so the command has its hands on
Ctrl-C a millisecond after Python is up, and loads only what a verb needs. None of them loads Ray or a client of Kafka
or Redis: a workflow is only described by these names, and run by the `headrace` command. `Client` and `AsyncClient` are
for programs that send to workflows.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` has under this name is that for type checkers; importing it takes milliseconds
if TYPE_CHECKING:
    from typing import Any

    from headrace.client.async_client import AsyncClient
    from headrace.client.client import Client
    from headrace.sources.channel import ChannelSource
    from headrace.sources.cloudevents import CloudEvents
    from headrace.sources.custom import CustomSource, Raw, Record, Split
    from headrace.sources.custom_sink import CustomSink, Message, Writer
    from headrace.sources.kafka import KafkaSink, KafkaSource
    from headrace.sources.own_formats import Decoder, Encoder, KafkaRecord, Unavailable
    from headrace.sources.replay import ReplaySource
    from headrace.sources.requests import MessageSource, RequestSource
    from headrace.sources.schedule import ScheduleSource
    from headrace.sources.webhook import WebhookSink
    from headrace.sources.workflow_link import WorkflowSink, WorkflowSource
    from headrace.workflows.actions import (
        Action,
        Complete,
        Failure,
        Reject,
        Result,
        Terminate,
        Timeout,
        Timer,
        Tombstone,
    )
    from headrace.workflows.cloudevents import CloudEvent
    from headrace.workflows.context import Context, Run
    from headrace.workflows.errors import (
        CodecError,
        HeadraceError,
        Problem,
        SourceClosed,
        WorkflowError,
    )
    from headrace.workflows.events import Event
    from headrace.workflows.joining import Joined
    from headrace.workflows.letters import DeadLetterMessage
    from headrace.workflows.mapping import Map, Mapped
    from headrace.workflows.nodes import BatchNode, Node
    from headrace.workflows.ports import Sink, Source
    from headrace.workflows.retention import Retention
    from headrace.workflows.retry import Exponential, Linear, Retry
    from headrace.workflows.workflow import Workflow

__all__ = [
    "Action",
    "AsyncClient",
    "BatchNode",
    "ChannelSource",
    "Client",
    "CloudEvent",
    "CloudEvents",
    "CodecError",
    "Complete",
    "Context",
    "CustomSink",
    "CustomSource",
    "DeadLetterMessage",
    "Decoder",
    "Encoder",
    "Event",
    "Exponential",
    "Failure",
    "HeadraceError",
    "Joined",
    "KafkaRecord",
    "KafkaSink",
    "KafkaSource",
    "Linear",
    "Map",
    "Mapped",
    "Message",
    "MessageSource",
    "Node",
    "Problem",
    "Raw",
    "Record",
    "Reject",
    "ReplaySource",
    "RequestSource",
    "Result",
    "Retention",
    "Retry",
    "Run",
    "ScheduleSource",
    "Sink",
    "Source",
    "SourceClosed",
    "Split",
    "Terminate",
    "Timeout",
    "Timer",
    "Tombstone",
    "Unavailable",
    "WebhookSink",
    "Workflow",
    "WorkflowError",
    "WorkflowSink",
    "WorkflowSource",
    "Writer",
]

_WHERE = {
    "AsyncClient": "headrace.client.async_client",
    "Client": "headrace.client.client",
    "ChannelSource": "headrace.sources.channel",
    "CloudEvents": "headrace.sources.cloudevents",
    "CustomSource": "headrace.sources.custom",
    "Raw": "headrace.sources.custom",
    "Record": "headrace.sources.custom",
    "Split": "headrace.sources.custom",
    "CustomSink": "headrace.sources.custom_sink",
    "Message": "headrace.sources.custom_sink",
    "Writer": "headrace.sources.custom_sink",
    "KafkaSink": "headrace.sources.kafka",
    "KafkaSource": "headrace.sources.kafka",
    "Decoder": "headrace.sources.own_formats",
    "Encoder": "headrace.sources.own_formats",
    "KafkaRecord": "headrace.sources.own_formats",
    "Unavailable": "headrace.sources.own_formats",
    "ReplaySource": "headrace.sources.replay",
    "MessageSource": "headrace.sources.requests",
    "RequestSource": "headrace.sources.requests",
    "ScheduleSource": "headrace.sources.schedule",
    "WebhookSink": "headrace.sources.webhook",
    "WorkflowSink": "headrace.sources.workflow_link",
    "WorkflowSource": "headrace.sources.workflow_link",
    "Action": "headrace.workflows.actions",
    "Complete": "headrace.workflows.actions",
    "Failure": "headrace.workflows.actions",
    "Reject": "headrace.workflows.actions",
    "Result": "headrace.workflows.actions",
    "Terminate": "headrace.workflows.actions",
    "Timeout": "headrace.workflows.actions",
    "Timer": "headrace.workflows.actions",
    "Tombstone": "headrace.workflows.actions",
    "CloudEvent": "headrace.workflows.cloudevents",
    "Joined": "headrace.workflows.joining",
    "Context": "headrace.workflows.context",
    "Run": "headrace.workflows.context",
    "CodecError": "headrace.workflows.errors",
    "HeadraceError": "headrace.workflows.errors",
    "Problem": "headrace.workflows.errors",
    "SourceClosed": "headrace.workflows.errors",
    "WorkflowError": "headrace.workflows.errors",
    "Event": "headrace.workflows.events",
    "DeadLetterMessage": "headrace.workflows.letters",
    "Map": "headrace.workflows.mapping",
    "Mapped": "headrace.workflows.mapping",
    "BatchNode": "headrace.workflows.nodes",
    "Node": "headrace.workflows.nodes",
    "Sink": "headrace.workflows.ports",
    "Source": "headrace.workflows.ports",
    "Retention": "headrace.workflows.retention",
    "Exponential": "headrace.workflows.retry",
    "Linear": "headrace.workflows.retry",
    "Retry": "headrace.workflows.retry",
    "Workflow": "headrace.workflows.workflow",
}
"""Each name's module."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  takes longer than all of this module

    found = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
