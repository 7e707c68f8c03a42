"""Names of nodes that were given none."""

from __future__ import annotations

import re
from typing import Any

from headrace.workflows.mapping import Map
from headrace.workflows.nodes import BatchNode, Node


def default_name(user: Any) -> str:
    """The function's name, or the class's in snake case."""
    while hasattr(user, "func") and not hasattr(user, "__name__"):
        user = user.func
    if isinstance(user, Map):
        return str(user.__name__)
    if isinstance(user, (Node, BatchNode)) or not hasattr(user, "__name__"):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(user).__name__).lower()
    return str(user.__name__)
