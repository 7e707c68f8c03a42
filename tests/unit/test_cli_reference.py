"""The reference of the command is complete: every verb and every option of `--help` is on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main

from headrace.cli.app import app
from headrace.cli.exits import ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()


def verbs(command: Any, words: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Every verb that can be typed, with its command."""
    if not hasattr(command, "commands"):
        return [(" ".join(words), command)]
    return [found for name, inner in command.commands.items() for found in verbs(inner, (*words, name))]


COMMON = ("--help", "--redis", "--output")
VERBS = dict(verbs(typer.main.get_command(app)))


def section_of(verb: str) -> str:
    """The part of the page about a verb; its heading may name several: `workflows list|status`."""
    wanted = verb.split()
    for part in PAGE.split("\n## ")[1:]:
        named = part.partition("\n")[0].strip("`").split()[1 : len(wanted) + 1]
        if len(named) == len(wanted) and all(
            word in name.strip("`").split("|") for word, name in zip(wanted, named, strict=True)
        ):
            return part
    return ""


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_has_a_section_with_all_its_options(verb: str) -> None:
    section = section_of(verb)
    options = [option for parameter in VERBS[verb].params for option in parameter.opts if option.startswith("--")]

    assert section, f"there is no section about headrace {verb}"
    assert [option for option in options if option not in section and option not in COMMON] == []


@pytest.mark.parametrize("option", COMMON)
def test_options_that_many_verbs_have_are_described_before_them(option: str) -> None:
    assert option in PAGE.partition("\n## ")[0]


@pytest.mark.parametrize("option", ["--debug", "--profile", "--log-level", "--log-format"])
def test_options_of_the_command_itself_are_described(option: str) -> None:
    assert option in PAGE


@pytest.mark.parametrize("code", list(ExitCode))
def test_exit_codes_are_described(code: ExitCode) -> None:
    assert f"| {int(code)} |" in PAGE
