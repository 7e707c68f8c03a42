"""Workflows that tests run on the test kit and on a cluster.

A module here has functions that make a workflow with a name of its own: `temperature("k3f")` makes
`temperature-k3f`, with topics that end in `-k3f`. Other processes find it as the attribute
`temperature__k3f` of the module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

from headrace import Workflow


class Flow(Protocol):
    """A workflow and its handles."""

    @property
    def workflow(self) -> Workflow: ...


def found_in(module: str) -> Callable[[str], Workflow]:
    """The `__getattr__` of a module: `<function>__<unique>` is what that function makes."""

    def find(attribute: str) -> Workflow:
        function, _, unique = attribute.partition("__")
        if not (function and unique):
            raise AttributeError(f"module {module!r} has no attribute {attribute!r}")
        make: Callable[[str], Flow] = getattr(importlib.import_module(module), function)
        return make(unique).workflow

    return find
