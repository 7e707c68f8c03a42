"""Every code that users can meet has an explanation, and every explanation is of a code that exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import headrace
from documents import ROOT
from headrace.cli.app import app
from headrace.explanations import KINDS, Explanation, explain, explanations, written
from headrace.workflows.errors import HeadraceError

FOLDERS = ("actors", "sources", "gateway", "workflows", "src/headrace/cli", "src/headrace/metrics")


def classes() -> Iterator[type[HeadraceError]]:
    """All errors of the package."""
    for module in pkgutil.walk_packages(headrace.__path__, "headrace."):
        if ".templates" not in module.name and not module.name.endswith("__main__"):
            found = importlib.import_module(module.name)
            for _, cls in inspect.getmembers(found, inspect.isclass):
                if issubclass(cls, HeadraceError) and cls.__module__ == module.name:
                    yield cls


def calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    """All calls of functions or methods of these names in our code."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
                    yield path, node


def texts(*nodes: ast.AST | None) -> set[str]:
    """The literal texts among these."""
    return {
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value
    }


def build_codes() -> set[str]:
    added = {code for _, call in calls("add") if len(call.args) >= 5 for code in texts(call.args[2])}
    faults = {
        code for _, call in calls("Fault", "FaultError", "wrong") if len(call.args) == 3 for code in texts(call.args[0])
    }
    returned = {  # `return "no-action", message, cure`
        code
        for path in (ROOT / "workflows" / "routing.py", ROOT / "workflows" / "validate_parts.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 3
        for code in texts(node.value.elts[0])
    }
    return {code for code in added | faults | returned if code == code.lower() and " " not in code}


def problem_words() -> set[str]:
    told = {
        word
        for _, call in calls("on_problem", "_problem", "tell", "_on_problem")
        if len(call.args) >= 2
        for word in texts(call.args[0])
    }
    made = {
        word for _, call in calls("Problem") for key in call.keywords if key.arg == "word" for word in texts(key.value)
    }
    return told | made


def known(kind: str) -> set[str]:
    return {row.code for row in explanations() if row.kind == kind}


INTERNAL = {"role", "control", "unanswered", "process", "store", "code"}
"""Words between processes, which no status shows for longer than a moment."""


def test_every_error_has_an_explanation() -> None:
    missing = {cls.code for cls in classes()} - known("errors")

    assert missing == set()


def test_every_mistake_of_a_workflow_has_an_explanation() -> None:
    codes = build_codes()

    assert len(codes) > 15, "they are found"
    assert codes - known("build") == set()


def test_every_problem_of_a_running_workflow_has_an_explanation() -> None:
    words = {written(word) for word in problem_words()} - INTERNAL

    assert len(words) > 8, "they are found"
    assert words - known("problems") == set()


def test_every_reason_of_the_reference_has_an_explanation() -> None:
    page = (ROOT / "docs" / "reference" / "dead-letters.md").read_text()
    reasons = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}

    assert reasons == known("dead_letters")


@pytest.mark.parametrize("row", explanations(), ids=lambda row: f"{row.kind}/{row.code}")
def test_an_explanation_says_what_it_means_and_what_to_do(row: Explanation) -> None:
    assert row.kind in KINDS
    assert row.means.endswith(".")
    assert row.do, "somebody who reads it wants to do something"
    assert row.code == written(row.code)


def test_a_code_may_be_written_as_it_was_shown() -> None:
    assert [row.kind for row in explain("Kafka_Unreachable")] == ["problems"]
    assert [row.kind for row in explain("key")] == ["build", "dead_letters"]


def test_the_command_explains_and_guesses_what_was_meant() -> None:
    explained = CliRunner().invoke(app, ["explain", "no-route"])
    misspelled = CliRunner().invoke(app, ["explain", "no-rute"])

    assert explained.exit_code == 0
    assert ".to(None)" in explained.output
    assert misspelled.exit_code == 2
    assert "no-route" in misspelled.output
