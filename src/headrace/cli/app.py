"""The verbs of the command and their options."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from headrace.cli.exits import exit_code_of
from headrace.cli.screen import Screen
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


Output = Literal["text", "json"]
Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="Workflow: `file.py`, `file.py:name` or `package.module:name`.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]
Redis = Annotated[
    str | None,
    typer.Option("--redis", metavar="URL", envvar="HEADRACE_REDIS_URL", help="Redis or Valkey: redis://host:port/0."),
]
Kafka = Annotated[
    str | None,
    typer.Option("--kafka", metavar="HOST:PORT", envvar="HEADRACE_KAFKA", help="Kafka brokers, with commas between."),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that own partitions.")]
Partitions = Annotated[
    int | None,
    typer.Option("--partitions", min=1, help="Shares of the key space; kept from the first start on."),
]
FuseOption = Annotated[Literal["all"] | None, typer.Option("--fuse", help="`all`: run all nodes inside the workers.")]
Live = Annotated[
    bool | None, typer.Option("--live/--no-live", help="A live table, or lines. Default: live on a terminal.")
]


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


@app.command()
def dev(
    target: Target,
    redis: Annotated[
        str | None, typer.Option("--redis", metavar="URL", help="Use this store instead of an embedded one.")
    ] = None,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use these brokers instead of an embedded one.")
    ] = None,
    broker: Annotated[
        Literal["tansu", "apache"],
        typer.Option("--broker", help="Broker to embed: Tansu (pip only), or Apache Kafka (Java and Maven)."),
    ] = "tansu",
    workers: Workers = 1,
    partitions: Partitions = None,
    fuse: FuseOption = None,
    live: Live = None,
) -> None:
    """Run a workflow here, with embedded servers that are gone at the end.

    Starts Valkey, a Kafka broker where the workflow has topics (and makes those), and a Ray of its own; shows
    a live table and how to send events. Ctrl-C finishes what is in flight and stops everything.

    Example:  headrace dev flow.py --fuse all
    """
    from headrace.cli.session import Order, run_session  # noqa: PLC0415  loads Ray

    screen = Screen()
    order = Order(
        target=target, redis_url=redis, kafka=kafka, embedded=True, broker=broker, workers=workers,
        partitions=partitions, fuse=fuse == "all", keep=True, make_topics=True,
        live=screen.is_terminal if live is None else live,
    )  # fmt: skip
    raise typer.Exit(int(run_session(order, screen)))


@app.command()
def run(  # noqa: PLR0913, PLR0917  each is an option of the verb
    target: Target,
    redis: Redis = None,
    kafka: Kafka = None,
    workers: Workers = 1,
    partitions: Partitions = None,
    fuse: FuseOption = None,
    make_topics: Annotated[bool, typer.Option("--make-topics", help="Make topics that don't exist.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Stay when the run of an unkeyed workflow has ended.")] = False,
    live: Live = None,
) -> None:
    """Run a workflow here, with servers that exist.

    Waits for servers that are away, and says so. Ends with 0 when it is stopped (Ctrl-C, SIGTERM,
    `headrace stop`), or when the run of an unkeyed workflow has ended.

    Example:  headrace run flow.py --redis redis://localhost:6379/0 --kafka localhost:9092
    """
    from headrace.cli.session import Order, run_session  # noqa: PLC0415  loads Ray

    screen = Screen()
    order = Order(
        target=target, redis_url=redis, kafka=kafka, workers=workers, partitions=partitions, fuse=fuse == "all",
        keep=keep, make_topics=make_topics, live=screen.is_terminal if live is None else live,
    )  # fmt: skip
    raise typer.Exit(int(run_session(order, screen)))


@app.command()
def check(target: Target, output: OutputOption = "text") -> None:
    """Import a workflow and name everything that is wrong with it: file, line, cure.

    Example:  headrace check flow.py -o json
    """
    from headrace.cli import inspection  # noqa: PLC0415

    raise typer.Exit(int(inspection.check(target, Screen(), as_json=output == "json")))


@app.command()
def graph(
    target: Target,
    form: Annotated[
        Literal["mermaid", "dot"], typer.Option("--format", "-f", help="Mermaid, or Graphviz' dot.")
    ] = "mermaid",
) -> None:
    """Print the picture of a workflow.

    Example:  headrace graph flow.py --format dot | dot -Tsvg > flow.svg
    """
    from headrace.cli import inspection  # noqa: PLC0415

    raise typer.Exit(int(inspection.graph(target, Screen(), form=form)))


@app.command()
def status(
    workflow: Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Name; by default all.")] = None,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Show how workflows do: processes, partitions, events, problems.

    Without `--redis`: those that run from this folder. Ends with 3 if WORKFLOW is not running.

    Example:  headrace status temperature
    """
    from headrace.cli import overview  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, redis, Project(Path.cwd()), "status")
    raise typer.Exit(int(overview.status(workflow, urls, Screen(), as_json=output == "json")))


@app.command()
def stop(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow.")],
    redis: Redis = None,
) -> None:
    """Stop a workflow that `dev` or `run` runs, here or on another machine; waits until it has stopped.

    Example:  headrace stop temperature
    """
    from headrace.cli import overview  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, redis, Project(Path.cwd()), "stop")
    raise typer.Exit(int(overview.stop(workflow, urls, Screen())))
