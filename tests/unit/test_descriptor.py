"""What gateways and senders learn of a workflow without importing it."""

from __future__ import annotations

import msgspec

from headrace import ChannelSource, Context, Event, Workflow
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.node_inputs import NodeInput
from headrace.workflows.schemas import schema_of
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor


class Line(msgspec.Struct, frozen=True):
    user: str


def test_a_workflow_is_described_by_its_plan() -> None:
    workflow = Workflow("chat")

    def count(event: Event[Line], ctx: Context) -> None:
        return None

    workflow.source(ChannelSource(Line, capacity=5, key="user", name="lines")).to(workflow.node(count))

    described = descriptor_of(workflow.compile(), 8, "v1")

    line = SourceDescriptor(kind="channel", name="lines", type="Line", key="user", capacity=5)
    takes = NodeInput(name="count", type="Line", schema=schema_of(Line))
    assert described == WorkflowDescriptor(
        name="chat", partitions=8, version="v1", sources=(line,), nodes=("count",), inputs=(takes,)
    )
    assert msgspec.json.decode(msgspec.json.encode(described), type=WorkflowDescriptor) == described
