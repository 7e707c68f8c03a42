"""In a notebook the graph draws itself, and the Harness works inside the kernel's running loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FLOW = """
from headrace import Context, Event, KafkaSink, KafkaSource, Workflow

async def shout(event: Event[str], ctx: Context) -> str:
    return event.data.upper()

workflow = Workflow("loud")
lines = workflow.source(KafkaSource("lines", str))
loud = workflow.sink(KafkaSink("loud", str))
node = workflow.node(shout)
lines.to(node)
node.to(loud)
"""
CELLS = (
    "from flow import *\nworkflow",
    "from headrace.testing import Harness\nharness = Harness(workflow).__enter__()",
    "harness.send(lines, 'tea', key='ada')\nharness.sent(loud)",
    "harness.__exit__(None, None, None)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each cell shows."""
    folder: Path = tmp_path_factory.mktemp("notebook")
    (folder / "flow.py").write_text(FLOW)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return [dict(output.data) for cell in notebook.cells for output in cell.outputs if "data" in output]


def test_a_workflow_shows_its_graph(outputs: list[dict[str, Any]]) -> None:
    shown = outputs[0]

    assert shown["text/plain"] == "<workflow loud: 1 sources, 1 nodes, 1 sinks>"
    assert shown["text/vnd.mermaid"].startswith("flowchart")
    assert "shout" in shown["image/svg+xml"]


def test_the_harness_works_there(outputs: list[dict[str, Any]]) -> None:
    assert outputs[1]["text/plain"] == "['TEA']"
