"""The command: its global options, and the modules that have its verbs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from headrace.cli.exits import exit_code_of
from headrace.cli.screen import Screen
from headrace.cli.verbs import looking, operating, running
from headrace.logs import FORMAT, LEVEL, Format, Level, configure_logs
from headrace.workflows.errors import HeadraceError


class _Verbs(TyperGroup):
    """Turns errors of ours into a message and an exit code, in one place."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HeadraceError as error:
            if ctx.params.get("debug"):
                raise
            Screen().complain(str(error))
            raise typer.Exit(int(exit_code_of(error))) from error


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 problems, 2 usage, 3 server unreachable or nothing running, 130 interrupted.",
)


def _print_version(asked: bool) -> None:
    if asked:
        Screen().raw(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def headrace(
    debug: Annotated[bool, typer.Option("--debug", help="Show where errors come from, and all log lines.")] = False,
    log_level: Annotated[
        Level, typer.Option("--log-level", envvar=LEVEL, help="Log lines from this level on.")
    ] = "warning",
    log_format: Annotated[
        Format,
        typer.Option("--log-format", envvar=FORMAT, help="`auto`: for people on a terminal, else JSON."),
    ] = "auto",
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Event-driven workflows on Ray actors.

    Try one out:  headrace dev flow.py
    """
    del show_version  # its callback has done it
    configure_logs("debug" if debug else log_level, log_format)


_GROUPS: Final = (looking, running, operating)
"""In the order of `headrace --help`."""

for _group in _GROUPS:
    _group.register(app)
