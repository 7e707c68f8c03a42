"""What errors mean, why they happen and what to do: a table for each code, in files beside this one.

`headrace explain CODE` prints them; the documentation has a page for each, made from the same files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Final

import msgspec

KINDS: Final = {
    "errors": "error",
    "build": "mistake in a workflow",
    "problems": "problem of a running workflow",
    "dead_letters": "reason of a dead letter",
}
"""File -> what its codes are."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What one code means."""

    code: str
    kind: str
    """`errors`, `build`, `problems` or `dead_letters`."""
    means: str
    because: tuple[str, ...] = ()
    do: tuple[str, ...] = ()

    @property
    def markdown(self) -> str:
        """As a page."""
        lines = [f"# {self.code}", "", f"*{KINDS[self.kind].capitalize()}.* {self.means}"]
        for title, rows in (("Why", self.because), ("What to do", self.do)):
            if rows:
                lines += ["", f"## {title}", "", *(f"- {row}" for row in rows)]
        return "\n".join(lines) + "\n"


def written(code: str) -> str:
    """A code as the files have it: words with hyphens, whoever writes them with underscores."""
    return code.strip().lower().replace("_", "-")


@lru_cache(maxsize=1)
def explanations() -> tuple[Explanation, ...]:
    """All of them, by kind and code."""
    return tuple(_read())


def explain(code: str) -> list[Explanation]:
    """What is known of a code: several kinds may use the same word; empty if none does."""
    wanted = written(code)
    return [row for row in explanations() if row.code == wanted]


def _read() -> Iterator[Explanation]:
    for kind in KINDS:
        text = files("headrace.explanations").joinpath(f"{kind}.toml").read_text(encoding="utf-8")
        for code, row in sorted(tomllib.loads(text).items()):
            yield msgspec.convert({**row, "code": code, "kind": kind}, Explanation)
