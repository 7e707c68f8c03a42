"""Watches a running workflow: shows its status, live or as lines, and notices when its run has ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from ray.exceptions import RayError
from rich.text import Text

from headrace.actors.cluster import Cluster
from headrace.actors.inline import InlineCluster
from headrace.actors.spec import ClusterStatus
from headrace.actors.store import Store
from headrace.cli.letters import newest_letter, sentence_of
from headrace.cli.meter import Meter
from headrace.cli.screen import Screen
from headrace.cli.servers import Servers
from headrace.cli.table import described, picture, summary
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan
from headrace.workflows.runs import RESULT_FIELD, STATUS_FIELD

log = structlog.get_logger(__name__)

PERIOD: Final = 0.25
"""Seconds between two looks."""
_LINE_EVERY: Final = 2.0
"""Seconds between two lines with totals, where nobody looks on."""


class Watch:
    """What is shown of one running workflow.

    Args:
        cluster: The workflow.
        plan: Its plan.
        servers: Looked after, too.
        screen: Where it is shown.
        live: As a picture that is drawn again; else as lines, when something has changed.
        keep: Go on when the run of an unkeyed workflow has ended.
        on_look: Called at each look, with the status.
    """

    def __init__(
        self,
        cluster: Cluster | InlineCluster,
        plan: Plan,
        servers: Servers,
        screen: Screen,
        *,
        live: bool,
        keep: bool,
        on_look: Callable[[ClusterStatus | None], None],
    ) -> None:
        self._cluster = cluster
        self._plan = plan
        self._servers = servers
        self._screen = screen
        self._keep = keep
        self._on_look = on_look
        self._meter = Meter()
        self._started = time.monotonic()
        self._live = screen.picture() if live else None
        self._problems: dict[tuple[str, str], str] = {}
        self._was_up = self._said_end = False
        self._last_line = (0.0, "")
        self._letter = ""
        self._letters_seen = 0

    @property
    def summary(self) -> str:
        """The totals on one line."""
        totals = self._meter.totals()
        return f"{totals.events:,} events, {totals.outputs:,} outputs, {totals.dead_letters:,} dead letters."

    def until_end(self, asked: threading.Event) -> None:
        """Show the status until `asked` is set, or the run has ended and is not to be kept."""
        if self._live is not None:
            self._live.start()
            self._live.update(Text("starting ..."), refresh=True)
        else:
            self._screen.say("starting ...")
        while not asked.is_set():
            status = self._status()
            if status is not None and self._take(status):
                return
            self._servers.look()
            self._on_look(status)
            asked.wait(PERIOD)

    def _status(self) -> ClusterStatus | None:
        try:
            return self._cluster.status()
        except RayError as error:
            reason = str(error).splitlines()[0]
            raise HeadraceError(
                f"The local Ray has failed: {reason}. Start again; nothing committed is lost"
            ) from error

    def close(self) -> None:
        """Leave the last picture on the screen; idempotent."""
        if self._live is not None:
            self._live.stop()

    def _take(self, status: ClusterStatus) -> bool:
        """Show it; whether all is over."""
        self._meter.take(status)
        seconds = time.monotonic() - self._started
        self._look_at_letters(status)
        if self._live is not None:
            self._live.update(picture(status, self._meter, seconds=seconds, note=self._letter), refresh=True)
        else:
            self._say_changes(status, seconds)
        if self._meter.totals().ended and not self._said_end:
            self._say_outcome()
        return self._said_end and not self._keep

    def _say_changes(self, status: ClusterStatus, seconds: float) -> None:
        if status.ready and not self._was_up:
            self._was_up = True
            self._screen.say(f"running, after {seconds:.1f} s; Ctrl-C stops it", "green")
        self._say_problems(status)
        now = time.monotonic()
        totals = self._meter.totals()
        line = summary(totals, self._meter.worker_rate)
        at, before = self._last_line
        if totals.events and line != before and now - at >= _LINE_EVERY:
            self._last_line = (now, line)
            self._screen.say(line)
            if self._letter:
                self._screen.say(self._letter, "yellow")
                self._letter = ""

    def _say_problems(self, status: ClusterStatus) -> None:
        """New problems, and those that are over; one that several processes have is said once."""
        standing = {(problem.where, problem.word): problem.sentence for problem in status.problems}
        known = {(word, sentence) for (_, word), sentence in self._problems.items()}
        for problem in status.problems:
            if (problem.where, problem.word) not in self._problems and (problem.word, problem.sentence) not in known:
                known.add((problem.word, problem.sentence))
                self._screen.write(described(problem))
        for word in sorted({word for _, word in self._problems} - {word for _, word in standing}):
            self._screen.say(f"over: {word}", "green")
        self._problems = standing

    def _look_at_letters(self, status: ClusterStatus) -> None:
        count = self._meter.totals().dead_letters
        if count == self._letters_seen:
            return
        try:
            letter = asyncio.run(newest_letter(self._servers.redis_url, self._plan.name, status.partitions))
        except HeadraceError as error:
            log.debug("letter_unread", reason=str(error))  # the workers name the problem
            return
        self._letters_seen = count
        self._letter = sentence_of(letter) if letter else ""

    def _say_outcome(self) -> None:
        try:
            outcome = asyncio.run(self._outcome())
        except HeadraceError as error:
            log.debug("outcome_unread", reason=str(error))  # asked again at the next look
            return
        self._said_end = True
        self._screen.say(outcome, "bold")

    async def _outcome(self) -> str:
        async with Store(self._servers.redis_url, self._plan.name, connections=1) as store:
            fields = await store.run(0, "")
        status = fields.get(STATUS_FIELD, b"ended").decode()
        result = fields.get(RESULT_FIELD, b"")
        text = f": {msgspec.json.format(result, indent=0).decode()}" if result else ""
        return f"{self._plan.name} has ended, {status}{text}"
