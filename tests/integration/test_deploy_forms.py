"""From `deploy` to `workflows remove` with stores by TLS and few rights, behind Sentinels, and in a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from headrace.sources.channel import ChannelSender
from headrace.workflows.keyspace import partition_of
from ray_head import Ran, RayHead
from stores import StoreCluster, TlsFront, Watched, acl_user, make_certificates, rights
from waiting import until_async

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PARTITIONS = 4
SENSORS = ("s1", "s2", "s3", "s4", "s5")
PASSWORD = "s3cret-and-long"
FLOW = """
import msgspec
from headrace import ChannelSource, Context, Event, Workflow

class Reading(msgspec.Struct, frozen=True):
    sensor: str

def count(event: Event[Reading], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data.sensor)

workflow = Workflow("counting", partitions=4)
workflow.source(ChannelSource(Reading, capacity=100, key="sensor", name="readings")).to(workflow.node(count))
"""


class Reading(msgspec.Struct, frozen=True):
    sensor: str


@contextmanager
def by_tls(folder: Path) -> Iterator[str]:
    """The password lies in a file, as secrets do."""
    (folder / "password").write_text(PASSWORD)
    with (
        Valkey(folder=folder / "store", appendfsync="always") as server,
        TlsFront(make_certificates(folder / "certificates"), server.port) as front,
        acl_user(server.url, "headrace", PASSWORD, rights("one server, or behind Sentinels")),
    ):
        yield front.url.replace("://", "://headrace@") + f"&password=file:{folder / 'password'}"


@contextmanager
def by_sentinel(folder: Path) -> Iterator[str]:
    with Watched(folder) as watched:
        yield watched.url


@contextmanager
def by_cluster(folder: Path) -> Iterator[str]:
    with StoreCluster(folder) as cluster, ExitStack() as users:
        for node in cluster.nodes:
            users.enter_context(
                acl_user(f"redis://127.0.0.1:{node.port}/0", "headrace", PASSWORD, rights("a cluster, at each node"))
            )
        yield cluster.url.replace("://", f"://headrace:{PASSWORD}@")


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """One for all forms."""
    head = RayHead()
    try:
        yield head.start()
    finally:
        head.stop()


@pytest.mark.parametrize("form", [by_tls, by_sentinel, by_cluster])
async def test_a_workflow_is_deployed_works_and_is_removed(
    head: RayHead, tmp_path: Path, form: Callable[[Path], AbstractContextManager[str]]
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flow.py").write_text(FLOW)
    with form(tmp_path) as url:
        where = ("--redis", url, "-o", "json")
        deployed = Ran(folder, head, "deploy", "flow.py", "--address", head.address, "--fuse", "all", *where)
        assert deployed.json["state"] == "running"
        sender = ChannelSender[Reading](url, "counting", "readings", partitions=PARTITIONS, capacity=100, key="sensor")
        for sensor in SENSORS:
            await sender.send(Reading(sensor))
        await sender.disconnect()
        await until_async(lambda: counted(url), "each event is counted")

        assert Ran(folder, head, "stop", "counting", *where).json["was_running"]
        assert [row["state"] for row in Ran(folder, head, "workflows", "list", *where).json] == ["stopped"]
        assert Ran(folder, head, "workflows", "remove", "counting", "--yes", *where).json["removed"]
        async with Registry(url) as registry:
            assert (await registry.workflows(), await registry.count_workflow("counting")) == ([], 0)
    logs = [path for path in head.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".out", ".err")]
    assert not [path for path in logs if PASSWORD in path.read_text(errors="replace")]


async def counted(url: str) -> bool:
    """Whether the store has what follows from all that was sent."""
    async with Store(url, "counting") as store:
        runs = {sensor: await store.run(partition_of(sensor, PARTITIONS), sensor) for sensor in SENSORS}
        states = {sensor: json.loads(run.get("node:count", "[]")) for sensor, run in runs.items()}
        return states == {sensor: [sensor] for sensor in SENSORS}
