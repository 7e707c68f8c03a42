"""The demo's workflow on the test kit: whatever the batching, it is equal to the demo's offline computation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from headrace.testing import Harness

EXAMPLES = Path(__file__).parents[2] / "examples"
NODES = ("observing", "seasons", "classifying", "low", "high", "critical")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The demo's modules: `workflow`, `data`, `offline`, `channel`."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = ("workflow", "data", "offline", "channel")
    yield SimpleNamespace(**{name: import_module(f"temperature_{name}") for name in names})


def test_both_files_are_read_whatever_the_order_of_their_columns(demo: SimpleNamespace) -> None:
    rows = {city: demo.data.temperatures(file) for city, file in demo.data.CITIES.items()}

    assert [len(found) for found in rows.values()] == [8759, 8759]
    assert rows["seattle"][0][1] == pytest.approx((39.4 - 32) * 5 / 9, abs=0.01)
    assert rows["san-francisco"][0][1] == pytest.approx((47.8 - 32) * 5 / 9, abs=0.01)


def test_each_action_occurs_often_enough(demo: SimpleNamespace) -> None:
    expected = demo.offline.compute(demo.data.readings())

    assert sum(expected.actions.values()) == 3 * 17_518
    assert min(expected.actions.values()) >= 20


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("fuse", [None, "all"])
def test_states_and_alerts_are_those_of_the_offline_computation(
    demo: SimpleNamespace, size: int, fuse: Literal["all"] | None
) -> None:
    readings = demo.data.readings(700)
    expected = demo.offline.compute(readings)

    with Harness(demo.workflow.workflow, fuse=fuse) as harness:
        for start in range(0, len(readings), size):
            harness.send_all(demo.workflow.readings, readings[start : start + size])

        assert {key: states_of(demo, run) for key, run in harness.runs.items()} == expected.states
        assert alerts_of(demo, harness) == expected.alerts


def states_of(demo: SimpleNamespace, run: Any) -> dict[str, Any]:
    """States that are not as new, as the store has them."""
    states = {}
    for name in NODES:
        node = getattr(demo.workflow, name)
        state = run.state(node)
        if state != type(state)():
            states[node.name] = json.loads(msgspec.json.encode(state))
    return states


def alerts_of(demo: SimpleNamespace, harness: Harness) -> list[tuple[Any, ...]]:
    rows = [json.loads(msgspec.json.encode(alert)) for alert in harness.sent(demo.workflow.alerts)]
    return sorted((row["sensor"], row["time"], row["level"], row["celsius"], row["change"]) for row in rows)


def test_the_channel_variant_ends_by_a_critical_temperature(demo: SimpleNamespace) -> None:
    channel = demo.channel
    with Harness(channel.workflow) as harness:
        harness.send_all(channel.incoming, [channel.Celsius(value) for value in (20.0, 31.0, 9.0, 45.0, 22.0)])

        assert harness.outcome == "terminated"
        assert harness.run.result == "45.0 degrees"
        assert harness.run.state(channel.warning).values == [31.0, 9.0]
        assert harness.remainder(channel.incoming) == [channel.Celsius(22.0)]
