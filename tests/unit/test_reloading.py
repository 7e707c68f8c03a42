"""Another version of a workflow while it runs: its code, its states, its processes."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headrace import Context, Event, KafkaSource, Workflow
from headrace.actors.loading import WorkflowImportError, load_workflow
from headrace.actors.reimport import content_version, load_again, user_files
from headrace.actors.spec import CodeRef, Deployment, UnitSpec
from headrace.actors.state_check import prepare_states, review_states
from headrace.actors.store import Store
from headrace.cli.code_watch import CodeWatch
from headrace.workflows.commit import Commit
from headrace.workflows.plan import Plan
from shell_world import ShellWorld, deployment
from waiting import until

FLOW = """
from headrace import ChannelSource, Context, Event, Workflow
import {helper}

def shout(event: Event[str], ctx: Context) -> None: ...

workflow = Workflow("{{name}}", keyed=False)
workflow.source(ChannelSource(str, capacity=10, name="words")).to(workflow.node(shout))
"""


class Project:
    """A folder with a workflow and a module beside it, under names that no other test has."""

    def __init__(self, folder: Path) -> None:
        mark = secrets.token_hex(4)
        self.folder = folder
        self.flow, self.helper = folder / f"flow_{mark}.py", folder / f"helper_{mark}.py"
        self.write("first")
        self.helper.write_text("X = 1\n")

    @property
    def target(self) -> str:
        return str(self.flow)

    def write(self, name: str) -> None:
        self.flow.write_text(FLOW.format(helper=self.helper.stem).format(name=name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Project(tmp_path)


def test_a_saved_file_is_imported_anew(project: Project) -> None:
    _, first = load_workflow(project.target)
    project.write("second")

    _, second = load_again(project.target, project.folder)

    assert (first.name, second.name) == ("first", "second")


def test_the_version_changes_with_a_module_beside_the_workflows(project: Project) -> None:
    load_workflow(project.target)
    before = content_version(project.folder)
    project.helper.write_text("X = 2\n")

    ref, _ = load_again(project.target, project.folder)

    assert user_files(project.folder) == sorted([project.flow, project.helper])
    assert ref.version == content_version(project.folder) != before
    assert sys.modules[project.helper.stem].X == 2


def test_what_fails_to_import_leaves_the_modules_as_they_were(project: Project) -> None:
    load_workflow(project.target)
    before = sys.modules[project.flow.stem]
    project.helper.write_text("X = 1 / 0\n")

    with pytest.raises(WorkflowImportError, match="ZeroDivisionError"):
        load_again(project.target, project.folder)

    assert sys.modules[project.flow.stem] is before
    assert sys.modules[project.helper.stem].X == 1


@pytest.fixture
def watch() -> Iterator[CodeWatch]:
    watching = CodeWatch()
    yield watching
    watching.close()


def changed_by(watch: CodeWatch, path: Path) -> None:
    """Write until it is noticed: when watching has begun can't be known from outside."""

    def noticed() -> bool:
        path.write_text(secrets.token_hex(4))
        return watch.changed()

    until(noticed, f"{path.name} is noticed")


def test_a_save_is_noticed(watch: CodeWatch, tmp_path: Path) -> None:
    watched, other = tmp_path / "a.py", tmp_path / "b.py"
    watch.follow([watched])
    changed_by(watch, watched)
    until(lambda: not watch.changed(), "all is taken")

    other.write_text("b")
    assert not watch.changed()
    watch.follow([watched], any_python=True)
    changed_by(watch, other)


class Count(msgspec.Struct):
    events: int = 0


class Names(msgspec.Struct):
    events: list[str] = []


def plan_with(state: type) -> Plan:
    def count(event: Event[str], ctx: Context) -> None: ...

    count.__annotations__["ctx"] = Context[state]  # type: ignore[valid-type]
    workflow = Workflow("words")
    workflow.source(KafkaSource("words", str)).to(workflow.node(count))
    return workflow.compile()


def test_states_of_another_type_are_found_and_forgotten(redis_url: str) -> None:
    async def look() -> tuple[list[str], list[str], int, list[bytes | None]]:
        async with Store(redis_url, "words") as store:
            owner = (await store.acquire(0, term=1, placement=1, worker="worker/0")).owner
            runs = {
                key: ["status", "running", "number", "1", "node:count", state]
                for key, state in (("a", '{"events":3}'), ("b", '{"events":[]}'))
            }
            await store.commit(0, owner, Commit(sequence=1, runs=runs))
            old = [row.run for row in (await review_states(store, plan_with(Count))).misfits]
            new = [row.sentence for row in (await review_states(store, plan_with(Names))).misfits]
            count = await prepare_states(store, plan_with(Names), drop=["count"])
            return old, new, count, [(await store.run(0, key)).get("node:count") for key in "ab"]

    fits_old, fits_new, count, left = asyncio.run(look())

    assert fits_old == ["b"]
    assert fits_new == ["the state of count of run 'a' does not fit: Expected `array`, got `int` - at `$.events`"]
    assert (count, left) == (1, [None, b'{"events":[]}'])


def another(spec: Deployment, *, nodes: int) -> Deployment:
    units = tuple(UnitSpec(index=index, name=f"n{index}") for index in range(nodes))
    code = CodeRef(folder="/", module="m", version="v2")
    return msgspec.structs.replace(spec, units=units, code=code)


def drained(world: ShellWorld) -> None:
    world.roster.holding = True
    world.step()
    assert not [shell for shell in world.shells.values() if shell.owned]


def test_spares_without_code_take_the_roles_of_the_next_version() -> None:
    world = ShellWorld(deployment(late_code=True, spares=3))
    world.settle()
    before = {shell.actor for shell in world.shells.values() if shell.role}
    spares = {shell.actor for shell in world.shells.values() if not shell.role}
    drained(world)

    world.roster.replace(another(world.roster.deployment, nodes=1), world.now)
    world.settle(2)

    after = {shell.actor for shell in world.shells.values() if shell.role}
    assert after == spares
    assert not before & set(world.shells), "whoever has the old code is gone"
    assert (world.status().version, world.status().ready) == ("v2", True)


@pytest.mark.parametrize("late", [True, False])
def test_a_version_with_more_nodes_gets_them_and_processes_with_old_code_none_of_its_roles(late: bool) -> None:
    world = ShellWorld(deployment(late_code=late, spares=1))
    world.settle()
    old = {shell.actor for shell in world.shells.values() if shell.version == "v1"}
    drained(world)

    world.roster.replace(another(world.roster.deployment, nodes=3), world.now)
    status = world.settle()

    assert status.state == "running"
    assert {role.role for role in status.roles if role.role} == {
        "worker/0", "worker/1", "node/0/0", "node/1/0", "node/2/0",
    }  # fmt: skip
    assert not old & set(world.shells)


def test_nothing_is_placed_while_a_version_is_held() -> None:
    world = ShellWorld(deployment())
    world.settle()

    drained(world)
    world.settle(4)

    assert not [shell for shell in world.shells.values() if shell.owned]


def test_a_supervisor_that_follows_takes_over_spares_without_code() -> None:
    world = ShellWorld(deployment(late_code=True, spares=2))
    world.settle()
    spares = {shell.actor for shell in world.shells.values() if not shell.role}

    world.supervisor_dies()
    world.settle()

    assert spares <= set(world.shells)
