"""`runs send`, as typed: a run stands at a wait, its message comes by the inbox of a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Start, commands_in, said
from headrace.actors.run_views import get_run
from headrace.actors.store import Store
from headrace.sources.channel import ChannelSender
from headrace.workflows.keyspace import partition_of
from waiting import until_async

HOUR = 3_600_000
FLOW = """
from datetime import timedelta
import msgspec
from headrace import ChannelSource, Complete, Context, Event, MessageSource, Workflow

class Order(msgspec.Struct):
    id: str

class Approval(msgspec.Struct):
    by: str

def decide(event: Event[Approval], ctx: Context) -> Complete | None:
    return Complete(event.data.by) if event.data.by != "nobody" else None

workflow = Workflow("orders", partitions=2, id_retention=timedelta(hours=30))
orders = workflow.source(ChannelSource(Order, capacity=100, key="id", name="orders"))
approvals = workflow.source(MessageSource("approval", Approval))
approval = workflow.wait(approvals, timeout=timedelta(hours=2))
orders.to(approval)
approval.to(workflow.node(decide))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a folder with `flow.py`."""
    with commands_in(tmp_path, FLOW) as start:
        yield start


@pytest.mark.slow
async def test_a_message_by_command_ends_a_wait(start: Start, redis_url: str) -> None:
    start("dev", "flow.py", "--inline", "--no-live", "--redis", redis_url).says("running, after")
    sender = ChannelSender[dict[str, str]](redis_url, "orders", "orders", partitions=2, capacity=100, key="id")
    await sender.send({"id": "o1"})
    await sender.disconnect()
    async with Store(redis_url, "orders") as store:
        descriptor = await store.workflow("orders")
        assert descriptor is not None

        async def stands(place: str | None) -> bool:
            run = await get_run(store, descriptor, "o1")
            return run is not None and run.waits_at == place

        await until_async(lambda: stands("approval"), "the run stands at the wait")
        shown = said(start, "runs", "show", "orders/o1")
        assert "waits at approval, for another" in shown
        assert "no MessageSource" in said(start, "runs", "send", "orders/o1", "aproval", "{}", code=2)
        assert "no JSON" in said(start, "runs", "send", "orders/o1", "approval", "yes", code=2)
        assert "no run orders/o2" in said(start, "runs", "send", "orders/o2", "approval", "{}", code=3)

        message = ("runs", "send", "orders/o1", "approval", json.dumps({"by": "ann"}), "--id", "m1")
        assert "Message m1 sent." in said(start, *message)
        await until_async(lambda: stands(None), "the run went on")
        known = await store.client.pttl(store.keys(partition_of("o1", 2)).head.replace(":head", ":request:m1"))
        assert 29 * HOUR < known <= 30 * HOUR, "as long as the workflow says"
        run = await get_run(store, descriptor, "o1")

    assert run is not None
    assert (run.status, bytes(run.result or b"")) == ("completed", b'"ann"')
    assert "has ended: completed" in said(start, *message, code=3)
