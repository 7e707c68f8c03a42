"""Settings of nodes: read by name, resolved where the node runs, and never in anything that is shown."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from headrace import ChannelSource, Context, Event, HeadraceError, Node, Workflow
from headrace.actors.node_settings import SettingUnresolved, settings_of
from headrace.logs import configure_logs, hide_in_logs
from headrace.testing import Harness
from headrace.workflows.settings import SettingInvalid, SettingMissing, Settings

SECRET = 'hunter2"äß\\'


def greet(event: Event[str], ctx: Context[list[str]]) -> None:
    ctx.state.append(f"{ctx.settings['greeting']}, {event.data}" * ctx.settings.value("times", int, default=1))


class Caller(Node[str, list[str], None]):
    async def open(self) -> None:
        self.client = f"client for {self.settings['url']}"

    def process(self, event: Event[str], ctx: Context[list[str]]) -> None:
        ctx.state.append(self.client)


@dataclass(frozen=True)
class Frozen(Node[str, list[str], None]):
    limit: int

    def process(self, event: Event[str], ctx: Context[list[str]]) -> None:
        ctx.state.append(f"{self.settings['url']} {self.limit}")


class Own(Node[str, list[str], None]):
    def __init__(self) -> None:
        self.settings = {"mine": 1}  # type: ignore[assignment]  # as people name things

    def process(self, event: Event[str], ctx: Context[list[str]]) -> None:
        ctx.state.append(f"{dict(self.settings)} {ctx.settings['url']}")


def leak(event: Event[str], ctx: Context[None]) -> None:
    raise ValueError(f"{event.data} refused with {ctx.settings['token']}")


def states(node: object, settings: dict[str, str | int]) -> list[str]:
    workflow = Workflow("w", keyed=False)
    source = workflow.source(ChannelSource(str, capacity=10, name="lines"))
    handle = workflow.node(node)  # type: ignore[call-overload]
    source.to(handle)
    with Harness(workflow, settings=settings) as harness:
        harness.send(source, "ada")
        found: list[str] = harness.run.state(handle)
        return found


def test_a_node_reads_settings_by_name() -> None:
    assert states(greet, {"greeting": "hello", "times": "2"}) == ["hello, adahello, ada"]


def test_a_node_has_them_when_it_opens() -> None:
    assert states(Caller(), {"url": "http://x"}) == ["client for http://x"]
    assert states(Frozen(3), {"url": "http://x"}) == ["http://x 3"]


def test_a_node_with_settings_of_its_own_keeps_them() -> None:
    assert states(Own(), {"url": "http://x"}) == ["{'mine': 1} http://x"]


def test_a_missing_one_is_named_with_the_cure() -> None:
    settings = Settings({"limit": 1})

    with pytest.raises(SettingMissing, match=r"no setting 'token'. There are: limit. Give it: --set token=VALUE"):
        settings["token"]
    assert settings.get("token") is None
    assert "token" not in settings


@pytest.mark.parametrize(
    ("given", "wanted", "expected"), [("30.5", float, 30.5), ("7", int, 7), ("true", bool, True), (5, str, "5")]
)
def test_a_value_is_converted(given: str | int, wanted: type, expected: object) -> None:
    assert Settings({"x": given}).value("x", wanted) == expected


def test_one_that_cannot_be_converted_is_named_without_its_value() -> None:
    with pytest.raises(SettingInvalid, match="setting 'limit' is no float") as raised:
        Settings({"limit": SECRET}, secrets={"limit"}).value("limit", float)
    assert SECRET not in str(raised.value) + repr(raised.value)


def test_they_are_read_only() -> None:
    with pytest.raises(TypeError):
        Settings({"x": 1})["x"] = 2  # type: ignore[index]


def test_references_are_resolved_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")

    found = settings_of(
        {"a": "env:A", "b": f"file:{tmp_path / 'token'}", "c": 3, "url": "http://x"}, {"A": "from the environment"}
    )

    assert dict(found) == {"a": "from the environment", "b": "from a file", "c": 3, "url": "http://x"}
    assert repr(found) == "Settings(a='******', b='******', c=3, url='http://x')"


def test_a_reference_that_leads_nowhere_names_the_setting() -> None:
    with pytest.raises(SettingUnresolved, match=r"setting 'token': env:TOKEN .* TOKEN is not set"):
        settings_of({"token": "env:TOKEN"}, {})


def test_a_secret_that_a_node_raises_is_not_in_its_dead_letter() -> None:
    workflow = Workflow("w", keyed=False)
    source = workflow.source(ChannelSource(str, capacity=10, name="lines"))
    source.to(workflow.node(leak))

    with Harness(workflow, settings={"token": SECRET}) as harness:
        harness.send(source, "ada")
        letter = harness.dead_letters[0]

    assert letter.error == "ValueError: ada refused with ******"
    assert letter.traceback is not None
    assert SECRET not in letter.traceback


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_is_in_no_log_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", form)  # type: ignore[arg-type]  # the parameter's names are of that type
    hide_in_logs([SECRET])
    log = structlog.get_logger("node")
    try:
        raise ValueError(f"refused {SECRET}")
    except ValueError:
        log.exception("failed", header=f"Bearer {SECRET}", nested={"a": [SECRET]})
    finally:
        hide_in_logs([])
        configure_logs("warning")
    written = capsys.readouterr().err

    assert "******" in written
    assert SECRET not in written
    assert json.dumps(SECRET, ensure_ascii=False)[1:-1] not in written


def test_they_are_never_pickled() -> None:
    with pytest.raises(HeadraceError, match="never pickled"):
        pickle.dumps(Settings({"x": 1}))
