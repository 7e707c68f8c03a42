"""From a value that a node writes to a follower over HTTP, and what a thousand waiting readers cost others.

`python benchmarks/stream_latency.py`: starts its own store and a gateway in a process of its own; prints milliseconds.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import httpx

from headrace.actors.store import Store
from headrace.actors.store_streams import StreamWriter
from headrace.embedded import Valkey
from headrace.workflows.commit import Commit
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from headrace.workflows.streaming import StreamPlace

VALUES = 300
WAITING = 1000
PAUSE = 0.01
WORKFLOW = "talk"
PLACE = StreamPlace("a", 1, "s", "n", "e/0")


async def measure(redis_url: str, address: str) -> None:
    """Measure, and print."""
    async with Store(redis_url, WORKFLOW) as store:
        requests = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name=WORKFLOW, partitions=1, sources=(requests,)))
        head = await store.acquire(0, term=1, placement=1, worker="worker/0")
        await store.commit(0, head.owner, Commit(1, runs={"a": ["status", "running", "number", "1"]}))
        limits = httpx.Limits(max_connections=2 * WAITING)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as http:
            await follow(http, redis_url, head.owner)
            await wait(http, store, head.owner)


async def follow(http: httpx.AsyncClient, redis_url: str, owner: str) -> None:
    """One value at a time, from its writer to a follower."""
    writer = StreamWriter(redis_url, WORKFLOW, 1)
    taken: list[float] = []
    path = f"/v1/workflows/{WORKFLOW}/runs/a/streams/s"
    async with http.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        for number in range(1, VALUES + 1):
            began = time.perf_counter()
            await writer.append(0, owner, PLACE, "t", number, b'"word"')
            async for line in lines:
                if line.startswith("data: "):
                    break
            taken.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(PAUSE)
    await writer.close()
    late = statistics.quantiles(taken, n=100)[98]
    print(f"value to follower: p50 {statistics.median(taken):.1f} ms, p99 {late:.1f} ms")


async def wait(http: httpx.AsyncClient, store: Store, owner: str) -> None:
    """A thousand readers wait for one value; meanwhile somebody asks for /healthz."""
    path = f"/v1/workflows/{WORKFLOW}/runs/a/values/k"
    where = (http.base_url.host, http.base_url.port or 80)
    readers = [asyncio.create_task(plain_get(*where, path)) for _ in range(WAITING)]
    text = ""
    while "headrace_gateway_waiting{" not in text or f" {WAITING}.0" not in text:
        await asyncio.sleep(0.5)
        text = (await http.get("/metrics")).text
    health: list[float] = []
    for _ in range(50):
        began = time.perf_counter()
        await http.get("/healthz")
        health.append((time.perf_counter() - began) * 1e3)
    print(f"/healthz beside {WAITING} who wait: p50 {statistics.median(health):.1f} ms, most {max(health):.1f} ms")
    fields = ["status", "running", "number", "1", "value:k", '1 "now"']
    began = time.perf_counter()
    await store.commit(0, owner, Commit(2, runs={"a": fields}, changed=["a"]))
    answers = await asyncio.gather(*readers)
    assert all(answer.endswith(b'"now"') for answer in answers)
    print(f"all {WAITING} answered {(time.perf_counter() - began) * 1e3:.0f} ms after the commit began")
    one = asyncio.create_task(http.get(path, headers={"Prefer": "wait=30", "If-None-Match": '"1.1"'}))
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    await store.commit(0, owner, Commit(3, runs={"a": [*fields[:-1], '2 "new"']}, changed=["a"]))
    await one
    print(f"one that waits: answered {(time.perf_counter() - began) * 1e3:.1f} ms after the commit began")


async def plain_get(host: str, port: int, path: str) -> bytes:
    """What a server answers: a client that costs next to nothing."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nPrefer: wait=30\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def main() -> None:
    """Start what is needed, measure, end it."""
    with Valkey() as valkey:
        url = f"redis://127.0.0.1:{valkey.port}/0"
        command = [sys.executable, "-m", "headrace", "serve", "--redis", url, "--port", "18099"]
        gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = "http://127.0.0.1:18099"
            for _ in range(200):
                try:
                    httpx.get(f"{address}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            asyncio.run(measure(url, address))
        finally:
            gateway.terminate()
            gateway.wait(30)


if __name__ == "__main__":
    main()
