"""A node that can't open; the rest of the workflow is fine."""

from headrace.sources.channel import ChannelSource
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.nodes import Node
from headrace.workflows.workflow import Workflow


class Score(Node[str, None, None]):
    async def open(self) -> None:
        load_model()

    def process(self, event: Event[str], ctx: Context[None]) -> None:
        pass


def load_model() -> None:
    raise OSError("the model file is missing")


workflow = Workflow("broken-open", keyed=False)
workflow.source(ChannelSource(str, capacity=10)).to(workflow.node(Score(), name="score"))
