"""Gateways, a worker and a store that syncs each write, each a process of its own, to be killed and started anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from command_line import Headrace, Start, commands_in
from headrace.embedded import Valkey
from waiting import until_async

FLOW: Final = (Path(__file__).parent / "flows" / "desk.py").read_text()
PATIENCE: Final = 120.0
"""Seconds: processes import much, on a machine that others use, too."""
CALLERS: Final = 100
RUNS: Final = "/v1/workflows/orders/runs"


@dataclass
class Site:
    """Who answers and who works; started anew after a kill."""

    start: Start
    store: Valkey
    worker: Headrace = field(init=False)
    gateways: list[Headrace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin_work()

    def begin_work(self) -> None:
        """Start the worker."""
        self.worker = self.start(
            "dev", "flow.py", "--inline", "--no-live", "--redis", self.store.url, "--durability", "fsync"
        )
        self.worker.says("running, after", PATIENCE)

    def gateway(self, *options: str) -> str:
        """Start a gateway; its address."""
        ran = self.start("serve", "--redis", self.store.url, "--port", "0", *options)
        ran.says("Ctrl-C stops", PATIENCE)
        self.gateways.append(ran)
        found = re.search(r"Gateway at (http://[^/]+)", ran.text)
        assert found, ran.text
        return found[1]

    def kill(self, *ran: Headrace) -> None:
        """End processes as `kill -9` does."""
        for each in ran:
            each.process.kill()
        for each in ran:
            each.process.wait()


@contextmanager
def site_of(store: Valkey, folder: Path, flow: str = FLOW) -> Iterator[Site]:
    """A site on this store for a flow with this text; `headrace` is typed in `folder / "desk"`."""
    where = folder / "desk"
    where.mkdir()
    with commands_in(where, flow) as start:
        yield Site(start, store)


def caller(address: str) -> httpx.AsyncClient:
    """Asks a gateway, as many at a time as the tests have."""
    limits = httpx.Limits(max_connections=2 * CALLERS)
    return httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(PATIENCE, connect=10), limits=limits)


async def until_ready(http: httpx.AsyncClient) -> None:
    """Until `/readyz` says so."""

    async def is_ready() -> bool:
        with suppress(httpx.TransportError):
            return (await http.get("/readyz")).status_code == httpx.codes.OK
        return False

    await until_async(is_ready, "the gateway is ready", within=PATIENCE)
