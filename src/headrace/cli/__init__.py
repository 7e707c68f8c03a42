"""The command `headrace`.

Read in this order: `app` (the command itself), `verbs` (what one types) with `options`, `exits` (exit codes),
`inspection` (check, graph), `session` (dev and run: a workflow from its start to its end), `servers` and
`waiting` (what it needs), `project` (the folder `.headrace`), `screen`, `table` and `meter` (what is shown),
`stops` (how stop reaches dev and run), `overview` (status and stop).
"""

from __future__ import annotations

import os
from typing import Final

NAME: Final = "headrace"
COMPLETE: Final = "_HEADRACE_COMPLETE"
"""Set by a shell that asks how a line could go on."""


def main() -> None:
    """Entry point of the command; ends the process with one of the exit codes of `exits.ExitCode`."""
    from headrace.cli.interrupts import ending_at_once  # noqa: PLC0415

    with ending_at_once():
        from headrace.cli.app import app  # noqa: PLC0415  importing the package loads no framework

        if COMPLETE in os.environ:
            from headrace.cli.completion import prepare  # noqa: PLC0415

            prepare()
        app(prog_name=NAME)
