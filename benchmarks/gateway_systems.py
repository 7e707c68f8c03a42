"""The two systems that `make bench-gateway` compares: their processes, and calls to them."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.gateway_flow import Ask
from benchmarks.http_calls import Answered, Connection

ROOT = Path(__file__).parent.parent
KEYS = 1_000
OK, ACCEPTED = 200, 202


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


def share_of(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def milliseconds(values: Sequence[float], share: float) -> float:
    """A share of seconds, in milliseconds."""
    return round(share_of(values, share) * 1000, 2)


class Program:
    """A process that says on its output when it is ready; ended by `end`.

    Args:
        command: What is started.
        ready: What its line has that says so.
        folder: Where.
        variables: Of its environment, beside ours.
    """

    def __init__(self, command: Sequence[str], ready: str, folder: Path, **variables: str) -> None:
        environment = {**os.environ, **variables, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        read: list[str] = []
        for line in self.process.stdout:
            read.append(line)
            if ready in line:
                break
        else:
            raise RuntimeError(f"{' '.join(command)} has ended:\n{''.join(read)}")
        self.said = "".join(read)

    def address(self) -> str:
        """The first address that it has said."""
        return next(word for word in self.said.split() if word.startswith("http://")).partition("/v1")[0]

    def end(self) -> None:
        """End it, in order."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class System:
    """One of the two that are compared."""

    name: str
    address: str
    path: str
    """Of a call; `{}` is the key."""
    sequential: list[float] = field(default_factory=list)
    """Median seconds of each round."""
    rates: list[float] = field(default_factory=list)
    """Calls a second of each round."""

    async def call(self, connection: Connection, number: int) -> Answered:
        """One call; its answer has to be right."""
        key = f"k{number % KEYS}"
        answer = await connection.call("POST", self.path.format(key), body_of(key, number))
        if answer.status != OK or msgspec.json.decode(answer.body) != {"number": number + 1}:
            raise AssertionError(f"{self.name}: {answer.status} {answer.body!r}")
        return answer

    async def one_after_the_other(self, count: int) -> list[float]:
        """Seconds of so many calls."""
        async with Connection(self.address) as connection:
            return [(await self.call(connection, number)).seconds for number in range(count)]

    async def at_the_same_time(self, callers: int, seconds: float) -> float:
        """Calls a second of so many callers."""
        numbers = itertools.count()
        end = time.perf_counter() + seconds

        async def caller() -> None:
            async with Connection(self.address) as connection:
                while time.perf_counter() < end:
                    await self.call(connection, next(numbers))

        await asyncio.gather(*(caller() for _ in range(callers)))
        return next(numbers) / seconds


def body_of(key: str, number: int, *, wait: bool = False) -> bytes:
    """What a caller sends."""
    return msgspec.json.encode(Ask(key, number, wait=wait))
