"""What the command is made of: totals, pictures, the project's folder, example programs, signals."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace import Context, Event, KafkaSource, Workflow
from headrace.actors.spec import ClusterStatus, Problem, RoleStatus
from headrace.cli.exits import UsageError
from headrace.cli.fitting import Fitting
from headrace.cli.meter import Meter
from headrace.cli.project import Project, RunFile
from headrace.cli.screen import Screen
from headrace.cli.snippets import example_of, write_senders
from headrace.cli.table import behind, picture
from headrace.metrics.lag import Lag
from headrace.sources.kafka_connection import KafkaClusters


def status(
    time: float, *roles: tuple[str, int, dict[str, int | float]], problems: tuple[Problem, ...] = ()
) -> ClusterStatus:
    return ClusterStatus(
        workflow="heat", version="1", state="running", ready=True, term=1, placement=1, partitions=4,
        roles=tuple(
            RoleStatus(
                name=role, role=role, actor=role, pid=10, state="serving", incarnation=incarnation, counters=counters
            )
            for role, incarnation, counters in roles
        ),
        unplaced=(), problems=problems, time=time,
    )  # fmt: skip


def test_totals_are_those_of_workers_together() -> None:
    meter = Meter()

    meter.take(status(1.0, ("worker/0", 1, {"events": 5, "lag": 2}), ("worker/1", 2, {"events": 7, "lag": 1})))

    assert (meter.totals().events, meter.totals().lag) == (12, 3)


def test_a_worker_that_begins_again_loses_no_events() -> None:
    meter = Meter()

    meter.take(status(1.0, ("worker/0", 1, {"events": 500, "outputs": 3})))
    meter.take(status(2.0, ("worker/0", 2, {"events": 20, "outputs": 1})))

    assert (meter.totals().events, meter.totals().outputs) == (520, 4)
    assert meter.rate("worker/0") == pytest.approx(20)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()

    for second, events in enumerate([0, 1000, 1000, 1000, 1000, 1100]):
        meter.take(status(float(second), ("worker/0", 1, {"events": events}), ("node/0/0", 2, {"events": 1})))

    assert meter.rate("worker/0") == pytest.approx(100 / 3)
    assert meter.worker_rate == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("width", "columns", "note"),
    [
        (80, "name state pid where", ""),
        (30, "name state where", "No room here for: pid"),
        (22, "name where", "No room here for: pid, state"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which(width: int, columns: str, note: str) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)

    console.print(FITTING)

    lines = drawn(console)
    assert lines[0].split() == columns.split()
    assert " ".join(line.strip() for line in lines[2:]) == note


def test_a_file_gets_all_columns_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().show(Fitting(lambda left: tabled(left, "x" * 200), ("pid",)))

    assert f"orders   serving   12345   {'x' * 200}" in capsys.readouterr().out


def test_sentences_are_broken_between_words_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.explain("ok  ", "word " * 40)
    assert len(capsys.readouterr().out.splitlines()) == 1

    screen.console = Console(file=io.StringIO(), width=30, force_terminal=True, color_system=None)
    screen.explain("ok  ", "word " * 40)
    first, *rest = drawn(screen.console)
    assert first.startswith("ok  word")
    assert all(line.startswith("    word") and line.rstrip().endswith("word") for line in rest)


def tabled(left_out: Collection[str], where: str = "here") -> Table:
    cells = {"name": "orders", "state": "serving", "pid": "12345", "where": where}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [name for name in cells if name not in left_out]
    for name in shown:
        table.add_column(name, no_wrap=True)
    table.add_row(*(cells[name] for name in shown))
    return table


FITTING = Fitting(tabled, ("pid", "state"))


def drawn(console: Console) -> list[str]:
    """What it has printed, without empty lines and rules."""
    assert isinstance(console.file, io.StringIO)
    return [line for line in console.file.getvalue().splitlines() if line.strip(" \u2500")]


@pytest.mark.parametrize(
    ("records", "line"),
    [
        ([], ""),
        ([0, 0], ""),
        ([1200, 3, 0], "behind orders/0 1,200, orders/1 3"),
        ([9, 8, 7, 6, 5, 4, 0], "behind orders/0 9, orders/1 8, orders/2 7, orders/3 6, 2 more"),
    ],
)
def test_the_logs_that_are_furthest_behind_are_told(records: list[int], line: str) -> None:
    lags = [Lag("orders", f"orders/{number}", "worker/0", count) for number, count in enumerate(records)]

    assert behind(lags) == line


def test_the_picture_has_processes_totals_and_problems() -> None:
    meter = Meter()
    away = Problem(where="worker/0", word="store_unreachable", sentence="the store does not answer [at all]")
    now = status(1.0, ("worker/0", 1, {"events": 5, "dead_letters": 2}), problems=(away,))
    meter.take(now)
    console = Console(width=100, record=True, file=io.StringIO())

    console.print(picture(now, meter, seconds=61))

    text = console.export_text()
    assert "heat  running  1 min 1 s  4 partitions" in text
    assert "worker/0" in text
    assert "dead letters 2" in text
    assert "! worker/0 store_unreachable: the store does not answer [at all]" in text


def run_file(pid: int, workflow: str = "heat") -> RunFile:
    return RunFile(
        workflow=workflow, target="flow.py", pid=pid, host=socket.gethostname(), redis_url="redis://localhost",
        started=1.0,
    )  # fmt: skip


def test_a_project_knows_what_runs_from_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.prepare()

    project.note(run_file(os.getpid()))

    assert [run.workflow for run in project.running()] == ["heat"]
    assert (tmp_path / ".headrace" / "run" / "heat.json").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="headrace stop heat"):
        project.refuse_second("heat")
    project.refuse_second("other")


def test_what_a_killed_process_left_does_not_count(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    project = Project(tmp_path)

    project.note(run_file(ended.pid))
    (project.folder / "run" / "torn.json").write_text("{")

    assert project.running() == []
    project.refuse_second("heat")


def test_the_folder_is_out_of_gits_sight(tmp_path: Path) -> None:
    Project(tmp_path).prepare()

    assert (tmp_path / ".headrace" / ".gitignore").read_text() == "*\n"


class Color(Enum):
    RED = "red"


class Inner(msgspec.Struct):
    number: int
    note: str = ""


class Outer(msgspec.Struct, tag="outer"):
    text: str
    color: Color
    inner: Inner
    many: list[Inner]
    named: dict[str, float]
    either: int | None
    choice: Literal["a", "b"]
    pair: tuple[int, bool]


@pytest.mark.parametrize("type_", [str, int, float, bool, Color, Inner, Outer, list[Outer], dict[str, Inner]])
def test_an_example_fits_its_type(type_: Any) -> None:
    example = example_of(type_)

    assert msgspec.json.decode(msgspec.json.encode(example), type=type_) is not None


def test_a_sender_is_a_program_that_compiles(tmp_path: Path) -> None:
    def take(event: Event[Inner], ctx: Context) -> None: ...

    workflow = Workflow("heat")
    workflow.source(KafkaSource("numbers", Inner, key="note")).to(workflow.node(take))

    [path] = write_senders(workflow.compile(), KafkaClusters({"bootstrap_servers": "127.0.0.1:9092"}), tmp_path)

    text = path.read_text()
    assert path.name == "send_numbers.py"
    compile(text, str(path), "exec")
    assert "json.loads(text)['note']" in text
    assert '"note":"example"' in text, "a key is part of the example even where the field has a default"


LOGGING = """
import logging, structlog
from headrace.logs import configure_logs
configure_logs("info", "{form}")
log = structlog.get_logger("headrace.example")
log.debug("unseen")
log.info("server_started", port=7, path=__import__("pathlib").Path("/x"))
logging.getLogger("library").warning("it %s", "creaks")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def written(form: str) -> str:
    program = LOGGING.format(form=form)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr


def test_log_lines_for_machines_have_fixed_keys() -> None:
    lines = [json.loads(line) for line in written("auto").splitlines()]

    assert [list(line)[:4] for line in lines] == [["time", "level", "event", "logger"]] * 3
    started, library, failed = lines
    assert (started["event"], started["logger"], started["port"]) == ("server_started", "headrace.example", 7)
    assert (library["event"], library["text"], library["logger"]) == ("library", "it creaks", "library")
    assert "ZeroDivisionError" in failed["exception"]


@pytest.mark.parametrize(("level", "lines"), [("error", 1), ("info", 3), ("loud", 3)])
def test_processes_without_options_are_told_by_the_environment(level: str, lines: int) -> None:
    program = LOGGING.replace('configure_logs("info", "{form}")', "configure_logs_by_environment()")
    program = program.replace("import configure_logs", "import configure_logs_by_environment")
    environment = os.environ | {"HEADRACE_LOG_LEVEL": level}

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)

    assert len(ran.stderr.splitlines()) == lines


def test_log_lines_for_people() -> None:
    text = written("console")

    assert "server_started" in text
    assert "unseen" not in text
    assert "\x1b" not in text, "colours are for terminals"


def test_an_error_beside_a_picture_on_the_same_terminal_is_not_drawn_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by hand: `dev --reload` said why a saved file can't be taken, and the next picture lay over it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen()

    with screen.picture() as picture:
        picture.update(Text("a table"), refresh=True)
        screen.complain("flow.py can't be taken")
        picture.update(Text("the next table"), refresh=True)
    screen.complain("later")

    out, err = capsys.readouterr()
    assert out.index("can't be taken") < out.index("the next table")
    assert "can't be taken" not in err
    assert "later" in err
