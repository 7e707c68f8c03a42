"""The examples with requests, over real HTTP: `headrace dev --serve` on embedded servers, and the page in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from brokers import CACHE
from browser import Browser
from command_line import Headrace
from headrace import Client
from headrace.client import GatewayProblem, RunNotCompleted, UnknownRun
from hooks import SECRET, Hooks, Told
from waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 120.0
"""Seconds: processes import much, on a machine that others use, too."""


@contextmanager
def example(folder: Path, name: str, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """An example as its page says to run it, in a folder; the gateway's address."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    (folder / ".headrace").mkdir()
    (folder / ".headrace" / "cache").symlink_to(CACHE)
    ran = Headrace(folder, "dev", name, "--serve", "--port", "0", "--no-live", *options, environment=environment)
    try:
        ran.says("running, after", within=PATIENCE)
        found = re.search(r"HTTP +(http://[^/]+)", ran.text)
        assert found, ran.text
        yield found[1]
    finally:
        ran.process.terminate()
        try:
            ran.ends()
        finally:
            ran.process.kill()
            ran.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--inline",), pytest.param((), marks=pytest.mark.cluster)], ids=["inline", "ray"])
def test_orders_wait_for_their_approval(tmp_path: Path, options: tuple[str, ...]) -> None:
    with example(tmp_path, "approval.py", *options) as address, Client(address) as client:
        orders = client.runs("orders")
        run = orders.start({"id": "4711", "total": 12.5}, wait=timedelta(minutes=1), idempotency_key="first")
        again = orders.start({"id": "4711", "total": 12.5}, wait=timedelta(minutes=1), idempotency_key="first")
        refused = orders.start({"id": "a/b", "total": 3}, wait=timedelta(minutes=1))
        waiting = orders.start({"id": "4712", "total": 3}, wait=timedelta(minutes=1))

        assert run.answer is not None
        assert again.answer is not None
        assert run.answer.value == {"order": "4711", "status": "waiting for approval"}
        assert (again.answer.value, again.answer.replayed) == (run.answer.value, True)
        assert (run.key, run.status().wait) == ("4711", "approval")

        decided = run.message("approval", {"approved": True, "by": "ann"}, wait=timedelta(minutes=1))
        refused.message("approval", {"approved": False, "by": "bob"})
        ended = waiting.terminate("sold out", wait=timedelta(seconds=30))

        assert decided.value == {"order": "4711", "status": "approved"}
        assert run.result() == {"shipped": "4711", "approved_by": "ann"}
        assert refused.result() == {"refused": "a/b", "why": "by bob"}
        assert (ended.status, ended.reason) == ("terminated", "sold out")
        with pytest.raises(RunNotCompleted) as end:
            waiting.result()
        assert (end.value.run_status, end.value.reason) == ("terminated", "sold out")
        with pytest.raises(UnknownRun):
            orders.get("4713").status()
        with pytest.raises(GatewayProblem) as wrong:
            orders.start({"id": "4714", "total": "much"})
        assert (wrong.value.problem, [row["path"] for row in wrong.value.errors]) == ("invalid_data", ["$.total"])


CALLBACKS = {
    "HEADRACE_GATEWAY__CALLBACK_SECRETS": SECRET,
    "HEADRACE_GATEWAY__CALLBACK_NETWORKS": "127.0.0.0/8",
    "HEADRACE_GATEWAY__CALLBACK_PLAIN": "true",
}
"""As the how-to says to try it on one machine."""


class Receiver:
    """The example's receiver, and what it has printed so far."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "receiver.py", "0"], cwd=folder, env=os.environ | {"CALLBACK_SECRET": SECRET},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        self.url = self.line().removeprefix("listening at ")

    def line(self) -> str:
        """The next line; waits for it."""
        return self._lines.readline().strip()

    def told(self) -> tuple[str, dict[str, Any]]:
        """What it is told next."""
        kind, _, about = self.line().partition(" ")
        return kind, json.loads(about)


@contextmanager
def receiver(folder: Path) -> Iterator[Receiver]:
    """The receiver as its page says to run it."""
    ran = Receiver(folder)
    try:
        yield ran
    finally:
        ran.process.kill()
        ran.process.wait()


def signature(told: Told) -> dict[str, str]:
    return {name: value for name, value in told.headers.items() if name.startswith("webhook-")}


@pytest.mark.slow
def test_who_sends_an_order_is_told_signed_that_it_waits_and_how_it_ends(tmp_path: Path) -> None:
    order, minute = {"id": "4711", "total": 12.5}, timedelta(minutes=1)
    with (
        example(tmp_path, "approval.py", "--inline", environment=CALLBACKS) as address,
        receiver(tmp_path) as shop,
        Hooks() as hooks,
        Client(address) as client,
    ):
        orders = client.runs("orders")
        run = orders.start(order, wait=minute, callback=shop.url)
        cancelled = orders.get("4712")
        cancelled.send({"id": "4712", "total": 3}, wait=minute, callback=hooks.url)

        kind, about = shop.told()
        assert (kind, about["key"], about["status"], about["wait"]) == ("run.waiting", "4711", "running", "approval")
        until(lambda: hooks.told, "it is told that the second one waits", within=PATIENCE)
        forged = httpx.post(shop.url, headers=signature(hooks.told[0]), content=hooks.told[0].body + b" ")
        assert (forged.status_code, shop.line()) == (401, "refused: No matching signature found")

        run.message("approval", {"approved": True, "by": "ann"})
        cancelled.terminate("sold out", wait=minute)

        kind, about = shop.told()
        assert (kind, about["key"], about["status"]) == ("run.completed", "4711", "completed")
        assert about["result"] == {"shipped": "4711", "approved_by": "ann"}
        until(lambda: len(hooks.told) == 2, "it is told that it has ended", within=PATIENCE)
        told = [each.verified() for each in hooks.told]
        assert [(each["type"], each["data"]["key"]) for each in told] == [
            ("run.waiting", "4712"), ("run.terminated", "4712")
        ]  # fmt: skip
        assert told[1]["data"]["reason"] == "sold out"
        again = [httpx.post(shop.url, headers=signature(call), content=call.body) for call in hooks.told[::-1] * 2]
        assert [each.status_code for each in again] == [204] * 4
        assert [shop.told()[0] for _ in range(2)] == ["run.terminated", "run.waiting"]
        shop.process.terminate()
        assert shop.line() == "", "it does once what it is told twice"


@pytest.mark.slow
def test_turns_of_a_session_are_answered_in_order_and_sessions_at_the_same_time(tmp_path: Path) -> None:
    with example(tmp_path, "chat.py", "--inline") as address, Client(address) as client:

        def chat(session: str) -> list[str]:
            run = client.runs("chat").get(session)
            wait = timedelta(minutes=1)
            return [run.send({"session": session, "text": text}, wait=wait).value for text in ("hello", "and then?")]

        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(chat, ["ada", "bob", "cy"]))

        assert all(text.split() for session in answers for text in session)
        status = client.runs("chat").get("ada").status()
        assert status.running
        assert (status.key, status.number) == ("ada", 1)


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """Serves the files of a folder as the example's page says; its address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"port (\d+)", server.stdout.readline())
        assert found
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        server.kill()
        server.wait()


LINES = "Array.from(document.querySelectorAll('main p'), line => [line.className, line.textContent])"


def is_over(browser: Browser, turns: int) -> bool:
    is_free: bool = browser.value("!document.querySelector('button').disabled")
    return is_free and len(browser.value(LINES)) == 2 * turns


@pytest.mark.slow
def test_the_page_of_the_chat_talks(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    browser = Browser(tmp_path / "profile")
    try:
        with pages(tmp_path) as origin:
            (tmp_path / "headrace.toml").write_text(f'[gateway]\ncors_origins = "{origin}"\n')
            with example(tmp_path, "chat.py", "--inline") as address:
                browser.open(f"{origin}/page.html?gateway={address}&session=a/b")
                for turns, text in enumerate(["hello", "Alice?"], 1):
                    browser.type(text)
                    until(partial(is_over, browser, turns), "the turn is over", within=60)
                lines = browser.value(LINES)
                browser.screenshot(Path(os.environ.get("HEADRACE_SCREENSHOT", tmp_path / "chat.png")))
                run = httpx.get(f"{address}/v1/workflows/chat/runs/~YS9i").json()

            assert [kind for kind, _ in lines] == ["user", "", "user", ""]
            assert [text for kind, text in lines if kind == "user"] == ["hello", "Alice?"]
            assert all(text and not text.startswith("No answer") for _, text in lines)
            assert run["status"] == "running"

            browser.type("is anybody there?")
            until(lambda: browser.value(LINES)[-1][0] == "bad", "it says that nobody is there", within=60)
            assert "No answer from" in browser.value(LINES)[-1][1]
    finally:
        browser.close()
