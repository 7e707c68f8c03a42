"""Pictures of a running workflow: a table of its processes, its totals, what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.actors.spec import ClusterStatus, Pause, Problem, RoleStatus
from headrace.cli.fitting import Fitting
from headrace.cli.meter import Meter, Totals
from headrace.metrics.lag import Lag

_STYLES = {
    "running": "bold green", "serving": "green", "spare": "dim", "starting": "yellow", "becoming": "yellow",
    "degraded": "bold red", "waiting": "red", "backing-off": "red", "failed": "red", "stopping": "yellow",
    "ended": "bold", "paused": "bold yellow",
}  # fmt: skip
_SHOWN_PARTITIONS = 8
_SHOWN_LAGS = 4
_WORDS = ("process", "state", "partitions")


def picture(status: ClusterStatus, meter: Meter, *, seconds: float, note: str = "") -> RenderableType:
    """All of a workflow as `dev` shows it.

    Args:
        status: Its status document.
        meter: Has taken that document.
        seconds: How long it has been running.
        note: One more line below the totals.
    """
    totals = meter.totals()
    state = "ended" if totals.ended else status.state
    head = Text.assemble(
        (status.workflow, "bold"), "  ", (state, _STYLES.get(state, "")), f"  {_duration(seconds)}",
        f"  {status.partitions} partition{'' if status.partitions == 1 else 's'}",
    )  # fmt: skip
    parts: list[RenderableType] = [head, processes(status, meter), Text(summary(totals, meter.worker_rate))]
    parts += [paused(pause, status.workflow) for pause in status.paused]
    if note:
        parts.append(Text(note, style="yellow"))
    return Group(*parts, *(described(problem) for problem in status.problems))


def processes(status: ClusterStatus, meter: Meter | None = None) -> RenderableType:
    """One row for each process; with rates where there is a meter."""
    return Fitting(lambda left: _processes(status, meter, left), ("restarts", "pid", "partitions"))


def _processes(status: ClusterStatus, meter: Meter | None, left_out: Collection[str]) -> Table:
    cells: dict[str, Callable[[RoleStatus], str | Text]] = {
        "process": _name,
        "state": lambda role: Text(role.state, style=_STYLES.get(role.state, "")),
        "pid": lambda role: str(role.pid or ""),
        "partitions": lambda role: _ranges(role.partitions),
        "events": lambda role: f"{role.counters['events']:,.0f}" if "events" in role.counters else "",
        "restarts": lambda role: str(role.restarts) if role.restarts else "",
    }
    if meter is not None:
        restarts = cells.pop("restarts")
        cells |= {"events/s": lambda role: f"{meter.rate(role.role):,.0f}" if role.role else "", "restarts": restarts}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [name for name in cells if name not in left_out]
    for name in shown:
        table.add_column(name, no_wrap=name in ("process", "state"), justify="left" if name in _WORDS else "right")
    for role in status.roles:
        table.add_row(*(cells[name](role) for name in shown), style="dim" if role.role is None else "")
    return table


def summary(totals: Totals, rate: float | None = None) -> str:
    """The totals on one line."""
    dropped = f" ({totals.letters_dropped:,} dropped)" if totals.letters_dropped else ""
    line = (
        f"events {totals.events:,}{'' if rate is None else f'  {rate:,.0f}/s'}   outputs {totals.outputs:,}"
        f"   dead letters {totals.dead_letters:,}{dropped}   lag {totals.lag:,}"
    )
    line += f"   sent on {totals.sent_on:,}" if totals.sent_on else ""
    return line + (f"   outputs waiting {totals.waiting:,}" if totals.waiting else "")


def behind(lags: Sequence[Lag]) -> str:
    """The logs that are furthest behind, on one line; empty: none is."""
    late = [lag for lag in lags if lag.records > 0]
    if not late:
        return ""
    shown = ", ".join(f"{lag.origin} {lag.records:,}" for lag in late[:_SHOWN_LAGS])
    more = f", {len(late) - _SHOWN_LAGS} more" if len(late) > _SHOWN_LAGS else ""
    return f"behind {shown}{more}"


def paused(pause: Pause, workflow: str) -> Text:
    """What is paused, since when, by whom, and how it goes on."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pause.since))
    what, option = (f"source {pause.source}", f" --source {pause.source}") if pause.source else ("all sources", "")
    if pause.node:
        what, option = f"node {pause.node}", f" --node {pause.node}"
    by = f" by {pause.by}" if pause.by else ""
    return Text(f"paused: {what}, since {when}{by}. To go on: headrace resume {workflow}{option}", "yellow")


def described(problem: Problem) -> Text:
    """A problem, with the frames of the user's code where there are any."""
    text = Text.assemble(("! ", "bold red"), (problem.where, "bold"), f" {problem.word}: {problem.sentence}")
    if problem.traceback:
        text.append(f"\n{problem.traceback}", "dim")
    return text


def _name(role: RoleStatus) -> str:
    return role.name if role.role is None or role.role.startswith("worker/") else f"node {role.name}"


def _ranges(numbers: tuple[int, ...]) -> str:
    """`0-3, 7`: sorted numbers as ranges, the first few of them."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_SHOWN_PARTITIONS]]
    return ", ".join(shown) + (", ..." if len(ranges) > _SHOWN_PARTITIONS else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
