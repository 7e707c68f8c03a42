"""CPU time of a tree of processes, children that have ended included."""

from __future__ import annotations

from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]


class CpuMeter:
    """Measures what a process and all below it have used since the meter was made.

    A process that ended counts through its parent, which waited for it. One that left the tree (its parent
    died first) counts no longer once it is gone: name the roots so that this does not happen.

    Args:
        roots: Process ids to begin at; theirs and all below count.
        without: Process ids of subtrees that don't count (the broker), alive as long as the meter.
    """

    def __init__(self, roots: Iterable[int], *, without: Iterable[int] = ()) -> None:
        self._roots = list(roots)
        self._without = frozenset(without)
        self._before = self._total()

    def seconds(self) -> float:
        """CPU seconds, user and system, since the meter was made."""
        return self._total() - self._before

    def _total(self) -> float:
        return sum(_used(process) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        waiting = [psutil.Process(pid) for pid in self._roots if psutil.pid_exists(pid)]
        while waiting:
            process = waiting.pop()
            if process.pid in found or process.pid in self._without:
                continue
            found[process.pid] = process
            try:
                waiting.extend(process.children())
            except psutil.NoSuchProcess:
                continue
        return list(found.values())


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # The latter two: children that have ended and were waited for, with all below them.
    return float(times.user + times.system + times.children_user + times.children_system)
