"""A workshop whose node waits until it may go on: for those who end processes while it is executed by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec

from headrace import Complete, Context, Event, MessageSource, Node, RequestSource, Workflow


class Order(msgspec.Struct, frozen=True):
    """What is to be mended."""

    what: str
    folder: str = ""
    """Has notes of each call, and lets them go on once there is a file `go`; empty: nobody waits."""


class Approval(msgspec.Struct, frozen=True):
    """The message that a run waits for."""

    by: str


class Mend(Node[Order, list[str], Order]):
    """Keeps what it has mended, sets a value, writes into a stream, and replies."""

    async def process(self, event: Event[Order], ctx: Context[list[str]]) -> Order:
        what, folder = event.data.what, event.data.folder
        ctx.state.append(what)
        ctx.set_value("mended", len(ctx.state))
        async with ctx.stream("notes") as notes:
            await notes.write(what)
        if folder:
            with (Path(folder) / "calls").open("a") as file:
                file.write(f"{what}\n")
            while not (Path(folder) / "go").exists():  # noqa: ASYNC110  a file, of another process
                await asyncio.sleep(0.02)
        ctx.reply({"mended": ctx.state})
        return event.data


def decide(event: Event[Approval], ctx: Context) -> Complete:
    """It is through."""
    ctx.reply({"by": event.data.by})
    return Complete({"by": event.data.by})


workflow = Workflow("mending", partitions=2, epoch_deadline=timedelta(minutes=5))
requests = workflow.source(RequestSource(Order))
approval = workflow.wait(workflow.source(MessageSource("approval", Approval)), name="approval")
mend = workflow.node(Mend(), name="mend")
requests.to(mend)
mend.to(approval)
approval.to(workflow.node(decide))
