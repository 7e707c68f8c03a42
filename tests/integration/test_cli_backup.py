"""`headrace backup`, `restore` and `reset` as they are typed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from brokers import Broker, Topics
from headrace.actors.deployments import put_deployment
from headrace.actors.spec import CodeRef, Deployment, supervisor_name
from headrace.actors.store import Store
from headrace.cli.app import app
from headrace.cli.exits import ExitCode
from headrace.workflows.commit import Commit
from headrace.workflows.keyspace import lease_key
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

Typed = Callable[..., str]


@pytest.fixture
def typed(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types a verb in a folder without a project; returns what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_REDIS_URL", redis_url)

    def type_(*words: str, code: int = ExitCode.OK) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, done.output
        return done.output

    return type_


async def fill(url: str, *, kafka: str = "", topic: str = "") -> None:
    async with Store(url, "heat") as store:
        sources = (SourceDescriptor(kind="kafka", name="readings", topic=topic),) if topic else ()
        await store.publish_workflow(WorkflowDescriptor(name="heat", partitions=1, sources=sources))
        code = CodeRef(folder="", module="flow", version="1", bundle=True)
        options = {"bootstrap_servers": kafka} if kafka else {}
        await put_deployment(store, Deployment(workflow="heat", code=code, redis_url=url, partitions=1, kafka=options))
        owner = (await store.acquire(0, term=await store.next_term("heat"), placement=1, worker="w")).owner
        await store.commit(0, owner, Commit(sequence=1, positions={}, runs={"a": ["status", "running"]}))


async def hold_lease(url: str, *, held: bool = True) -> None:
    async with Store(url, "heat") as store:
        key = lease_key(supervisor_name("heat"))
        await (store.client.set(key, "x") if held else store.client.delete(key))


async def run_of(url: str) -> dict[str, bytes]:
    async with Store(url, "heat") as store:
        return await store.run(0, "a")


async def remove(url: str) -> None:
    async with Store(url, "heat") as store:
        await store.remove_workflow("heat")


def test_a_workflow_goes_to_a_file_and_comes_back(redis_url: str, typed: Typed, tmp_path: Path) -> None:
    asyncio.run(fill(redis_url))

    assert "heat is in heat.backup" in typed("backup", "heat", "heat.backup")
    asyncio.run(remove(redis_url))
    assert "Nothing was written (--dry-run)" in typed("restore", "heat.backup", "--dry-run")
    assert asyncio.run(run_of(redis_url)) == {}
    said = json.loads(typed("restore", "heat.backup", "-o", "json"))

    assert (said["workflow"], said["restored"]) == ("heat", True)
    assert asyncio.run(run_of(redis_url)) == {"status": b"running"}
    assert [path.name for path in tmp_path.iterdir()] == ["heat.backup"]


def test_what_is_there_is_replaced_only_when_that_is_said_and_agreed_to(redis_url: str, typed: Typed) -> None:
    asyncio.run(fill(redis_url))
    typed("backup", "heat", "heat.backup")

    assert "--force" in typed("backup", "heat", "heat.backup", code=ExitCode.USAGE)
    typed("backup", "heat", "heat.backup", "--force")
    assert "--replace" in typed("restore", "heat.backup", code=ExitCode.PROBLEMS)
    assert "add --yes" in typed("restore", "heat.backup", "--replace", code=ExitCode.USAGE)
    assert "heat is restored, and stopped" in typed("restore", "heat.backup", "--replace", "--yes")


def test_a_running_workflow_is_refused_with_the_cure(redis_url: str, typed: Typed) -> None:
    asyncio.run(fill(redis_url))
    asyncio.run(hold_lease(redis_url))

    assert "headrace stop heat" in typed("backup", "heat", "heat.backup", code=ExitCode.PROBLEMS)
    assert "headrace stop heat" in typed("reset", "heat", "--to", "earliest", code=ExitCode.PROBLEMS)


def test_a_file_that_is_none_is_refused(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("something else")

    assert "There is no file" in typed("restore", "heat.backup", code=ExitCode.USAGE)
    assert "is no backup of Headrace" in typed("restore", "other", code=ExitCode.PROBLEMS)


def test_a_reset_tells_what_it_would_do_and_asks(redis_url: str, kafka: Broker, topic: Topics, typed: Typed) -> None:
    asyncio.run(fill(redis_url, kafka=kafka.bootstrap, topic=topic(1, name="readings")))

    assert "readings/0: never read -> 0" in typed("reset", "heat", "--to", "earliest", "--dry-run")
    assert "1 keys go, for good" in typed("reset", "heat", "--to", "latest", "--state", "drop", "--dry-run")
    assert "add --yes" in typed("reset", "heat", "--to", "earliest", code=ExitCode.USAGE)
    assert asyncio.run(run_of(redis_url)) != {}

    said = json.loads(typed("reset", "heat", "--to", "earliest", "--state", "drop", "--yes", "-o", "json"))

    assert said["states_dropped"] == 1
    assert asyncio.run(run_of(redis_url)) == {}


@pytest.mark.parametrize("words", [["soon"], ["readings/x=3"], ["readings/3=1", "earliest"]])
def test_where_to_is_explained_when_it_is_not_understood(redis_url: str, typed: Typed, words: list[str]) -> None:
    asyncio.run(fill(redis_url))
    options = [part for word in words for part in ("--to", word)]

    assert "TOPIC/3=1734" in typed("reset", "heat", *options, code=ExitCode.USAGE)
