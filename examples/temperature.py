"""A year of temperatures flows through Kafka and three Ray actors to alerts.

Hourly temperatures of Seattle and San Francisco, 2010, from the package `vega-datasets`: three sensors a
city, 52,554 events. Everything runs on this machine and is gone afterwards; see `--help`, and
`temperature_workflow.py` for the workflow itself. The last line is one JSON object; the exit status is 1 when
states or alerts differ from an offline computation, when an action is missing, or the channel variant
does not end as it must.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from temperature_cluster import BROKERS, Servers, make_topics, prepare, running, servers
from temperature_data import readings
from temperature_ending import SENT, run_to_its_end
from temperature_offline import Expected, compute
from temperature_plot import plot
from temperature_stream import Flow, Standstill, stream
from temperature_workflow import Reading

from headrace.workflows.errors import HeadraceError

PARTITIONS = 4
LEAST = 20
"""Times that each action must occur."""
PICTURE = Path(__file__).resolve().parents[1] / ".headrace" / "temperature.png"
console = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns its exit status."""
    options = _options(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return _demo(options)
    except KeyboardInterrupt:
        console.print("[yellow]Stopped; nothing is left running.[/]")
        return 130
    except Standstill as error:
        console.print(f"[red]It does not go on.[/] {error}")
    except HeadraceError as error:
        console.print(f"[red]{type(error).__name__}:[/] {error}")
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--broker", choices=sorted(BROKERS), default="tansu", help="default: %(default)s")
    parser.add_argument("--readings", type=int, metavar="N", help="about N of the 17,518 readings, over the whole year")
    parser.add_argument("--kill", choices=("node", "worker"), help="kill such a process with -9 half-way")
    parser.add_argument("--plot", type=Path, default=PICTURE, metavar="PATH", help="default: .headrace/temperature.png")
    options = parser.parse_args(arguments)
    if options.readings is not None and options.readings < 1000:
        parser.error("--readings: with fewer than 1000, not every action occurs often enough")
    return options


def _demo(options: argparse.Namespace) -> int:
    began = time.monotonic()
    events = readings(options.readings)
    expected = compute(events)
    with ExitStack() as stack:
        with console.status(f"Starting Valkey, {options.broker.capitalize()} and Ray ..."):
            where = stack.enter_context(servers(options.broker))
        flow = _run(events, where, options.kill)
        with console.status("An unkeyed workflow, fed by a channel ..."):
            ending = run_to_its_end(where)
    if flow.killed:
        console.print(f"Killed with -9 half-way: {flow.killed}.")
    equal = _compare(flow, expected)
    plot(events, expected, options.plot)
    console.print(
        f"The channel variant got {', '.join(f'{value:g}' for value in SENT)}: {ending.status} ({ending.reason}),"
        f" left in the channel: {', '.join(f'{value:g}' for value in ending.remainder) or 'nothing'}",
        soft_wrap=True,
    )
    console.print(f"Picture: {options.plot}", soft_wrap=True)
    missing = [name for name, count in expected.actions.items() if count < LEAST]
    if missing:
        console.print(f"[red]Fewer than {LEAST} times: {', '.join(missing)}[/]")
    summary = {
        "events": flow.events,
        "alerts": len(flow.alerts),
        "equal_to_offline": equal,
        "events_per_second": round(flow.events / flow.seconds),
        "actions": expected.actions,
        "repeated_alerts": flow.repeats,
        "channel_variant": ending.status,
        "channel_as_expected": ending.as_expected,
        "seconds": round(time.monotonic() - began, 1),
        "plot": str(options.plot),
    }
    print(json.dumps(summary), flush=True)
    return 0 if equal and not missing and ending.as_expected else 1


def _run(events: Sequence[Reading], where: Servers, kill: str | None) -> Flow:
    make_topics(where, "readings", "alerts", partitions=PARTITIONS)
    with ExitStack() as stack:
        with console.status("Starting the workflow: one worker, three node actors, one spare ..."):
            cluster = stack.enter_context(running(prepare("temperature_workflow.py", where)))
        progress = stack.enter_context(_progress())
        task = progress.add_task("", total=len(events), speed=0.0, alerts=0)
        started = time.monotonic()

        def show(flow: Flow) -> None:
            speed = flow.events / (flow.seconds or time.monotonic() - started)
            latest = next(reversed(flow.alerts.values()), None)
            text = "; ".join(flow.problems) or (f"{latest['sensor']} {latest['level']}" if latest else "")
            progress.update(task, completed=flow.events, speed=speed, alerts=len(flow.alerts), description=text)

        return asyncio.run(stream(events, where, cluster, PARTITIONS, show, kill))


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("events"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:,.0f}/s"),
        TextColumn("alerts {task.fields[alerts]}"),
        TextColumn("{task.description}"),
        console=console,
    )


def _compare(flow: Flow, expected: Expected) -> bool:
    alerts = sorted(
        (row["sensor"], row["time"], row["level"], row["celsius"], row["change"]) for row in flow.alerts.values()
    )
    states_equal = flow.states == expected.states
    alerts_equal = alerts == expected.alerts
    for what, equal in (("states of all sensors", states_equal), ("alerts", alerts_equal)):
        word = "[green]equal to[/]" if equal else "[red]differ from[/]"
        console.print(f"{what.capitalize()} {word} the offline computation.")
    return states_equal and alerts_equal


if __name__ == "__main__":
    sys.exit(main())
