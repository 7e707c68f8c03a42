"""`headrace new`: what it makes works as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.app import app
from headrace.gateway.settings import gateway_settings
from headrace.settings import load_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
MADE = {
    "flow.py", "test_flow.py", "headrace.toml", "pyproject.toml", "requirements.txt", "Dockerfile", "README.md",
    ".gitignore", ".dockerignore",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ["new", *arguments])
    return said.exit_code, said.stdout + said.stderr


def test_a_new_project_is_complete_and_its_next_steps_are_told(folder: Path) -> None:
    code, said = new("cellar-watch")

    project = folder / "cellar-watch"
    assert code == 0
    assert {path.name for path in project.iterdir()} == MADE
    assert not [path.name for path in project.iterdir() if "{{" in path.read_text()]
    assert "cd cellar-watch\n" in said
    assert "headrace dev flow.py" in said
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == "cellar-watch"
    assert load_settings(project, environment={}).settings.kafka == {"bootstrap_servers": "localhost:9092"}
    assert load_settings(project, environment={}, profile="prod").settings.workers == 2


@pytest.mark.parametrize(("template", "more"), [("approval", {"receiver.py"}), ("chat", {"alice.txt", "page.html"})])
def test_templates_with_requests_are_complete_too(folder: Path, template: str, more: set[str]) -> None:
    code, said = new("front-desk", "-t", template)

    project = folder / "front-desk"
    assert code == 0
    assert {path.name for path in project.iterdir()} == MADE | more
    assert not [path.name for path in project.iterdir() if "{{" in path.read_text()]
    assert "headrace dev flow.py --serve" in said
    settings = load_settings(project, environment={}).settings
    assert gateway_settings(settings.gateway).port == 8080
    assert load_settings(project, environment={}, profile="prod").settings.workers == 2


@pytest.mark.parametrize("template", ["iot", "approval", "chat"])
@pytest.mark.parametrize(
    "command", [("pytest", "-q", "-p", "no:cacheprovider"), ("headrace", "check", "flow.py"), ("ruff", "check", ".")]
)
def test_the_project_works_as_it_stands(folder: Path, template: str, command: tuple[str, ...]) -> None:
    new("thermometers", "-t", template)

    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder / "thermometers", capture_output=True, text=True, check=False,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("example", "template", "file"),
    [("approval.py", "approval", "flow.py"), ("receiver.py", "approval", "receiver.py"),
     ("chat.py", "chat", "flow.py"), ("page.html", "chat", "page.html"),
     ("alice.txt", "chat", "alice.txt")],
)  # fmt: skip
def test_the_examples_are_what_templates_make(folder: Path, example: str, template: str, file: str) -> None:
    name = {"approval": "orders", "chat": "chat"}[template]
    new(name, "-t", template)

    assert (EXAMPLES / example).read_text() == (folder / name / file).read_text()


def test_nothing_is_written_over(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "flow.py").write_text("mine")

    code, said = new("mine")

    assert code == 2
    assert "mine is there already" in said
    assert (folder / "mine" / "flow.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("My_Flow",), "headrace new my-flow"),
        (("flow", "-t", "iott"), "Did you mean iot?"),
        (("flow", "-t", "web"), "There is no template web. There are: approval, chat, iot."),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_cure(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    code, text = new(*arguments)

    assert code == 2
    assert said in text
    assert not list(folder.iterdir())
