"""`doctor`: looks at everything that a workflow needs, says what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.text import Text

from headrace.cli.doctor_here import look_here
from headrace.cli.doctor_servers import look_at_servers
from headrace.cli.exits import ExitCode
from headrace.cli.findings import Check
from headrace.cli.screen import Screen
from headrace.settings import Loaded

_MARKS: Final = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("fail", "red"), "skip": ("-   ", "dim")}
_WIDTH: Final = 15


def examine(loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Print what was found, each with its cure; PROBLEMS if something would keep a workflow from running."""
    checks: list[Check] = []

    def add(check: Check) -> None:
        checks.append(check)
        if not as_json:
            _show(check, screen)

    for check in look_here(loaded):
        add(check)
    for check in asyncio.run(look_at_servers(loaded.settings)):
        add(check)
    failed = sum(check.outcome == "fail" for check in checks)
    if as_json:
        screen.json({"ok": not failed, "checks": checks})
    elif failed:
        screen.say(f"{failed} of {len(checks)} would keep a workflow from running.", "bold red")
    else:
        screen.say("Nothing would keep a workflow from running.", "green")
    return ExitCode.PROBLEMS if failed else ExitCode.OK


def _show(check: Check, screen: Screen) -> None:
    mark, style = _MARKS[check.outcome]
    screen.explain(Text.assemble((mark, style), "  ", (f"{check.name:{_WIDTH}}", "bold"), "  "), check.sentence)
    if check.cure:
        screen.explain("      ", Text(check.cure, "cyan"))
