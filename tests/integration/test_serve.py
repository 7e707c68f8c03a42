"""`headrace serve` as typed: it answers, lets callers go when it is to end, and names mistakes in its settings."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from command_line import Headrace, Start, commands_in, said
from headrace.actors.store import Store
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from waiting import until, until_async

PATIENCE = 120.0
"""Seconds: processes import much, on a machine that others use, too."""
FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a folder with `flow.py`."""
    with commands_in(tmp_path, FLOW) as start:
        yield start


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Knows a workflow that nobody runs."""
    source = SourceDescriptor(kind="requests", name="requests", schema={"type": "object"})
    async with Store(redis_url, "orders") as store:
        await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=1, sources=(source,)))
        yield store


def address_of(ran: Headrace) -> str:
    ran.says("Ctrl-C stops")
    found = re.search(r"Gateway at (http://[^/]+)", ran.text)
    assert found, ran.text
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
async def test_callers_that_wait_are_let_go_when_it_is_to_end(
    start: Start, redis_url: str, store: Store, ending: signal.Signals, processes: int
) -> None:
    ran = start("serve", "--redis", redis_url, "--port", "0", "--processes", str(processes))
    address = address_of(ran)
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:

        async def is_ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until_async(is_ready, "it is ready", within=PATIENCE)
        path = "/v1/workflows/orders/runs/s1/events"
        waits = asyncio.create_task(http.post(path, json={}, headers={"Prefer": "wait=30"}))
        await until_async(lambda: store.client.xlen(store.keys(0).inbox), "the request is in")

        children = ran.family()
        ran.process.send_signal(ending)
        answer = await asyncio.wait_for(waits, 29)

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=30")
    assert await asyncio.to_thread(ran.ends, PATIENCE) == 0
    assert "The gateway has stopped." in ran.text
    assert "Traceback" not in ran.text
    until(lambda: not any(map(psutil.Process.is_running, children)), "nothing of it is left")


def answering(ran: Headrace) -> list[psutil.Process]:
    """The processes that answer for a gateway of several."""

    def is_answering(child: psutil.Process) -> bool:
        try:
            return "spawn_main" in " ".join(child.cmdline())
        except psutil.Error:  # it has just ended
            return False

    return list(filter(is_answering, ran.family()))


def two_answering(ran: Headrace) -> list[psutil.Process]:
    """The same, once there are two."""
    return until(lambda: found if len(found := answering(ran)) == 2 else None, "two processes answer", within=PATIENCE)


@pytest.mark.slow
async def test_a_process_that_is_killed_is_replaced(start: Start, redis_url: str, store: Store) -> None:
    ran = start("serve", "--redis", redis_url, "--port", "0", "--processes", "2")
    address = address_of(ran)

    first = two_answering(ran)
    first[0].kill()
    until(
        lambda: len({child.pid for child in answering(ran)} - {first[0].pid}) == 2,
        "its place is taken",
        within=PATIENCE,
    )

    async with httpx.AsyncClient(base_url=address, timeout=60) as http:

        async def answers() -> bool:
            try:
                return (await http.get("/v1/workflows/orders/runs/s1")).status_code == 404
            except httpx.TransportError:
                return False

        await until_async(answers, "it answers", within=PATIENCE)


@pytest.mark.slow
async def test_if_the_process_that_looks_after_the_others_is_killed_they_end_too(
    start: Start, redis_url: str, store: Store
) -> None:
    ran = start("serve", "--redis", redis_url, "--port", "0", "--processes", "2")
    address_of(ran)
    children = two_answering(ran)
    psutil.Process(children[0].ppid()).kill()

    until(lambda: not any(child.is_running() for child in children), "they have ended", within=PATIENCE)


def test_an_address_that_is_taken_is_named(start: Start, redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        assert f"can't listen at 127.0.0.1:{port}" in said(start, "serve", "--redis", redis_url, "--port", port, code=1)


def test_settings_of_the_gateway_count_and_mistakes_are_named(start: Start, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("[gateway]\nhost = '127.0.0.2'\nport = 0\n")
    ran = start("serve", "--redis", redis_url)
    assert address_of(ran).startswith("http://127.0.0.2:")

    (tmp_path / "headrace.toml").write_text("[gateway]\nprot = 0\n")
    assert "Did you mean port?" in said(start, "serve", "--redis", redis_url, code=1)


async def test_the_interface_of_a_workflow_is_printed(start: Start, redis_url: str, store: Store) -> None:
    anyone = json.loads(await asyncio.to_thread(said, start, "openapi"))
    orders = json.loads(await asyncio.to_thread(said, start, "openapi", "orders", "--redis", redis_url))

    assert "/v1/workflows/{workflow}/runs/{key}" in anyone["paths"]
    assert "/v1/workflows/orders/runs/{key}" in orders["paths"]
    assert orders["components"]["schemas"]["requests.requests"] == {"type": "object"}


def test_the_interface_of_a_file_is_printed_without_a_store(start: Start, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "wrong.py").write_text(FLOW + "\nworkflow.node(print)\n")

    interface = json.loads(said(start, "openapi", "flow.py"))
    topics = json.loads(said(start, "asyncapi", "flow.py"))
    wrong = said(start, "openapi", "wrong.py", code=1)

    assert "/v1/workflows/orders/runs/{key}" in interface["paths"]
    schema = interface["components"]["schemas"]["requests.requests"]
    assert schema["$defs"]["Order"]["properties"].keys() == {"what", "items"}
    assert topics["asyncapi"] == "3.0.0"
    assert "print" in wrong
