"""`make bench-gateway`: calls over HTTP beside a bare bridge, in turn on one machine. The last line is JSON.

Both gateways are one uvicorn process, both workers one process, on one Valkey. See `docs/explanation/benchmarks.md`.
A part that fails is named in the result, and the others go on; the exit status is 1 then, and 0 however fast it was.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
import uvloop

from benchmarks.gateway_parts import (
    LONGEST_WAIT,
    PERIOD,
    SEQUENTIAL,
    WAITING,
    beside_a_backlog,
    compared,
    fill,
    followed,
    for_long,
    many_waiting,
    messages,
)
from benchmarks.gateway_systems import ROOT, Program, System, say
from headrace.embedded import ApacheKafka, Valkey

_FILES = 20_000
"""Files that a process may have open: each caller has a connection."""
AT_MOST = {
    "p50_ratio": 2.0, "message_p50_ms": 4.0, "waiting_store_connections": 20, "waiting_healthz_p99_ms": 50.0,
    "waiting_refused": 0, "follower_p50_ms": 20.0, "backlog_call_p99_ms": 50.0, "long_slope_mb_per_million": 5.0,
}  # fmt: skip
AT_LEAST = {"throughput_ratio": 0.6, "waiting": WAITING, "waiting_answered": WAITING}
"""The goals."""
Start = Callable[..., Program]


@contextmanager
def ended_at_last() -> Iterator[Start]:
    """Starts programs, and ends them."""
    with ExitStack() as stack:

        def start(command: Sequence[str], ready: str, folder: Path = ROOT, **variables: str) -> Program:
            program = Program(command, ready, folder, **variables)
            stack.callback(program.end)
            return program

        yield start


def bare(start: Start, url: str) -> System:
    """The yardstick, started."""
    program = str(ROOT / "benchmarks" / "bare_bridge.py")
    start((sys.executable, program, "worker", url), "ready")
    address = start((sys.executable, program, "gateway", url), "http://").address()
    return System("bare", address, "/ask/{}")


def worker(start: Start, url: str, folder: Path, attribute: str, *options: str) -> Program:
    """A worker of one of the workflows, fused, in a process of its own."""
    text = (ROOT / "benchmarks" / "gateway_flow.py").read_text()
    (folder / "gateway_flow.py").write_text(text)
    flow = f"gateway_flow.py:{attribute}"
    command = (sys.executable, "-m", "headrace", "dev", flow, "--inline", "--no-live", "--redis", url, *options)
    return start(command, "running, after", folder)


def gateway(start: Start, url: str, folder: Path) -> Program:
    """The gateway, in a process of its own."""
    command = (sys.executable, "-m", "headrace", "serve", "--redis", url, "--port", "0")
    return start(command, "http://", folder, HEADRACE_GATEWAY__LONGEST_WAIT_SECONDS=str(LONGEST_WAIT))


def verdicts(figures: dict[str, Any]) -> dict[str, bool]:
    """Which goals are met, of those that were measured."""
    met = {name: figures[name] <= most for name, most in AT_MOST.items() if name in figures}
    return met | {name: figures[name] >= least for name, least in AT_LEAST.items() if name in figures}


class Run:
    """The figures of one run, and which of its parts have failed."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {"load_before": [round(load, 1) for load in os.getloadavg()]}
        self.failed: dict[str, str] = {}

    def part(self, name: str, work: Coroutine[Any, Any, dict[str, Any]]) -> None:
        """Measure one thing."""
        try:
            self.figures |= uvloop.run(work)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told, and the other parts are measured
            traceback.print_exc()
            self.failed[name] = f"{type(error).__name__}: {error}"

    def result(self) -> dict[str, Any]:
        """All of it."""
        met = verdicts(self.figures)
        for name, goal in (AT_MOST | AT_LEAST).items():
            said = "not measured" if name not in met else "met" if met[name] else "MISSED"
            sign = ">=" if name in AT_LEAST else "<="
            say(f"{name:28} {self.figures.get(name, '-')!s:>8}  goal {sign} {goal:<6} {said}")
        self.figures["load_after"] = [round(load, 1) for load in os.getloadavg()]
        return {**self.figures, "goals_met": met, "failed": self.failed}


def measured(asked: argparse.Namespace, base: str, place: Path, start: Start) -> Run:
    """Everything that is asked for, one after the other."""
    run, url = Run(), f"{base}/1"
    if asked.only == "backlog":
        return backlogged(run, asked, url, gateway(start, url, place).address(), place, start)
    yardstick = bare(start, f"{base}/0")
    held, serving = worker(start, url, place, "workflow"), gateway(start, url, place)
    ours = System("headrace", serving.address(), "/v1/workflows/gateway-bench/runs/{}/events")
    process = psutil.Process(serving.process.pid)
    run.part("calls", compared((ours, yardstick), asked.rounds))
    run.part("messages", messages(ours, SEQUENTIAL))
    run.part("waiting", many_waiting(ours, url, psutil.Process(held.process.pid), process))
    if asked.calls:
        run.part("memory", for_long(ours, asked.calls, process))
    held.end()
    talker = worker(start, url, place, "talking")
    talking = System("talking", ours.address, "/v1/workflows/gateway-bench-talking/runs/{}/events")
    run.part("follower", followed(talking))
    talker.end()
    return backlogged(run, asked, url, ours.address, place, start) if asked.records else run


def backlogged(run: Run, asked: argparse.Namespace, url: str, address: str, place: Path, start: Start) -> Run:
    """Calls to a gateway beside a backlog."""
    with ApacheKafka(cache=ROOT / ".cache") as broker:
        uvloop.run(fill(broker.bootstrap, asked.records))
        late = System("backlogged", address, "/v1/workflows/gateway-bench-backlogged/runs/{}/events")
        working = worker(start, url, place, "backlogged", "--kafka", broker.bootstrap)
        run.part("backlog", beside_a_backlog(late, url, asked.records, asked.pause))
        working.end()
    return run


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn")
    parser.add_argument("--records", type=int, default=1_000_000, help="of the backlog; 0: leave it out")
    parser.add_argument("--only", choices=["backlog"], help="the calls beside a backlog, and nothing else")
    parser.add_argument("--pause", type=float, default=PERIOD, help="seconds between two calls beside a backlog")
    parser.add_argument("--calls", type=int, default=0, help="for memory; 1000000 takes a quarter of an hour")
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most != resource.RLIM_INFINITY else _FILES, most))
    with (
        Valkey(options={"databases": "16"}) as store,
        tempfile.TemporaryDirectory() as folder,
        ended_at_last() as start,
    ):
        run = measured(asked, store.url.rpartition("/")[0], Path(folder), start)
    print(json.dumps(run.result()))
    sys.exit(1 if run.failed else 0)


if __name__ == "__main__":
    main()
