"""The command: its global options, and the modules that have its verbs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from headrace.cli.configured import hoisted
from headrace.cli.exits import ExitCode, exit_code_of
from headrace.cli.interrupts import raising
from headrace.cli.screen import Screen
from headrace.cli.verbs import (
    browsing,
    configuring,
    creating,
    deploying,
    keeping,
    keys,
    looking,
    managing,
    measuring,
    operating,
    running,
    serving,
)
from headrace.settings.model import Format, Level
from headrace.workflows.errors import HeadraceError

_HELP: Final = "headrace.help"


class _Verbs(TyperGroup):
    """Turns errors of ours into a message and an exit code, and takes its own options after the verb, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether only help is wanted: that needs no logs."""
        ctx.meta[_HELP] = not {"-h", "--help"}.isdisjoint(args)
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            with raising():
                return super().invoke(ctx)
        except HeadraceError as error:
            if ctx.params.get("debug"):
                raise
            Screen().complain(str(error), code=error.code if _is_explained(error) else "")
            raise typer.Exit(int(exit_code_of(error))) from error
        except KeyboardInterrupt:
            Screen().complain("interrupted")
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None


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
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where errors come from, and all log lines.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Settings of this profile, see `headrace settings`.")
    ] = None,
    log_level: Annotated[Level | None, typer.Option("--log-level", help="Log lines from this level on.")] = None,
    log_format: Annotated[
        Format | None, typer.Option("--log-format", help="`auto`: for people on a terminal, else JSON.")
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Event-driven workflows on Ray actors.

    Begin with:  headrace new thermometers

    These options may also be typed after the verb.
    """
    del profile, show_version  # `configure` reads the one; the callback of the other has done it
    if not ctx.meta[_HELP]:
        from headrace.logs import configure_logs  # noqa: PLC0415  takes a tenth of a second

        configure_logs("debug" if debug else log_level or "warning", log_format or "auto")


def _is_explained(error: HeadraceError) -> bool:
    """Whether there is more to say than the sentence, which for usage tells what to type."""
    from headrace.explanations import explain  # noqa: PLC0415  only needed when something is wrong

    return exit_code_of(error) not in (ExitCode.USAGE, ExitCode.INTERRUPTED) and bool(explain(error.code))


_GROUPS: Final = (
    creating, looking, running, serving, keys, deploying, operating, managing, keeping, browsing, measuring,
    configuring,
)  # fmt: skip
"""In the order of `headrace --help`."""

for _group in _GROUPS:
    _group.register(app)
