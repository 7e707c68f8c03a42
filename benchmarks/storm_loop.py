"""CPU time of a storm of retries in the core alone: no broker, no store, no waiting.

The clock goes with the CPU time of the process, and jumps where there is nothing to do. So other work on the machine
shows less in it than in `patience.py`. The last line is JSON: microseconds an event, by kind.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

from benchmarks.patience import say
from benchmarks.patience_flow import Wish, storm_of
from headrace.actors.sizing import Sizing
from headrace.workflows.commit import Answer
from headrace.workflows.instructions import Load, Recall, Ring
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save

BEGAN = 1_700_000_000_000
COMMIT = 2
"""Milliseconds that the store takes for a commit."""


class Loop:
    """One partition, whose store says yes to everything a little later."""

    def __init__(self, kind: str, events: int, keys: int) -> None:
        plan = storm_of(kind).compile(fuse="all")
        self.core = PartitionCore(plan, 0, 1, MemoryStore(history=1).acquire(0, term=1, placement=1, worker="w"))
        self.runner, self.sizing = UnitRunner(plan, 0), Sizing()
        self.values: list[bytes | None] = [msgspec.json.encode(Wish(f"k{n % keys}", 0.0)) for n in range(events)]
        self.read = self.calls = self.parked = self._jumped = 0
        self._stand: dict[str, bytes] = {}
        self._saves: deque[tuple[int, Save]] = deque()
        self._cpu = time.process_time()

    @property
    def now(self) -> int:
        """Milliseconds since 1970 UTC."""
        return BEGAN + self._jumped + int((time.process_time() - self._cpu) * 1000)

    def run(self) -> float:
        """Until all events are done. Returns microseconds of CPU time for each."""
        began = self._cpu = time.process_time()
        while self.read < len(self.values) or not self.core.idle:
            if not (self._do() or self._offer()):
                due = [time for time in (self.core.wakes_at, self._saves and self._saves[0][0]) if time]
                self._jumped += max(0, min(due) - self.now)
        return (time.process_time() - began) / len(self.values) * 1e6

    def _do(self) -> bool:
        core, now = self.core, self.now
        if (due := core.wakes_at) is not None and due <= now:
            core.advance(now)
        instructions = core.instructions()
        for asked in instructions:
            if isinstance(asked, Load):
                core.loaded(asked.keys, [{}] * len(asked.keys), self.now)
            elif isinstance(asked, Recall):
                core.recalled(asked.tickets, [self._stand[ticket.field] for ticket in asked.tickets], self.now)
            elif isinstance(asked, Save):
                self.parked += len(asked.commit.parked)
                self._stand.update(asked.commit.parked)
                self.sizing.learn_commit(asked)
                self._saves.append((now + COMMIT, asked))
            elif not isinstance(asked, Ring):
                self.calls += 1
                result = self.runner.run(asked.call, asked.data)
                self.sizing.learn(result)
                core.finished(result, self.now)
        if self._saves and self._saves[0][0] <= now:
            self._saves.popleft()
            core.committed(Answer.APPLIED, self.now)
            return True
        return bool(instructions)

    def _offer(self) -> bool:
        first, end = self.read, min(self.read + self.sizing.limit, len(self.values))
        if first == end or not self.core.wants_records:
            return False
        self.read, count = end, end - first
        records = Records(
            0, "wishes/0", list(range(first, end)), [BEGAN] * count, [None] * count, self.values[first:end], str(end)
        )
        self.core.offer([records], self.now)
        return True


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, in turn; the best one counts")
    asked = parser.parse_args()
    gc.set_threshold(50_000, 20, 100)
    best: dict[str, float] = {}
    for _ in range(asked.rounds):
        for kind in ("calm", "storm"):
            loop = Loop(kind, asked.events, asked.keys)
            took = loop.run()
            best[kind] = min(took, best.get(kind, took))
            waited = f"{loop.core.soon.kept} waited in memory, {loop.parked} were parked"
            say(f"{kind}: {took:.2f} µs an event, {loop.calls} calls, {waited}")
    print(json.dumps({kind: round(took, 2) for kind, took in best.items()}))


if __name__ == "__main__":
    main()
