"""Where in a TOML file a key stands: Python's reader does not tell.

It need only be right for what the reader has accepted, and may say that it does not know.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

_HEADER: Final = re.compile(r"^\s*\[{1,2}(?P<name>[^\[\]]+)\]{1,2}\s*(#.*)?$")
_KEY: Final = re.compile(
    r"""^\s*(?P<key>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Number of the line that sets `path`, from 1; else of the nearest table around it; None when it is not found."""
    header: tuple[str, ...] = ()
    best, found = 0, None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _HEADER.match(line):
            header = _parts(match["name"])
            here = header
        elif match := _KEY.match(line):
            here = header + _parts(match["key"])
        else:
            continue
        common = min(len(here), len(path))
        if common > best and here[:common] == path[:common]:
            best, found = common, number
    return found


def _parts(key: str) -> tuple[str, ...]:
    """The names of a dotted key."""
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts = []
    while isinstance(node, dict):
        name, node = next(iter(node.items()))
        parts.append(name)
    return tuple(parts)
