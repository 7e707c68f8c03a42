"""Mistakes planted in a copy of the core: each must be found by the random graphs, or by the tests that it names.

Run alone, this prints which mutants survive: `python tests/support/mutants.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 1_500
"""Graphs that a mutant may survive, each in one partition and in several; the unchanged core survives all."""


@dataclass(frozen=True)
class Mutant:
    """One mistake: in a file of `workflows/`, a text that occurs once becomes another."""

    name: str
    file: str
    old: str
    new: str
    tests: str = ""
    """A file of unit tests that must find it; "": the random graphs must."""


MUTANTS = (
    Mutant("waves are not sorted", "dispatch.py", "waiting.sort(key=epoch.order)", "waiting.reverse()"),
    Mutant(
        "an epoch overtakes another in a region",
        "dispatch.py",
        "not (occupied[index] or before)",
        "not before",
    ),
    Mutant(
        "a region begins before its ancestors are done",
        "dispatch.py",
        "occupied[r] or moving[r] for r",
        "occupied[r] for r",
    ),
    Mutant(
        "a region begins though an earlier epoch can still reach it",
        "dispatch.py",
        "occupied[r] or moving[r] for r",
        "moving[r] for r",
    ),
    Mutant("two calls at a replica", "dispatch.py", "and place not in self.busy]", "]"),
    Mutant(
        "sent states are not sent again when asked for",
        "dispatch.py",
        "dispatch.call.states[index] = dispatch.runs[index].blobs[unit]",
        "pass",
    ),
    Mutant("new states are not taken over", "router.py", "run.blobs[unit] = blobs", "pass"),
    Mutant("states are not written", "router.py", "writes.setdefault(run, {})[unit] = blobs", "pass"),
    Mutant("children in the wrong order", "router.py", ".extend(reversed(inner))", ".extend(inner)"),
    Mutant(
        "a run that ended keeps what it had in hand", "router.py", "epoch.load[0] -= len(stack) + len(queue)", "pass"
    ),
    Mutant(
        "the end leaves another target of its event alone", "router.py", "{end.root, *epoch.firings}", "epoch.firings"
    ),
    Mutant("an unkeyed end does not cut the epoch", "router.py", "epoch.cut = end.root", "pass"),
    Mutant("a broken record is several dead letters", "router.py", "epoch.pending.undecoded.add(root)", "pass"),
    Mutant(
        "events of an ended run stay with it",
        "late.py",
        "if run is not None and run.ended and not (messages and latest(run).ended):",
        "if False:",
    ),
    Mutant("results that nobody waits for are taken", "partition.py", "dispatch.call.number != result.number", "False"),
    Mutant(
        "serial epochs overlap",
        "partition.py",
        "epoch.missing or ((self.plan.serial or epoch.evicts or epoch.waits) and not earlier_done)",
        "epoch.missing",
    ),
    Mutant(
        "a lost answer is taken for a refusal", "partition.py", "(Answer.APPLIED, Answer.ALREADY)", "(Answer.APPLIED,)"
    ),
    Mutant(
        "a refusal is taken for an answer",
        "partition.py",
        "            return False\n        epoch = self.epochs.popleft()",
        "            pass\n        epoch = self.epochs.popleft()",
    ),
    Mutant("epochs behind an unkeyed end go on", "partition.py", "self.epochs.clear()", "pass"),
    Mutant(
        "a failed event's state is kept",
        "runner.py",
        "                    self._entries.restore(node, entry)\n",
        "",
    ),
    Mutant("no savepoint", "runner.py", "entry.blobs[slot] = saved", "pass"),
    Mutant(
        "an ended run goes on in its call",
        "runner.py",
        "            if entry.ended:\n                out",
        "            if False:\n                out",
    ),
    Mutant("mutable data is shared by nodes", "runner.py", "if not (first or immutable[type]):", "if False:"),
    Mutant("any version of a state will do", "entries.py", "entry.version == base", "True"),
    Mutant("fan-out is not handed back", "outcome.py", "stack.extend(branches(step, item))", "pass"),
    Mutant("what is left overtakes what has left", "runner.py", "if step.leaves:", "if False:"),
    Mutant("branches have one path", "outcome.py", "same and path == base and", "same and"),
    Mutant("waves that meet are not put in order", "waves.py", "waves[other].sort(key=_by_place)", "pass"),
    Mutant("a failed event's state is kept by waves", "waves.py", "self._entries.restore(node, entry)", "pass"),
    Mutant("no savepoint in waves", "waves.py", "entry.blobs[slot] = saved", "pass"),
    Mutant("mutable data is shared in waves", "waves.py", "if depth > 1 and type in mutable:", "if False:"),
    Mutant("what is sent forgets where it came from", "waves.py", "sent is None or paths or", "sent is None or"),
    Mutant(
        "only the first of what is sent leaves",
        "saving.py",
        "for roots, path, runs, outputs in pending.sent:",
        "for roots, path, runs, outputs in pending.sent[:1]:",
    ),
    Mutant("outputs behind the end leave", "saving.py", " and not _late(pending, row[2], row[0], row[1])", ""),
    Mutant(
        "outputs forget where they came from",
        "emitting.py",
        "path = epoch.paths.get(slot, ()) + suffix if epoch.paths else suffix",
        "path = suffix",
    ),
    Mutant(
        "positions pass the end", "saving.py", "if epoch.cut is None else min(len(records), epoch.cut + 1 - first)", ""
    ),
    Mutant(
        "a reused key keeps the old fields",
        "saving.py",
        "    commit.fresh.append(run.key)\n        elif",
        "    pass\n        elif",
    ),
    Mutant("busy runs are let go", "runs.py", "if not run.busy]", "]"),
    Mutant(
        "paths are not joined",
        "epoch.py",
        "self.paths[new] = self.paths.get(slot, ()) + suffix",
        "self.paths[new] = suffix",
    ),
    Mutant(
        "a stateful batch has a run twice",
        "batching.py",
        "            at = level.get(call.runs[index], 0)\n",
        "            at = 0\n",
    ),
)


MUTANTS += (
    Mutant("a destination takes repeats", "memory_store.py", "events[last + 1 - first :]", "events[:]"),
    Mutant("a destination takes what is missing something", "memory_store.py", "if first > last + 1:", "if False:"),
    Mutant(
        "numbers are not kept in the head", "transfers.py", "self._last[name] = counters[name] =", "self._last[name] ="
    ),
    Mutant(
        "events are sent on in the wrong order",
        "transfers.py",
        "for row in misplaced:",
        "for row in reversed(misplaced):",
    ),
    Mutant("events lose their ids on the way", "transfers.py", "ids=[row.id for row in rows], ", ""),
    Mutant(
        "an owner of the past sends",
        "memory_store.py",
        'if fields.get("owner") != sender.owner or int(fields.get("outbox", "0")) < sender.outbox:',
        "if False:",
    ),
    Mutant(
        "what the store has lost on its way is forgotten at its origin",
        "memory_store.py",
        "            return Answer.ROLLED_BACK\n        held.outbox =",
        "            pass\n        held.outbox =",
    ),
    Mutant(
        "keys are processed wherever they arrive",
        "admission.py",
        "partition_of(key, core.partitions) == core.partition",
        "True",
    ),
    Mutant(
        "dead letters go back in where their source leads",
        "admission.py",
        "return taken, way.targets, way.type",
        "return taken, self._plan.sources[0].targets, way.type",
    ),
    Mutant("dead letters go back in at the first node", "reentry.py", "Way((node.index,)", "Way((0,)"),
)


MUTANTS += (
    Mutant("an ended run's call goes on", "haste.py", "void=tuple(runs)", "void=()", "test_haste.py"),
    Mutant("calls are waited for as ever", "slow.py", "waiting.reschedule(soon)", "pass", "test_haste.py"),
    Mutant(
        "calls that begin are waited for as ever", "haste.py", "self._tell((), self._core.dispatcher.calls)", "pass",
        "test_haste.py",
    ),
    Mutant(
        "what does not return is waited for",
        "haste.py",
        "since + self._core.limits.patience",
        "since + 60 * self._core.limits.patience",
        "test_haste.py",
    ),
    Mutant("what was given up is never done", "haste.py", "self._spared.add(place)", "pass", "test_haste.py"),
    Mutant(
        "slow calls outlive their run", "standing.py", "self._core.haste.void([(run.key, run.number)])", "pass",
        "test_haste.py",
    ),
    Mutant("what comes in twice is one", "program.py", "marks=True)", "marks=False)", "test_joins_inside.py"),
    Mutant(
        "a letter back forgets its node", "standing.py", "else back.node", 'else ""', "test_retries.py",
    ),
)  # fmt: skip


def plant(mutant: Mutant, folder: Path) -> None:
    """A copy of the package in `folder`, with the mistake in it."""
    package = folder / "headrace"
    shutil.copytree(ROOT / "src" / "headrace", package, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / "workflows" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        count = text.count(mutant.old)
        raise ValueError(f"{mutant.name}: its text occurs {count} times in {mutant.file}; bring it up to date")
    file.write_text(text.replace(mutant.old, mutant.new))


def survives(mutant: Mutant | None, folder: Path) -> str | None:
    """The last words of the process if all graphs were right (or it never began), else None: killed."""
    if mutant is not None:
        plant(mutant, folder)
    tests = [str(ROOT / "tests" / name) for name in ("support", "unit")]
    path = os.pathsep.join([str(folder), *tests] if mutant is not None else [str(ROOT / "src"), *tests])
    program = "import sys, headrace, pytest\nprint('began', headrace.__file__, flush=True)\n"
    if mutant is not None and mutant.tests:
        program += (
            f"sys.exit(pytest.main(['-qx', '-p', 'no:cacheprovider', {str(ROOT / 'tests/unit' / mutant.tests)!r}]))"
        )
    else:
        program += (
            "from test_core_random import check, check_spread\n"
            f"for seed in range({SEEDS}):\n"
            "    check(seed, faults=seed % 4 != 0, steps=20_000)\n"
            "    check_spread(seed, faults=seed % 4 != 0, steps=20_000)\n"
        )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    place = str(folder if mutant is not None else ROOT)
    if f"began {place}" not in done.stdout:
        raise RuntimeError(f"did not begin: {done.stdout}\n{done.stderr}")
    return None if done.returncode else done.stdout


def main() -> None:
    """Try all of them, two at a time."""
    import tempfile  # noqa: PLC0415  only here

    def attempt(mutant: Mutant) -> tuple[Mutant, bool]:
        with tempfile.TemporaryDirectory() as folder:
            return mutant, survives(mutant, Path(folder)) is not None

    with ThreadPoolExecutor(2) as pool:
        for mutant, alive in pool.map(attempt, MUTANTS):
            print("SURVIVES" if alive else "killed  ", mutant.name, flush=True)


if __name__ == "__main__":
    main()
