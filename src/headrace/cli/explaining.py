"""`explain`: what a code means, from the files that the documentation is made of, too."""

from __future__ import annotations

from difflib import get_close_matches

from rich.markdown import Markdown

from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.screen import Screen
from headrace.explanations import KINDS, Explanation, explain, explanations, written


def explain_code(code: str | None, screen: Screen, *, as_json: bool = False) -> ExitCode:
    """Print what is known of a code, or the list of all.

    Raises:
        UsageError: Nobody knows the code; names what is close to it.
    """
    found = list(explanations()) if code is None else explain(code)
    if code is not None and not found:
        close = get_close_matches(written(code), sorted({row.code for row in explanations()}), n=3)
        meant = f" Did you mean {' or '.join(close)}?" if close else " `headrace explain` lists all."
        raise UsageError(f"There is no code {code!r}.{meant}")
    if as_json:
        screen.json(found)
    elif code is None:
        _list(found, screen)
    else:
        for row in found:
            screen.show(Markdown(row.markdown))
    return ExitCode.OK


def _list(found: list[Explanation], screen: Screen) -> None:
    for kind, name in KINDS.items():
        codes = [row.code for row in found if row.kind == kind]
        screen.say(f"{name} ({len(codes)})", "bold")
        screen.explain("  ", ", ".join(codes))
