"""The command `headrace`.

Read in this order: `app` (the command itself), `verbs` (what one types) with `options`, `exits` (exit codes),
`inspection` (check, graph), `session` (dev and run: a workflow from its start to its end), `servers` and
`waiting` (what it needs), `project` (the folder `.headrace`), `screen`, `table` and `meter` (what is shown),
`stops` (how stop reaches dev and run), `overview` (status and stop).
"""

from __future__ import annotations

import os
import sys

NAME = "headrace"
COMPLETE = "_HEADRACE_COMPLETE"
"""Set by a shell that asks how a line could go on."""
INTERRUPTED = 130
"""See `exits.ExitCode`, which takes longer to import than this package may."""


def main() -> None:
    """Entry point of the command; ends the process with one of the exit codes of `exits.ExitCode`.

    Up to here nothing has been imported but what Python itself starts with: from its first line on an interrupt is one
    line and the end, and no traceback.
    """
    try:
        import signal  # noqa: PLC0415  not before it can be interrupted

        # Before anything else is imported: a KeyboardInterrupt may come where Python ignores it (in a callback of the
        # import system), and is lost then.
        signal.signal(signal.SIGINT, end_at_once)
        _run()
    except KeyboardInterrupt:  # before the signal had a handler of ours
        end_at_once()


def _run() -> None:
    from headrace.cli.app import app  # noqa: PLC0415  importing the package loads no framework

    if COMPLETE in os.environ:
        from headrace.cli.completion import prepare  # noqa: PLC0415

        prepare()
    app(prog_name=NAME)


def end_at_once(*_: object) -> None:
    """Handler of a signal, too: says so, and ends the process without undoing anything."""
    sys.stdout.flush()
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
