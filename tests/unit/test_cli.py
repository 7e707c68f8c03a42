"""The command without a server: check, graph, usage, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

from headrace.cli.app import app
from headrace.cli.exits import ExitCode, Interrupted, NothingRuns, UsageError, exit_code_of
from headrace.embedded import ServerMissing
from headrace.embedded.ports import free_port
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable

GOOD = """
from headrace import ChannelSource, Context, Event, Workflow

def shout(event: Event[str], ctx: Context) -> None: ...

workflow = Workflow("greetings", keyed=False)
workflow.source(ChannelSource(str, capacity=10, name="words")).to(workflow.node(shout))
"""
WRONG = """
from headrace import Action, Context, Event, KafkaSource, Workflow

class Heat(Action):
    HIGH = "high"
    LOW = "low"

def classify(event: Event[str], ctx: Context) -> Heat:
    return Heat.LOW

workflow = Workflow("heat")
node = workflow.node(classify)
workflow.source(KafkaSource("readings", str, key=str)).to(node)
node.on(Heat.LOW).to(None)
"""
BROKEN = """
import json

def settings() -> dict:
    return json.loads("{not json")

SETTINGS = settings()
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module with a name of its own into the current folder; returns the file's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_REDIS_URL", raising=False)
    monkeypatch.delenv("HEADRACE_KAFKA", raising=False)

    def write(text: str) -> str:
        name = f"flow_{uuid.uuid4().hex[:8]}.py"
        (tmp_path / name).write_text(text)
        return name

    return write


class Said:
    """What one call of the command printed and ended with."""

    def __init__(self, *arguments: str) -> None:
        result = CliRunner().invoke(app, list(arguments))
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        self.error = result.exception


def test_check_accepts_a_workflow_that_can_run(write: Write) -> None:
    said = Said("check", write(GOOD))

    assert (said.code, said.out) == (0, "greetings: 1 source, 1 node, 0 sinks, no problems.\n")


def test_check_names_file_line_and_cure(write: Write) -> None:
    file = write(WRONG)

    said = Said("check", file)

    assert said.code == ExitCode.PROBLEMS
    assert "heat: 1 problem" in said.out
    assert f"{file}:12  classify: " in said.out
    assert "Heat.HIGH" in said.out
    assert "classify.on(Heat.HIGH).to(" in said.out


def test_check_speaks_json(write: Write) -> None:
    file = write(WRONG)

    said = Said("check", file, "-o", "json")

    answer = json.loads(said.out)
    assert said.code == ExitCode.PROBLEMS
    assert (answer["workflow"], answer["ok"]) == ("heat", False)
    [problem] = answer["problems"]
    assert (problem["file"], problem["line"], problem["subject"]) == (file, 12, "classify")
    assert problem["code"] == "no-route"
    assert problem["cure"]


def test_a_file_that_fails_to_import_shows_the_users_frames_only(write: Write) -> None:
    file = write(BROKEN)

    said = Said("check", file)

    assert said.code == ExitCode.PROBLEMS
    assert f"error: {file.removesuffix('.py')} fails to import." in said.err
    assert 'return json.loads("{not json")' in said.err
    assert "JSONDecodeError" in said.err
    assert "json/decoder.py" not in said.err
    assert "headrace/" not in said.err
    assert "importlib" not in said.err
    assert len(said.err.splitlines()) < 10


def test_a_file_that_fails_to_import_as_json(write: Write) -> None:
    said = Said("check", write(BROKEN), "-o", "json")

    answer = json.loads(said.out)
    assert said.code == ExitCode.PROBLEMS
    assert answer["ok"] is False
    assert "JSONDecodeError" in answer["traceback"]


def test_debug_shows_where_an_error_comes_from(write: Write) -> None:
    said = Said("--debug", "check", write(BROKEN))

    assert isinstance(said.error, HeadraceError)


def test_a_target_that_is_not_there(write: Write) -> None:
    said = Said("check", "nowhere.py")

    assert said.code == ExitCode.PROBLEMS
    assert "There is no file" in said.err


def test_another_name_than_workflow(write: Write) -> None:
    file = write(GOOD.replace("workflow", "greeting"))

    assert Said("check", f"{file}:greeting").code == 0
    assert f"{file}:greeting" in Said("check", file).err


@pytest.mark.parametrize(("form", "start"), [("mermaid", "flowchart LR"), ("dot", 'digraph "greetings"')])
def test_graph_prints_a_picture(write: Write, form: str, start: str) -> None:
    said = Said("graph", write(GOOD), "--format", form)

    assert said.code == 0
    assert said.out.startswith(start)
    assert "shout" in said.out


def test_graph_gives_programs_parts_and_ways(write: Write) -> None:
    file = write(WRONG)

    outline = json.loads(Said("graph", file, "-o", "json").out)

    assert outline["workflow"] == "heat"
    assert [(part["kind"], part["name"]) for part in outline["parts"]] == [("source", "readings"), ("node", "classify")]
    assert outline["parts"][1]["where"] == f"{file}:12"
    assert outline["ways"] == [{"start": "source0", "target": "node0"}]


def test_run_without_addresses_says_what_to_type(write: Write) -> None:
    file = write(WRONG.replace("node.on(Heat.LOW)", "node.on(Heat.LOW, Heat.HIGH)"))

    said = Said("run", file)

    assert said.code == ExitCode.USAGE
    assert f"headrace run {file} --redis redis://HOST:6379/0 --kafka HOST:9092" in said.err
    assert "HEADRACE_REDIS_URL" in said.err


def test_run_asks_for_kafka_only_where_topics_are(write: Write) -> None:
    said = Said("run", write(GOOD))

    assert said.code == ExitCode.USAGE
    assert "--redis" in said.err
    assert "--kafka" not in said.err


@pytest.mark.parametrize("verb", ["run", "dev"])
def test_nothing_is_started_for_a_workflow_with_problems(write: Write, verb: str) -> None:
    said = Said(verb, write(WRONG))

    assert said.code == ExitCode.PROBLEMS
    assert "Heat.HIGH" in said.err
    assert not Path(".headrace").exists()


@pytest.mark.parametrize("arguments", [("status",), ("status", "heat"), ("stop", "heat")])
def test_without_a_store_the_command_says_what_to_type(write: Write, arguments: tuple[str, ...]) -> None:
    said = Said(*arguments)

    assert said.code == ExitCode.USAGE
    assert f"headrace {' '.join(arguments)} --redis redis://HOST:6379/0" in said.err


@pytest.mark.parametrize("arguments", [("status",), ("stop", "heat")])
def test_a_store_that_is_away_is_named(write: Write, arguments: tuple[str, ...]) -> None:
    address = f"127.0.0.1:{free_port()}"

    said = Said(*arguments, "--redis", f"redis://user:secret@{address}/0")

    assert said.code == ExitCode.UNREACHABLE
    assert f"the store at {address}/0 does not answer" in said.err
    assert "secret" not in said.err


def test_status_of_a_store_that_knows_nothing(write: Write, redis_url: str) -> None:
    everything = Said("status", "--redis", redis_url)
    one = Said("status", "heat", "--redis", redis_url)

    assert (everything.code, everything.out) == (0, "No workflow is known to this store.\n")
    assert (one.code, one.out) == (ExitCode.UNREACHABLE, "heat  not running\n")


def test_watching_is_ended_by_ctrl_c_and_speaks_json_lines(write: Write, redis_url: str) -> None:
    command = [sys.executable, "-m", "headrace", "status", "--watch", "--redis", redis_url, "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline(), watching.stdout.readline()]
        watching.send_signal(signal.SIGINT)

    assert lines == ["[]\n", "[]\n"]
    assert watching.returncode == 0


def test_stop_of_what_does_not_run(write: Write, redis_url: str) -> None:
    said = Said("stop", "heat", "--redis", redis_url)

    assert said.code == ExitCode.UNREACHABLE
    assert "heat is not running" in said.err


@pytest.mark.parametrize(
    "arguments", [("settings", "--profile", "prod"), ("--profile=prod", "settings"), ("settings", "--profile=prod")]
)
def test_settings_show_values_and_origins(write: Write, arguments: tuple[str, ...]) -> None:
    write("")
    Path("headrace.toml").write_text('workers = 2\nredis_url = "redis://u:geheim@h:1/0"\nprofiles.prod.workers = 8\n')

    said = Said(*arguments, "-o", "json")

    answer = json.loads(said.out)
    assert answer["settings"]["workers"] == {"value": 8, "origin": "headrace.toml:3 (profile prod)"}
    assert answer["settings"]["redis_url"]["value"] == "redis://u:******@h:1/0"
    assert answer["settings"]["partitions"] == {"value": None, "origin": "default"}
    assert "geheim" not in Said("settings").out


@pytest.mark.parametrize("verb", [("settings",), ("status",), ("run", "flow.py")])
def test_settings_that_are_wrong_end_every_verb_that_needs_them(write: Write, verb: tuple[str, ...]) -> None:
    write("")
    Path("headrace.toml").write_text("wokers = 2\n")

    said = Said(*verb)

    assert said.code == ExitCode.USAGE
    assert "headrace.toml:1  wokers: there is no such setting. Did you mean workers?" in said.err


def test_status_asks_what_runs_here_before_the_store_of_the_settings(write: Write, redis_url: str) -> None:
    write("")
    Path("headrace.toml").write_text(f'redis_url = "{redis_url}"\n')

    assert Said("status").out == "No workflow is known to this store.\n"


def test_a_verb_that_is_not_there_leads_to_the_one_that_was_meant(write: Write) -> None:
    assert "Did you mean 'check'?" in Said("chekc", "flow.py").err


@pytest.mark.parametrize("arguments", [("frobnicate",), ("check",), ("check", "a.py", "-o", "yaml"), ("--what",)])
def test_what_is_not_understood_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert Said(*arguments).code == ExitCode.USAGE


@pytest.mark.parametrize(
    "verb", ["new", "dev", "run", "check", "graph", "status", "stop", "settings", "completion", "doctor"]
)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    said = Said(verb, "--help")

    assert said.code == 0
    assert f"Example: headrace {verb}" in " ".join(said.out.split())


@pytest.mark.parametrize("verb", ["runs list", "runs show", "dead list", "dead show", "dead replay", "dead drop"])
def test_every_verb_of_two_words_has_help_with_an_example(verb: str) -> None:
    said = Said(*verb.split(), "--help")

    assert said.code == 0
    assert f"Example: headrace {verb}" in " ".join(said.out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs(shell: str) -> None:
    def headrace(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "headrace", *arguments], capture_output=True, text=True, check=False,
            env=os.environ | environment,
        ).stdout  # fmt: skip

    script = headrace("completion", shell)
    answer = headrace(
        _HEADRACE_COMPLETE=f"complete_{shell}", COMP_WORDS="headrace st", COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="headrace st", _TYPER_COMPLETE_FISH_ACTION="get-args",
    )  # fmt: skip

    assert f"_HEADRACE_COMPLETE=complete_{shell}" in script
    assert "status" in answer
    assert "stop" in answer
    assert "doctor" not in answer


@pytest.mark.parametrize("verb", ["dev", "check"])
def test_ctrl_c_while_the_users_code_is_imported_is_one_line(write: Write, verb: str) -> None:
    file = write('import time\nprint("importing", flush=True)\ntime.sleep(60)\n')
    command = [sys.executable, "-m", "headrace", verb, file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "importing\n"
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)

    assert started.returncode == ExitCode.INTERRUPTED
    assert out == ""
    assert err.removeprefix("error: ") == "interrupted\n"
    assert not Path(".headrace").exists()


@pytest.mark.parametrize("module", ["headrace.cli.interrupts", "msgspec", "typer", "rich.text"])
def test_ctrl_c_while_python_imports_the_command_is_one_line(module: str) -> None:
    """From the first line of ours on, whatever is just being imported."""
    command = [sys.executable, "-X", "importtime", "-m", "headrace", "--help"]
    # A small pipe: it can't run ahead to its end while this process waits for a processor.
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pipesize=4096
    ) as started:
        assert started.stderr is not None
        while _imported(started.stderr) != module:
            pass
        started.send_signal(signal.SIGINT)
        said = [line for line in started.stderr.read().splitlines() if not line.startswith("import time:")]

    assert started.returncode == ExitCode.INTERRUPTED
    assert said == ["interrupted"]


def _imported(said: IO[str]) -> str:
    """The next module that Python says it has imported."""
    line = said.readline()
    assert line, "it has ended"
    return line.rpartition("|")[2].strip()


def test_the_version() -> None:
    assert Said("--version").out.startswith("headrace ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("say more"), 2),
        (StoreUnavailable("localhost:6379", "refused"), 3),
        (ServerMissing("Valkey", "not installed"), 3),
        (NothingRuns("heat is not running"), 3),
        (Interrupted(), 130),
        (HeadraceError("anything else"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: HeadraceError, code: int) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize("verb", ["check", "graph"])
def test_looking_at_a_workflow_loads_neither_ray_nor_a_web_server(write: Write, verb: str) -> None:
    program = (
        "import sys\nfrom headrace.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, {'ray', 'fastapi'} & set(sys.modules))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program, verb, write(GOOD)], capture_output=True, text=True, check=False
    )

    assert ran.stdout.splitlines()[-1] == "0 set()"
