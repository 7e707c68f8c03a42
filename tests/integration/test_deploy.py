"""`deploy` onto a Ray head that was started as an operator does; commands as users type them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.actors.leases import LeaseKeeper
from headrace.actors.spec import supervisor_name
from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.embedded.ports import free_port
from headrace.sources.channel import ChannelSender
from headrace.workflows.keyspace import partition_of
from ray_head import Ran, RayHead
from waiting import until, until_async

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PARTITIONS = 2
SENSORS = ("s1", "s2", "s3")
SECRET = "correct-horse-battery-staple"
SETTINGS = ("--set", "token=env:WEIGHING_TOKEN")
FLOW = """
import msgspec
from headrace import ChannelSource, Context, Event, Workflow
from rules.weight import WEIGHT

class Reading(msgspec.Struct, frozen=True):
    sensor: str

class Total(msgspec.Struct):
    weight: int = 0

def weigh(event: Event[Reading], ctx: Context[Total]) -> None:
    ctx.log.warning("weighing", header=f"Bearer {ctx.settings['token']}")
    if event.data.sensor == "broken":
        raise ValueError(f"refused with {ctx.settings['token']}")
    ctx.state.weight += WEIGHT

workflow = Workflow("weighing", partitions=2)
readings = workflow.source(ChannelSource(Reading, capacity=1000, key="sensor", name="readings"))
readings.to(workflow.node(weigh))
"""


OTHER = """
from headrace import ChannelSource, Context, Event, Workflow

def remember(event: Event[str], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data)

workflow = Workflow("other", keyed=False)
texts = workflow.source(ChannelSource(str, capacity=10, name="texts"))
texts.to(workflow.node(remember))
"""


class Reading(msgspec.Struct, frozen=True):
    sensor: str


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """One Ray head for the module."""
    head = RayHead()
    head.environment["WEIGHING_TOKEN"] = SECRET
    try:
        yield head.start()
    finally:
        head.stop()


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    """A store for the module."""
    with Valkey(appendfsync="always") as server:
        yield server.url


def project(folder: Path, *, weight: int = 1, flow: str = FLOW) -> Path:
    """A folder with a workflow, and a package beside it."""
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    (folder / "flow.py").write_text(flow)
    (folder / "rules" / "__init__.py").touch()
    (folder / "rules" / "weight.py").write_text(f"WEIGHT = {weight}\n")
    (folder / ".env").write_text("PASSWORD=hunter2\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project."""
    return project(tmp_path_factory.mktemp("projects") / "weighing")


@pytest.fixture(scope="module")
def deployed(head: RayHead, store_url: str, folder: Path) -> dict[str, Any]:
    """The workflow `weighing`, deployed; the document that `deploy` gave."""
    ran = deploy(folder, head, store_url, head.address, *SETTINGS)
    document: dict[str, Any] = ran.json
    return document


def deploy(folder: Path, head: RayHead, store_url: str, address: str, *options: str) -> Ran:
    return Ran(folder, head, "deploy", "flow.py", "--address", address, "--redis", store_url, "-o", "json", *options)


async def send(store_url: str, *sensors: str, workflow: str = "weighing") -> None:
    sender = ChannelSender[Reading](store_url, workflow, "readings", partitions=PARTITIONS, capacity=1000, key="sensor")
    for sensor in sensors:
        await sender.send(Reading(sensor))
    await sender.disconnect()


async def weights(store_url: str) -> dict[str, int]:
    """What the store has of each sensor."""
    found = {}
    async with Store(store_url, "weighing") as store:
        for sensor in SENSORS:
            run = await store.run(partition_of(sensor, PARTITIONS), sensor)
            if "node:weigh" in run:
                found[sensor] = json.loads(run["node:weigh"])["weight"]
    return found


async def become(store_url: str, expected: dict[str, int], *, within: float = 60) -> None:
    """Wait until the states are those."""

    async def there() -> bool:
        return await weights(store_url) == expected

    await until_async(there, f"the states are {expected}", within=within)


@contextmanager
def supervising(head: RayHead, store_url: str, folder: Path) -> Iterator[None]:
    """`headrace supervise`, from its first look to an orderly end."""
    command = [sys.executable, "-m", "headrace", "supervise", "--address", head.address, "--redis", store_url]
    with (folder / "supervise.log").open("w") as written:
        process = subprocess.Popen(
            [*command, "--heartbeat", str(folder / "beat")], cwd=folder, env=os.environ | head.environment,
            stderr=written,
        )  # fmt: skip
        try:
            until((folder / "beat").exists, "supervise has looked")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
    assert code == 0, (folder / "supervise.log").read_text()


def states(head: RayHead, folder: Path, store_url: str) -> dict[str, str]:
    rows = Ran(folder, head, "workflows", "list", "--redis", store_url, "-o", "json").json
    return {row["workflow"]: row["state"] for row in rows}


async def test_a_wrong_token_is_told_within_seconds(head: RayHead, store_url: str, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("0" * 64)
    folder = project(tmp_path / "project")
    arguments = ["deploy", "flow.py", "--redis", store_url, "--address"]

    for address in (head.address, head.client_address):
        ran = Ran(folder, head, *arguments, address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))

        assert ran.code == 3
        assert "it asks for a token, and refuses this one" in ran.error
        assert "RAY_AUTH_TOKEN_PATH" in ran.error
        assert ran.seconds < 15


def test_an_address_where_nobody_listens_is_told_within_seconds(head: RayHead, store_url: str, folder: Path) -> None:
    ran = deploy(folder, head, store_url, f"127.0.0.1:{free_port()}")

    assert ran.code == 3
    assert "nobody answers" in ran.error
    assert ran.seconds < 15


def test_a_missing_address_is_asked_for(head: RayHead, folder: Path) -> None:
    ran = Ran(folder, head, "deploy", "flow.py")

    assert ran.code == 2
    assert "headrace deploy flow.py --address ray://HOST:10001 --redis redis://HOST:6379/0" in ran.error


def test_a_module_left_out_of_the_bundle_is_found_before_anything_is_touched(
    head: RayHead, store_url: str, tmp_path: Path
) -> None:
    folder = project(tmp_path / "project")
    (folder / ".gitignore").write_text("rules/\n")

    ran = deploy(folder, head, store_url, head.address)

    assert ran.code == 1
    assert "No module named 'rules'" in ran.error
    assert ".headraceignore" in ran.error


async def test_it_runs_from_its_bundle_with_the_package_beside_it(
    head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any]
) -> None:
    assert sorted(deployed["files"]) == ["flow.py", "rules/__init__.py", "rules/weight.py"]
    shutil.rmtree(folder / "rules")  # the cluster is another machine, as far as it can tell
    (folder / "flow.py").unlink()

    await send(store_url, "s1", "s2", "s1")

    await become(store_url, {"s1": 2, "s2": 1})
    assert (head.folder / "cache" / "bundles" / deployed["version"] / "flow.py").is_file()
    project(folder)


async def test_a_secret_is_found_nowhere(head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any]) -> None:
    partition = partition_of("broken", PARTITIONS)

    await send(store_url, "broken")

    async with Store(store_url, "weighing") as store:

        async def buried() -> bool:
            return bool(await store.dead_letters(partition))

        await until_async(buried, "the event is a dead letter")
        letter = (await store.dead_letters(partition))[0][1]
        assert letter.error == "ValueError: refused with ******"
        await store.client.config_set("rdbcompression", "no")
        held = [await store.client.dump(key) or b"" for key in await store.client.keys("*")]
    status = Ran(folder, head, "status", "--redis", store_url, "-o", "json").text
    logs = [path for path in head.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".out", ".err")]
    told = [path.read_text(errors="replace") for path in logs]
    assert any("Bearer ******" in text for text in told)
    assert [path for path, text in zip(logs, told, strict=True) if SECRET in text] == []
    assert not [blob for blob in held if SECRET.encode() in blob]
    assert SECRET not in json.dumps(deployed) + status


async def test_the_same_again_changes_nothing(
    head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any]
) -> None:
    again = deploy(folder, head, store_url, head.address, *SETTINGS).json

    assert (again["state"], again["version"]) == ("unchanged", deployed["version"])
    assert again["status"]["term"] == deployed["status"]["term"]


async def test_new_code_runs_on_the_old_state(
    head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any]
) -> None:
    before = await weights(store_url)
    project(folder, weight=10)
    after = deploy(folder, head, store_url, head.address, "--yes", *SETTINGS).json
    await send(store_url, "s1")

    await become(store_url, {**before, "s1": before["s1"] + 10})
    assert after["changes"] == [{"what": "code", "before": deployed["version"], "after": after["version"]}]
    async with Store(store_url, "weighing") as store:
        bundles = [key async for key in store.client.scan_iter(match="hr:{weighing}:bundle:*")]
    assert bundles == [f"hr:{{weighing}}:bundle:{after['version']}".encode()]


VERSION_2 = """
import msgspec
from headrace import ChannelSource, Context, Event, Workflow

class Reading(msgspec.Struct, frozen=True):
    sensor: str

class Total(msgspec.Struct):
    grams: int = 0

def scale(event: Event[Reading], ctx: Context[Total]) -> None:
    ctx.state.grams += 1000

def in_grams(old: dict[str, int]) -> dict[str, int]:
    return {"grams": old["MISTAKE" if MISTAKEN else "weight"] * 1000}

MISTAKEN = False
workflow = Workflow("scales", partitions=2)
readings = workflow.source(ChannelSource(Reading, capacity=1000, key="sensor", name="readings"))
readings.to(workflow.node(scale, renamed_from="weigh", migrations={1: in_grams}))
"""


async def test_a_version_with_another_form_and_name_runs_on_the_old_states_or_changes_nothing(
    head: RayHead, store_url: str, tmp_path: Path
) -> None:
    folder = project(tmp_path / "scales", flow=FLOW.replace('"weighing"', '"scales"'))
    deploy(folder, head, store_url, head.address, *SETTINGS)
    async with Store(store_url, "scales") as store:
        await send(store_url, "s1", "s2", workflow="scales")
        await until_async(lambda: states_in(store, "node:weigh", ['{"weight":1}'] * 2), "both have a state")
        assert Ran(folder, head, "stop", "scales", "--redis", store_url).code == 0
        before = await lasting(store)

        project(folder, flow=VERSION_2.replace("MISTAKEN = False", "MISTAKEN = True"))
        refused = Ran(
            folder, head, "deploy", "flow.py", "--address", head.address, "--redis", store_url, "--yes", *SETTINGS
        )
        assert refused.code != 0
        assert "migration from version 1 to 2, in_grams, raised KeyError: 'MISTAKE'" in refused.text
        assert await lasting(store) == before

        project(folder, flow=VERSION_2)
        deploy(folder, head, store_url, head.address, *SETTINGS)
        await send(store_url, "s1", workflow="scales")
        await until_async(lambda: states_in(store, "node:scale", ['v2 {"grams":2000}']), "one is migrated")
        assert await states_in(store, "node:weigh", ["", '{"weight":1}'])
    assert Ran(folder, head, "stop", "scales", "--redis", store_url).code == 0
    assert Ran(folder, head, "workflows", "remove", "scales", "--yes", "--redis", store_url).code == 0


async def states_in(store: Store, field: str, expected: list[str]) -> bool:
    """Whether the sensors' runs have these states in a field, and no others."""
    runs = [await store.run(partition_of(sensor, PARTITIONS), sensor) for sensor in SENSORS]
    return sorted(run[field].decode() for run in runs if field in run) == expected


async def lasting(store: Store) -> dict[bytes, bytes]:
    """All that the store has of the workflow, as the server dumps it; without what fades by itself."""
    return {
        key: await store.client.dump(key)
        async for key in store.client.scan_iter(match="hr:*scales*")
        if await store.client.pttl(key) == -1
    }


async def test_what_runs_elsewhere_with_the_same_store_is_refused(
    head: RayHead, store_url: str, tmp_path: Path
) -> None:
    folder = project(tmp_path / "elsewhere", flow=FLOW.replace('"weighing"', '"elsewhere"'))

    with LeaseKeeper(store_url, supervisor_name("elsewhere"), "another") as lease:
        until(lambda: lease.held, "the other one's supervisor has its lease")
        ran = deploy(folder, head, store_url, head.address)

    assert ran.code == 1
    assert "elsewhere is running already, elsewhere" in ran.error


@pytest.mark.timeout(600)  # two starts of Ray, which take a minute each where everything is busy
async def test_a_lost_head_takes_no_workflow_with_it(
    head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any], tmp_path: Path
) -> None:
    other = project(tmp_path / "other", flow=OTHER)
    assert deploy(other, head, store_url, head.client_address, "--fuse", "all").json["state"] == "running"
    before = Counter(await weights(store_url))
    weight = int((folder / "rules" / "weight.py").read_text().removeprefix("WEIGHT = "))
    with supervising(head, store_url, tmp_path):
        await send(store_url, *SENSORS)
        head.kill()
        await send(store_url, *SENSORS, "s3")

        head.start()

        await become(
            store_url, dict(before + Counter({"s1": 2 * weight, "s2": 2 * weight, "s3": 3 * weight})), within=180
        )
        until(
            lambda: states(head, folder, store_url) == {"other": "running", "weighing": "running"},
            "both are back",
            within=60,
        )


async def test_a_stopped_one_stays_stopped_and_can_be_removed(
    head: RayHead, store_url: str, folder: Path, deployed: dict[str, Any]
) -> None:
    where = ("--redis", store_url, "-o", "json")

    assert Ran(folder, head, "stop", "weighing", *where).json["was_running"]
    assert states(head, folder, store_url)["weighing"] == "stopped"
    assert Ran(folder, head, "workflows", "remove", "weighing", *where).code == 2
    assert Ran(folder, head, "workflows", "remove", "weighing", "--yes", *where).json["removed"]

    assert "weighing" not in states(head, folder, store_url)
    async with Store(store_url, "weighing") as store:
        assert not [key async for key in store.client.scan_iter(match="hr:*weighing*")]
