"""`deploy` onto a Ray head that was started as an operator does; commands as users type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded import Valkey
from ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PARTITIONS = 2
FLOW = """
import msgspec
from headrace import ChannelSource, Context, Event, Workflow
from rules.weight import WEIGHT

class Reading(msgspec.Struct, frozen=True):
    sensor: str

class Total(msgspec.Struct):
    weight: int = 0

def weigh(event: Event[Reading], ctx: Context[Total]) -> None:
    ctx.state.weight += WEIGHT

workflow = Workflow("weighing", partitions=2)
readings = workflow.source(ChannelSource(Reading, capacity=1000, key="sensor", name="readings"))
readings.to(workflow.node(weigh))
"""


class Ran:
    """A command that has ended."""

    def __init__(self, folder: Path, head: RayHead, *arguments: str, **environment: str | None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "RAY_"))}
        wanted = kept | head.environment | {"HEADRACE_CACHE": str(folder / ".cache")} | environment
        started = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "headrace", *arguments], cwd=folder, capture_output=True, text=True, timeout=180,
            check=False, stdin=subprocess.DEVNULL,
            env={name: value for name, value in wanted.items() if value is not None},
        )  # fmt: skip
        self.seconds = time.monotonic() - started
        self.code, self.out, self.error = ran.returncode, ran.stdout, ran.stderr
        self.text = self.out + self.error

    @property
    def json(self) -> Any:
        """What was printed with `-o json`."""
        assert self.code == 0, self.text
        return json.loads(self.out)


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """One Ray head for the module."""
    head = RayHead()
    try:
        yield head.start()
    finally:
        head.stop()


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    """A store for the module."""
    with Valkey() as server:
        yield server.url


def project(folder: Path, *, weight: int = 1, flow: str = FLOW) -> Path:
    """A folder with a workflow, and a package beside it."""
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    (folder / "flow.py").write_text(flow)
    (folder / "rules" / "__init__.py").touch()
    (folder / "rules" / "weight.py").write_text(f"WEIGHT = {weight}\n")
    (folder / ".env").write_text("PASSWORD=hunter2\n")
    return folder


async def test_a_wrong_token_is_told_within_seconds(head: RayHead, store_url: str, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("0" * 64)
    folder = project(tmp_path / "project")
    arguments = ["deploy", "flow.py", "--redis", store_url, "--address"]

    for address in (head.address, head.client_address):
        ran = Ran(folder, head, *arguments, address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))

        assert ran.code == 3
        assert "it asks for a token, and refuses this one" in ran.error
        assert "RAY_AUTH_TOKEN_PATH" in ran.error
        assert ran.seconds < 15
