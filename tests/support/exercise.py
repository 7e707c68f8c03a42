"""Everything that Headrace asks of a store, once, in order: to try it on stores of other forms and with few rights."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from headrace.actors.guardian import Guardian
from headrace.actors.leases import LeaseKeeper
from headrace.actors.run_views import list_runs
from headrace.actors.spec import supervisor_name
from headrace.actors.store import Store
from headrace.actors.store_requests import Admission, RequestStore
from headrace.gateway.bridge import Bridge
from headrace.sources.channel import ChannelSender
from headrace.sources.requests import RequestSource
from headrace.sources.stream_group import UNREACHABLE
from headrace.sources.streams import StreamReader
from headrace.workflows.commit import Answer, Commit, DeadLetter, Output, Reply
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.plan import SourcePlan
from headrace.workflows.store import WorkflowDescriptor
from waiting import until_async

PARTITIONS = 8
"""More than a cluster has nodes, so that no command may take all to be in one place."""


async def exercise(url: str, durability: Durability = FAST) -> None:
    """Use all of a store; raises what goes wrong."""
    workflow = f"w-{secrets.token_hex(4)}"
    async with Store(url, workflow, channels={"lines": 3}, durability=durability) as store:
        await store.durable.look()
        await _descriptors(store, workflow)
        owners = [await _partition(store, number) for number in range(PARTITIONS)]
        page = await list_runs(store, workflow, limit=5)
        rest = await list_runs(store, workflow, cursor=page.cursor or "")
        assert len({row.partition for row in (*page.runs, *rest.runs)}) == PARTITIONS
        await _requests(store, owners, url, durability)
        await _leases(store, url, workflow)
        assert await store.time() > 0
        assert await store.remove_workflow(workflow) > PARTITIONS
        assert workflow not in await store.workflows()


async def _descriptors(store: Store, workflow: str) -> None:
    await store.publish_workflow(WorkflowDescriptor(name=workflow, partitions=PARTITIONS))
    assert workflow in await store.workflows()
    assert await store.workflow(workflow) is not None
    assert await store.next_term(workflow) == 1
    await store.put_status(workflow, "worker/0", {"events": 1})
    assert await store.status(workflow, "worker/0") == {"events": 1}


async def _partition(store: Store, number: int) -> str:
    """All that is done with a partition; returns its owner token."""
    owner = (await store.acquire(number, term=1, placement=1, worker="worker/0")).owner
    letter = DeadLetter(id="a", key="s1", source="readings", node=None, reason="decode", error="no JSON")
    commit = Commit(
        sequence=1, positions={"readings/0": "1"}, runs={"s1": ["status", "running", "number", "1"]},
        outputs=[Output(0, "a", "s1", 0, b"1")], dead=[letter],
    )  # fmt: skip
    assert await store.commit(number, owner, commit) is Answer.APPLIED
    assert await store.commit(number, owner, commit) is Answer.ALREADY
    assert (await store.head(number)).positions == {"readings/0": "1"}
    assert await store.load(number, ["s1"]) == [{"status": b"running", "number": b"1"}]
    assert await store.run_keys(number) == ["s1"]
    assert len(await store.dead_letters(number)) == 1
    assert len(await store.outbox(number, 0, 10)) == 1
    assert await store.trim_outbox(number, owner, 1) is Answer.APPLIED
    return owner


async def _requests(store: Store, owners: list[str], url: str, durability: Durability) -> None:
    """Through the gateway's bridge and a channel into a reader, and the replies back."""
    ready: asyncio.Queue[int] = asyncio.Queue()
    plans = [
        SourcePlan(index=0, name="requests", source=RequestSource(dict), type=0, key=None, targets=(0,)),
    ]
    problems: dict[str, str] = {}
    workflow = store.workflow_name
    reader = StreamReader(
        url, workflow, plans, on_ready=ready.put_nowait, on_problem=lambda word, text: problems.update({word: text})
    )
    await reader.open()
    for number in range(PARTITIONS):
        await reader.assign(number, {})
    sender = ChannelSender[int](url, workflow, "lines", partitions=PARTITIONS, capacity=3, durability=durability)
    async with RequestStore(url) as requests:
        bridge = Bridge(url, requests)
        await bridge.open()
        await until_async(lambda: bridge.listening, "the bridge listens")
        calls = [
            asyncio.create_task(bridge.ask(
                workflow, number, f"s{number}", "requests", b"1", request=f"r{number}", wait=20, durability=durability
            ))
            for number in range(PARTITIONS)
        ]  # fmt: skip
        for _ in range(PARTITIONS):
            number = await asyncio.wait_for(ready.get(), 20)
            (records,) = reader.pull(number, 10)
            replies = [Reply(records.ids[0], records.replies[0], f"{number}")]  # type: ignore[index, arg-type]
            trims = {"inbox": (records.after, 1)}
            answer = await store.commit(number, owners[number], Commit(sequence=2, replies=replies, trims=trims))
            assert answer is Answer.APPLIED
        assert await asyncio.gather(*calls) == [(Admission.APPENDED, b"%d" % number) for number in range(PARTITIONS)]
        assert await requests.replies([(workflow, 3, "r3"), (workflow, 4, "none")], durability) == [b"3", None]
        await bridge.close()
    await sender.send(1)
    assert await sender.remainder() == [b"1"]
    await sender.close()
    await sender.disconnect()
    assert not problems.get(UNREACHABLE)
    await reader.revoke(0)
    await reader.close()


async def _leases(store: Store, url: str, workflow: str) -> None:
    names = [supervisor_name(workflow), f"{workflow}/worker/0"]
    keepers = [LeaseKeeper(url, name, "one", ttl=timedelta(seconds=6)).start() for name in names]

    async def held() -> bool:
        return set((await store.leases(names)).values()) == {"one"}

    await until_async(held, "the leases are held")
    ended: list[str] = []
    Guardian(url, workflow, 0, end=ended.append).look(1e9)
    assert not ended, "the guardian sees the lease"
    for keeper in keepers:
        await asyncio.to_thread(keeper.stop)
    assert set((await store.leases(names)).values()) == {None}
