"""Examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"workflows": "headrace.workflows", "sources": "headrace.sources", "actors": "headrace.actors",
           "gateway": "headrace.gateway", "src/headrace": "headrace"}  # fmt: skip


def modules() -> list[str]:
    """Names of all modules with an example."""
    names: list[str] = []
    for folder, package in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            if ">>>" in file.read_text():
                parts = file.relative_to(ROOT / folder).with_suffix("").parts
                names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return sorted(set(names))


@pytest.mark.parametrize("module", modules())
def test_examples_in_docstrings_hold(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))

    assert results.attempted > 0
    assert results.failed == 0
