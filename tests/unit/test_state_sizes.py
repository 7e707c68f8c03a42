"""States near their cap are told of, those over it refused."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import structlog

from headrace import Context, Event, KafkaSource, Node, Workflow
from headrace.actors.large_states import EVERY, LargeStates
from headrace.workflows.calls import CallResult
from headrace.workflows.commit import Head
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.instructions import Load
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.state_sizes import SHARED, StateSizes


class Kept(msgspec.Struct):
    text: str = ""


class Keep(Node[int, Kept, None]):
    def process(self, event: Event[int], ctx: Context[Kept]) -> None:
        ctx.state.text = "x" * event.data


class KeepTogether(Node[int, None, None]):
    def process(self, event: Event[int], ctx: Context[None, Kept]) -> None:  # type: ignore[override]
        ctx.run.state.text = "x" * event.data


def process(workflow: Workflow, sizes: StateSizes, *lengths: int) -> list[CallResult]:
    """Results of one epoch with these events, all of the run `k`."""
    plan = workflow.compile()
    core = PartitionCore(plan, 0, 1, Head("o", 0, {}, 0, {}))
    values: list[bytes | None] = [b"%d" % length for length in lengths]
    count = len(values)
    core.offer([Records(0, "t/0", list(range(count)), [0] * count, [b"k"] * count, values, str(count))], now=0)
    runner = UnitRunner(plan, 0, sizes=sizes)
    results: list[CallResult] = []
    while instructions := core.instructions():
        for instruction in instructions:
            if isinstance(instruction, Load):
                core.loaded(instruction.keys, [{}], now=0)
            elif isinstance(instruction, Dispatch):
                results.append(runner.run(instruction.call))
                core.finished(results[-1], now=0)
    return results


@pytest.mark.parametrize(("node", "shared", "name"), [(Keep, None, "keep"), (KeepTogether, Kept, SHARED)])
def test_a_state_is_told_of_from_three_quarters_of_the_cap_on(
    node: Callable[[], Node[int]], shared: type | None, name: str
) -> None:
    told: list[tuple[str, str, int, int]] = []
    workflow = Workflow("keeping", state=shared)
    workflow.source(KafkaSource("t", int)).to(workflow.node(node()))
    frame = len('{"text":""}')

    results = process(workflow, StateSizes(400, lambda *row: told.append(row)), 300 - frame, 301 - frame, 400, 1)

    assert told == [(name, "k", 301, 400)]
    assert [failed.reason for result in results for failed in result.failed] == ["state"]


def test_a_node_is_warned_of_once_a_minute_and_every_event_counted() -> None:
    now = 0.0
    states = LargeStates(lambda: now)

    with structlog.testing.capture_logs() as logs:
        for seconds in (0.0, 1.0, EVERY, EVERY + 1):
            now = seconds
            states("keep", "k", 800, 1000)
            states("other", "k", 900, 1000)

    assert states.count == 8
    assert [(row["event"], row["node"]) for row in logs] == [("state_large", "keep"), ("state_large", "other")] * 2
    assert all(row["log_level"] == "warning" and row["cure"] for row in logs)
