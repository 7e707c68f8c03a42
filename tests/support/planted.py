"""Mistakes planted in a copy of the package, each with the test that is to find it.

For the gateway, its scripts, and what has tests of its own rather than random graphs (for these see `mutants`). Run
alone, this prints which mistakes survive: `python tests/support/planted.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_WITHIN: Final = 240.0
"""Seconds for tests to end, on a machine that others use, too."""
_FOUND, _NOT_FOUND = 1, 0
"""What pytest ends with where tests have failed, and where none has."""
_PROGRAM: Final = """
import sys
from pathlib import Path
import headrace.gateway, headrace.workflows, headrace.sources, headrace.actors
import pytest
packages = (headrace, headrace.gateway, headrace.workflows, headrace.sources, headrace.actors)
assert all(Path(each.__file__).is_relative_to(sys.argv[1]) for each in packages), "another copy would be tested"
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""


@dataclass(frozen=True)
class Planted:
    """One mistake: in a file of the package, a text that occurs once becomes another."""

    name: str
    file: str
    old: str
    new: str
    test: str
    """Finds it: below `tests/`."""


VALUES = "integration/test_gateway_values.py::"
_WAITERS = VALUES + "test_E06_E11_who_waits_gets_it_by_its_commit_and_nobody_is_left"
_WATCH = "gateway/value_watch.py"
EXECUTING = "unit/test_executing.py::"
DIRECT = "integration/test_gateway_direct.py::"
_SAME = DIRECT + "test_B20_a_request_that_is_sent_again_counts_once_by_whichever_way"
_OTHER = DIRECT + "test_B21_an_idempotency_key_is_for_one_body_at_one_run_for_one_purpose"
_EVENTS = "gateway/routes_events.py"
_APPEND = "sources/scripts/request_append.lua"

PLANTED: Final = (
    Planted(
        "of those who wait for a value only the first is told",
        _WATCH,
        "            told += 1\n",
        "            return\n",
        _WAITERS,
    ),
    Planted(
        "nobody is told of a value that has come",
        "gateway/listening.py",
        "                self._tell(by_topic.get(about, ()))",
        "                pass",
        _WAITERS,
    ),
    Planted(
        "a commit says nothing of the runs it has changed",
        "actors/scripts/commit.lua",
        "if changed ~= '' then redis.call",
        "if false then redis.call",
        _WAITERS,
    ),
    Planted("who has had a value still waits", _WATCH, "watched.waiters.pop(waiter, None)", "pass", _WAITERS),
    Planted(
        "what nobody waits for is still watched",
        _WATCH,
        "            del self._watched[place]\n",
        "            pass\n",
        _WAITERS,
    ),
    Planted(
        "channels that nobody needs are still listened to",
        "gateway/listening.py",
        "            del self._ears[topic.channel]",
        "            pass",
        _WAITERS,
    ),
    Planted(
        "who waits for the next value gets the one that it has",
        "gateway/routes_values.py",
        "(etag is not None and (etag not in known or not is_asked))",
        "etag is not None",
        VALUES + "test_E08_the_next_version_is_waited_for",
    ),
    Planted(
        "what is tried out of line is kept",
        "workflows/out_of_line.py",
        "        if not commits:\n",
        "        if False:\n",
        EXECUTING + "test_B32_a_node_is_executed_three_times_on_a_waiting_run_which_then_goes_on",
    ),
    Planted(
        "nothing of what is committed out of line is kept",
        "workflows/out_of_line.py",
        "        if not commits:\n",
        "        if True:\n",
        EXECUTING + "test_what_a_committed_execution_does_is_kept_and_what_it_returns_goes_nowhere",
    ),
    Planted(
        "a node that fails out of line keeps what it did to its state",
        "workflows/out_of_line.py",
        "            self._restore(node, entry)\n            reason",
        "            reason",
        EXECUTING + "test_a_committed_execution_that_fails_keeps_nothing",
    ),
    Planted(
        "what is out of line overtakes the events before it",
        "workflows/out_of_line.py",
        "range(first, index))\n            first,",
        "range(first, first))\n            first,",
        EXECUTING + "test_in_one_call_with_events_of_its_run_it_is_in_order_with_them",
    ),
    Planted(
        "streams are written though nothing is to be kept",
        "workflows/out_of_line.py",
        "writing if commits else _nowhere(out, writing)",
        "writing",
        EXECUTING + "test_what_is_tried_is_in_no_stream_not_even_for_a_moment",
    ),
    Planted(
        "data that a node does not take are a dead letter of its run",
        "workflows/out_of_line.py",
        "        result.failed[:] = [row for row in result.failed if row.index not in executions]\n",
        "",
        EXECUTING + "test_data_that_the_node_does_not_take_are_the_callers_affair",
    ),
    Planted(
        "a run that has ended is executed",
        "workflows/executing.py",
        "if run.absent or run.ended or not (slot in there or _begins_before(epoch, slot, run)):",
        "if run.absent:",
        EXECUTING + "test_a_run_that_has_ended_executes_nothing_and_does_not_begin_anew",
    ),
    Planted(
        "a run that begins in this epoch is taken for the one that was meant",
        "workflows/executing.py",
        "or not (slot in there or _begins_before(epoch, slot, run)):",
        ":",
        EXECUTING + "test_events_behind_an_execution_of_a_run_that_has_ended_begin_the_next_one",
    ),
    Planted(
        "who asks for a node that gets no events is told nothing",
        "workflows/executing.py",
        "for index, _ in call.executions or ()]",
        "for index, _ in ()]",
        EXECUTING + "test_a_paused_node_is_not_executed_and_one_that_is_away_neither",
    ),
    Planted(
        "who may write keeps what a node does",
        "gateway/routes_nodes.py",
        "            demand(ADMIN, name)\n",
        "            pass\n",
        "integration/test_gateway_tokens.py::test_a_token_that_may_write_keeps_nothing_of_what_a_node_does",
    ),
    Planted(
        "on the straight way nobody is asked who it is",
        "gateway/direct.py",
        "principal = await principal_of(request)",
        "from headrace.gateway.principal import Principal; principal = Principal()",
        "integration/test_gateway_tokens.py::test_a_token_that_may_read_does_nothing_else",
    ),
    Planted(
        "an Idempotency-Key of an event is not looked at",
        _EVENTS,
        'identity_of(chosen, (principal.tenant, name, run, "events"',
        'identity_of(None, (principal.tenant, name, run, "events"',
        _SAME,
    ),
    Planted(
        "an Idempotency-Key of a run is not looked at",
        _EVENTS,
        'identity_of(chosen, (principal.tenant, name, run, "runs"',
        'identity_of(None, (principal.tenant, name, run, "runs"',
        _SAME,
    ),
    Planted(
        "an Idempotency-Key of a message is not looked at",
        "gateway/routes_runs.py",
        'identity_of(chosen, (principal.tenant, name, run, "messages"',
        'identity_of(None, (principal.tenant, name, run, "messages"',
        _SAME,
    ),
    Planted(
        "that a request was sent before is not told",
        "gateway/calls.py",
        '        headers[REPLAYED] = "true"\n',
        "        pass\n",
        _SAME,
    ),
    Planted("the store takes a request twice", _APPEND, "  if before then\n", "  if false then\n", _SAME),
    Planted(
        "the store does not compare what was sent with the same key",
        _APPEND,
        "    if string.match(before, '^[^ ]*') ~= fingerprint then return 'OTHER' end\n",
        "",
        _OTHER,
    ),
    Planted(
        "all bodies are the same",
        "gateway/idempotency.py",
        "hashlib.blake2b(body, digest_size=_SIZE).hexdigest()",
        '"same"',
        _OTHER,
    ),
    Planted(
        "an Idempotency-Key counts for all runs",
        "gateway/idempotency.py",
        "Identity(digest(*scope, key)",
        "Identity(digest(*scope[:2], *scope[3:], key)",
        _OTHER,
    ),
    Planted(
        "an Idempotency-Key counts for whatever is done",
        "gateway/idempotency.py",
        "Identity(digest(*scope, key)",
        "Identity(digest(*scope[:3], key)",
        _OTHER,
    ),
)
"""All of them."""


def copied(folder: Path, planted: Planted | None) -> None:
    """A copy of the package in `folder`, with the mistake in it.

    Raises:
        ValueError: Its text does not occur once.
    """
    package = folder / "headrace"
    shutil.copytree(ROOT / "src" / "headrace", package, ignore=shutil.ignore_patterns("__pycache__"))
    if planted is None:
        return
    file = package / planted.file
    text = file.read_text()
    if text.count(planted.old) != 1:
        count = text.count(planted.old)
        raise ValueError(f"{planted.name}: its text occurs {count} times in {planted.file}; bring it up to date")
    file.write_text(text.replace(planted.old, planted.new))


def is_found(folder: Path, tests: Collection[str]) -> bool:
    """Whether one of these tests fails with the copy in `folder`.

    Raises:
        RuntimeError: They have not been run.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), *(str(ROOT / "tests" / test) for test in tests)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
        timeout=_WITHIN,
    )  # fmt: skip
    if done.returncode not in (_FOUND, _NOT_FOUND):
        raise RuntimeError(f"the tests were not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.returncode == _FOUND


def main() -> None:
    """Try all of them, two at a time."""

    def attempt(planted: Planted) -> tuple[Planted, bool]:
        with tempfile.TemporaryDirectory() as folder:
            copied(Path(folder), planted)
            return planted, is_found(Path(folder), [planted.test])

    with ThreadPoolExecutor(2) as pool:
        for planted, found in pool.map(attempt, PLANTED):
            print("found   " if found else "SURVIVES", planted.name, flush=True)


if __name__ == "__main__":
    main()
