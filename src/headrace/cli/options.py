"""Options and arguments that several verbs have, each with its help in one place."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

DEVELOP: Final = "Develop"
"""Heading in `--help`: verbs for a workflow that is being written."""
OPERATE: Final = "Run and look after"
"""Heading in `--help`: verbs for workflows that run."""

Output = Literal["text", "json"]
Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="Workflow: `file.py`, `file.py:name` or `package.module:name`.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]
Redis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="Redis or Valkey: redis://host:port/0, rediss://, redis+sentinel://, redis+cluster://.",
    ),
]
Kafka = Annotated[
    str | None,
    typer.Option("--kafka", metavar="HOST:PORT", help="Kafka brokers, with commas between."),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes that own partitions.")]
Partitions = Annotated[
    int | None,
    typer.Option("--partitions", min=1, help="Shares of the key space; kept from the first start on."),
]
FuseOption = Annotated[Literal["all"] | None, typer.Option("--fuse", help="`all`: run all nodes inside the workers.")]
DurabilityOption = Annotated[
    str | None,
    typer.Option(
        "--durability",
        metavar="LEVEL",
        help="When outputs and answers may leave: `fast`, `fsync` (on the store's disk), `replicas`, `replicas:2`.",
    ),
]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting for the nodes; secrets as env:NAME or file:/path."),
]
StartOver = Annotated[
    bool,
    typer.Option("--start-over", help="Begin anew although its consumer group says that it has run before."),
]
DropState = Annotated[
    list[str] | None,
    typer.Option(
        "--drop-state",
        metavar="NODE",
        help="Drop, for good, states of this node that the version has no place for, or can't read. @wait:NAME: runs"
        " stand at that wait no more; @timers:NODE: its timers. Repeatable.",
    ),
]
Live = Annotated[
    bool | None, typer.Option("--live/--no-live", help="A live table, or lines. Default: live on a terminal.")
]
Name = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow.")]
StoppedName = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow; it must be stopped.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Look at everything, say what would be done, do nothing.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")]
Cursor = Annotated[str, typer.Option("--cursor", metavar="CURSOR", help="Go on where a list has ended: it says so.")]
KeyPrefix = Annotated[str, typer.Option("--key-prefix", metavar="TEXT", help="Only runs whose keys begin so.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Only runs that began longer ago: `90s`, `2h`, `7d`.")
]
