"""Event-driven workflows on Ray actors: exactly-once state, fed by Kafka and channels, answered over HTTP.

Everything that users write is here. Importing it loads neither Ray nor a client of Kafka or Redis: a
workflow is only described by these names, and run by the `headrace` command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.sources.cloudevents import CloudEvents
from headrace.sources.custom import CustomSource, Raw, Record, Split
from headrace.sources.custom_sink import CustomSink, Message, Writer
from headrace.sources.kafka import KafkaSink, KafkaSource
from headrace.sources.own_formats import Decoder, Encoder, KafkaRecord, Unavailable
from headrace.sources.requests import MessageSource, RequestSource
from headrace.sources.schedule import ScheduleSource
from headrace.sources.webhook import WebhookSink
from headrace.sources.workflow_link import WorkflowSink, WorkflowSource
from headrace.workflows.actions import Action, Complete, Failure, Reject, Result, Terminate, Timeout, Timer, Tombstone
from headrace.workflows.cloudevents import CloudEvent
from headrace.workflows.context import Context, Run
from headrace.workflows.errors import (
    CodecError,
    HeadraceError,
    NotAvailableError,
    Problem,
    SourceClosed,
    WorkflowError,
)  # fmt: skip
from headrace.workflows.events import Event
from headrace.workflows.nodes import BatchNode, Node
from headrace.workflows.ports import Sink, Source
from headrace.workflows.retry import Exponential, Linear, Retry
from headrace.workflows.workflow import Workflow

if TYPE_CHECKING:
    from headrace.sources.channel import ChannelSource
    from headrace.sources.replay import ReplaySource

__all__ = [
    "Action",
    "BatchNode",
    "ChannelSource",
    "CloudEvent",
    "CloudEvents",
    "CodecError",
    "Complete",
    "Context",
    "CustomSink",
    "CustomSource",
    "Decoder",
    "Encoder",
    "Event",
    "Exponential",
    "Failure",
    "HeadraceError",
    "KafkaRecord",
    "KafkaSink",
    "KafkaSource",
    "Linear",
    "Message",
    "MessageSource",
    "Node",
    "NotAvailableError",
    "Problem",
    "Raw",
    "Record",
    "Reject",
    "ReplaySource",
    "RequestSource",
    "Result",
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

_LAZY = {"ChannelSource": "headrace.sources.channel", "ReplaySource": "headrace.sources.replay"}
"""Names whose module loads more than a description needs."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
