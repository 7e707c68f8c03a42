"""The AsyncAPI document: the Kafka topics of workflows, what lies in them, and which way it goes.

Channels are topics: one that a workflow sends to and another one reads from is one channel, so that the document of
all workflows shows how they hang together. What comes in over HTTP is in the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from headrace.gateway.openapi import moved
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.topics import TopicDescriptor

VERSION: Final = "3.0.0"
_BINDING: Final = "0.5.0"
"""Of the Kafka bindings."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_ENVELOPE: Final = "application/cloudevents+json"


def asyncapi_of(workflows: Iterable[WorkflowDescriptor], version: str) -> dict[str, Any]:
    """The document of some workflows.

    Args:
        workflows: As the store has them.
        version: Of Headrace; the document of one workflow has that one's.
    """
    rows = list(workflows)
    document = _Document()
    for workflow in rows:
        for topic in workflow.topics:
            document.add(workflow.name, topic)
    only = rows[0] if len(rows) == 1 else None
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Headrace" if only is None else f"Headrace: {only.name}",
            "version": (only.version if only else "") or version,
            "description": "Topics that workflows read from (`receive`) and send to (`send`).",
        },
        "defaultContentType": "application/json",
        "channels": document.channels,
        "operations": document.operations,
        "components": {"messages": document.messages, "schemas": document.schemas},
    }


class _Document:
    """What is collected, topic by topic."""

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Any] = {}
        self._names: dict[tuple[str, ...], str] = {}
        self._taken: set[tuple[str, str]] = set()

    def add(self, workflow: str, topic: TopicDescriptor) -> None:
        """One more source or sink."""
        channel = self._channel(topic)
        name = self._name("operation", workflow, topic.action, topic.name)
        self.messages[name] = self._message(name, topic)
        self.channels[channel]["messages"][name] = {"$ref": f"#/components/messages/{name}"}
        self.operations[name] = {
            "action": topic.action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": f"Workflow {workflow!r} {'reads from' if topic.action == 'receive' else 'sends to'} it",
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"}],
        }

    def _channel(self, topic: TopicDescriptor) -> str:
        name = self._name("channel", topic.cluster, topic.topic or topic.pattern, "" if topic.topic else "*")
        if name not in self.channels:
            channel: dict[str, Any] = {"address": topic.topic or None, "messages": {}}
            if topic.pattern:
                channel["description"] = f"All topics whose names match {topic.pattern!r}."
            if topic.cluster:
                channel["summary"] = f"On the Kafka cluster {topic.cluster!r}"
            binding = {"topic": topic.topic} if topic.topic else {}
            channel["bindings"] = {"kafka": {**binding, "bindingVersion": _BINDING}}
            self.channels[name] = channel
        return name

    def _message(self, name: str, topic: TopicDescriptor) -> dict[str, Any]:
        message: dict[str, Any] = {"name": topic.type or topic.name}
        if topic.content_type:
            message["contentType"] = topic.content_type
        else:
            message["description"] = "Its format is the workflow's own."
        if topic.content_type == _ENVELOPE:
            message["description"] = "A CloudEvent, whose data this is; in binary mode the value is the data."
        if topic.schema is not None:
            self.schemas[name] = moved(topic.schema, f"#/components/schemas/{name}")
            message["payload"] = {"$ref": f"#/components/schemas/{name}"}
        return message

    def _name(self, kind: str, *parts: str) -> str:
        """A name that documents may have, of these parts and no others."""
        found = self._names.get((kind, *parts))
        if found is None:
            plain = _NOT_IN_NAMES.sub("_", ".".join(part for part in parts if part))
            found, count = plain, 2
            while (kind, found) in self._taken:
                found, count = f"{plain}_{count}", count + 1
            self._taken.add((kind, found))
            self._names[kind, *parts] = found
        return found
