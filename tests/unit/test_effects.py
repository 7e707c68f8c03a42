"""Every durable effect has a name, and a process can be stopped before or after each."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace.workflows
from headrace.workflows.effects import CRASH_POINTS, CrashPlan, Effect, arm, effect, plan_of, point

ROOT = Path(headrace.workflows.__file__).resolve().parent.parent
FOLDERS = ("actors", "sources", "gateway")
WRITES = frozenset(
    {
        "execute_command",
        "eval",
        "evalsha",
        "fcall",
        "set",
        "setex",
        "setnx",
        "mset",
        "getset",
        "getdel",
        "incr",
        "incrby",
        "decr",
        "append",
        "delete",
        "unlink",
        "expire",
        "pexpire",
        "persist",
        "rename",
        "hset",
        "hsetnx",
        "hmset",
        "hincrby",
        "hdel",
        "xadd",
        "xtrim",
        "xdel",
        "xack",
        "rpush",
        "lpush",
        "lpop",
        "rpop",
        "blpop",
        "brpop",
        "ltrim",
        "lrem",
        "sadd",
        "srem",
        "zadd",
        "zrem",
        "publish",
        "spublish",
        "flushdb",
        "flushall",
        "send_and_wait",
        "send_batch",
        "create_topics",
        "delete_topics",
    }
)
"""Methods of the clients of Redis and Kafka that change something there."""
CARRIER = "at_owner"
"""Function that takes a command to its server: a write unless the command's name says that it reads."""
TRANSPORT = Path("sources/routing.py")
"""The module of that function. What it carries has been named by whoever calls it."""
CLIENTS = ("client", "redis", "untyped", "pipe", "producer", "admin", "valkey")
"""What variables are called that hold one."""


class Finder(ast.NodeVisitor):
    """Finds calls that write, and whether they stand in a `with effect(...)` block of the same function."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth = 0
        self.found: list[str] = []
        self.unnamed: list[str] = []

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> None:
        named = any(_is_effect(item.context_expr) for item in node.items)
        self._depth += named
        self.generic_visit(node)
        self._depth -= named

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside, self._depth = self._depth, 0
        self.generic_visit(node)
        self._depth = outside

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.With | ast.AsyncWith):
            self._visit_with(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._visit_function(node)
        elif isinstance(node, ast.Call):
            self._visit_call(node)
        else:
            self.generic_visit(node)

    def _visit_call(self, node: ast.Call) -> None:
        if _writes(node):
            place = f"{self._path}:{node.lineno}  {ast.unparse(node)[:60]}"
            (self.found if self._depth else self.unnamed).append(place)
        self.generic_visit(node)


def _is_effect(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "effect"


def _writes(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name) and call.func.id == CARRIER:
        return not ast.unparse(call.args[2]).startswith(("('EVAL_RO'", "('EVALSHA_RO'", "('XREAD'"))
    if not isinstance(call.func, ast.Attribute):
        return False
    owner = ast.unparse(call.func.value).lower()
    if not any(client in owner.split(".")[-1] for client in CLIENTS):
        return False
    return call.func.attr in WRITES or (call.func.attr == "send" and "producer" in owner)


def search(source: str, path: Path = Path("example.py")) -> Finder:
    finder = Finder(path)
    finder.visit(ast.parse(source))
    return finder


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if path != ROOT / TRANSPORT)


def test_no_durable_effect_is_without_a_name() -> None:
    finders = [search(path.read_text(), path.relative_to(ROOT)) for path in modules()]

    assert [place for finder in finders for place in finder.unnamed] == []
    assert sum(len(finder.found) for finder in finders) > 5


@pytest.mark.parametrize(
    ("source", "unnamed"),
    [
        ("with effect(Effect.COMMIT):\n    await self.client.set('a', 1)", 0),
        ("async with lock, effect(Effect.COMMIT):\n    pass\nawait self.client.set('a', 1)", 1),
        ("with effect(Effect.COMMIT):\n    def later():\n        client.xadd('s', {})", 1),
        ("await self._producer.send('alerts', b'')", 1),
        ("await at_owner(client, key, ('EVAL', script))", 1),
        ("await at_owner(client, key, ('EVAL_RO', script))", 0),
        ("self._stopped.set()\nself._client.get('a')", 0),
    ],
)
def test_the_search_finds_what_it_should(source: str, unnamed: int) -> None:
    assert len(search(source).unnamed) == unnamed


def test_steps_between_effects_are_known_points() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "point":
                assert isinstance(node.args[0], ast.Constant), path
                assert node.args[0].value in CRASH_POINTS, path


def test_every_effect_can_be_crashed_on_both_sides() -> None:
    assert {f"{side}:{kind.value}" for kind in Effect for side in ("before", "after")} < set(CRASH_POINTS)


@pytest.fixture
def passed() -> Iterator[list[str]]:
    seen: list[str] = []
    yield seen
    arm(None)


@pytest.mark.parametrize(("crash_at", "left"), [("after:commit:2", 2), ("before:commit", 0), ("after:pull", 0)])
def test_a_crash_comes_at_the_occurrence_asked_for(passed: list[str], crash_at: str, left: int) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    arm(CrashPlan(crash_at, crash=crash))

    with pytest.raises(Crash):
        for number in range(5):
            point("after:pull")
            with effect(Effect.COMMIT):
                passed.append(f"commit {number}")

    assert len(passed) == left


def test_an_effect_that_failed_is_not_passed(passed: list[str]) -> None:
    arm(CrashPlan("after:commit", crash=lambda: passed.append("crash")))

    with pytest.raises(OSError, match="away"), effect(Effect.COMMIT):
        raise OSError("away")

    assert passed == []


def test_an_unknown_point_is_refused() -> None:
    with pytest.raises(ValueError, match="no crash point 'after:lunch'"):
        plan_of({"HEADRACE_CRASH_AT": "after:lunch:2"})


def test_the_process_dies_as_by_a_power_cut_but_once(tmp_path: Path) -> None:
    marker = tmp_path / "crashed"
    program = (
        "from headrace.workflows.effects import Effect, effect\n"
        "for _ in range(3):\n    with effect(Effect.COMMIT): print('commit', flush=True)\n"
    )
    environment = {"HEADRACE_CRASH_AT": "after:commit:2", "HEADRACE_CRASH_MARKER": str(marker)}

    runs = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]

    assert [(run.returncode, run.stdout.count("commit")) for run in runs] == [(-9, 2), (0, 3)]
