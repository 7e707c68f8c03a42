"""What `import headrace` gives, and what it must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import headrace

HEAVY = ["ray", "aiokafka", "redis", "fastapi", "uvicorn", "structlog", "typer", "rich"]


@pytest.mark.parametrize(
    ("names", "loaded"), [("Workflow, KafkaSource", HEAVY), ("__name__", [*HEAVY, "msgspec", "re"])]
)
def test_importing_the_package_is_light(names: str, loaded: list[str]) -> None:
    code = f"import sys; from headrace import {names}; print([name for name in {loaded} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", headrace.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    found = getattr(headrace, name)

    assert found.__doc__


def test_what_type_checkers_see_is_what_is_imported() -> None:
    tree = ast.parse(Path(headrace.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }

    assert seen == headrace._WHERE
    assert sorted(seen) == headrace.__all__


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = headrace.Nothing
