"""`check`, `graph`, `explain`: look at a workflow without running it, and at what is said of it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from headrace.cli.options import DEVELOP, OutputOption, Target
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=DEVELOP)(check)
    app.command(rich_help_panel=DEVELOP)(graph)
    app.command(rich_help_panel=DEVELOP)(explain)


def check(target: Target, output: OutputOption = "text") -> None:
    """Import a workflow and name everything that is wrong with it: file, line, cure.

    Example:  headrace check flow.py -o json
    """
    from headrace.cli import inspection  # noqa: PLC0415

    raise typer.Exit(int(inspection.check(target, Screen(), as_json=output == "json")))


def graph(
    target: Target,
    form: Annotated[
        Literal["mermaid", "dot"], typer.Option("--format", "-f", help="Mermaid, or Graphviz' dot.")
    ] = "mermaid",
    output: OutputOption = "text",
) -> None:
    """Print the picture of a workflow; with `-o json` its sources, nodes, sinks and routes.

    Example:  headrace graph flow.py --format dot | dot -Tsvg > flow.svg
    """
    from headrace.cli import inspection  # noqa: PLC0415

    raise typer.Exit(int(inspection.graph(target, Screen(), form=form, as_json=output == "json")))


def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="Word of an error, problem or reason; by default all.")
    ] = None,
    output: OutputOption = "text",
) -> None:
    """Say what an error, a problem or a dead letter's reason means, why it happens and what to do.

    Example:  headrace explain no-route
    """
    from headrace.cli import explaining  # noqa: PLC0415

    raise typer.Exit(int(explaining.explain_code(code, Screen(), as_json=output == "json")))
