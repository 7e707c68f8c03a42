"""A worker that is drained is killed afterwards: spans that wait have left by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.actors.cluster import deployment_of
from headrace.actors.inline import launch_inline
from headrace.actors.loading import load_workflow
from headrace.tracing import exporting
from headrace.tracing.options import Tracing
from otlp import Receiver
from waiting import until

FLOW = """
from headrace import Context, Event, ReplaySource, Workflow

def noted(event: Event[dict[str, int]], ctx: Context) -> None:
    pass

workflow = Workflow("drained", keyed=False)
workflow.source(ReplaySource("rows.jsonl", dict[str, int])).to(workflow.node(noted))
"""


def test_spans_have_left_when_a_drained_worker_says_so(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PERIOD", 3600.0)  # they leave by no other occasion
    file = tmp_path / f"flow_{tmp_path.name}.py"
    file.write_text(FLOW.replace("rows.jsonl", str(tmp_path / "rows.jsonl")))
    (tmp_path / "rows.jsonl").write_text('{"number": 1}\n{"number": 2}\n')
    code, workflow = load_workflow(file.name, tmp_path)
    with Receiver() as receiver:
        tracing = Tracing(endpoint=f"{receiver.address}/v1/traces", ratio=1.0)
        plan = workflow.compile(fuse="all")
        cluster = launch_inline(deployment_of(plan, code, redis_url, fuse=True, traces=tracing))
        try:
            until(lambda: (row := cluster.status()) and row.roles[0].counters["events"] == 2, "both rows are committed")
            assert receiver.spans == []

            cluster.hold()

            assert sorted(span.name for span in receiver.spans) == [
                "noted",
                "noted",
                "process replay",
                "process replay",
            ]
        finally:
            cluster.stop()
