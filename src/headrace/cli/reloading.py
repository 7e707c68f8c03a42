"""`dev --reload`: a saved change is imported and checked, then run in new processes; servers and states stay.

What can't be used is told, and the version before runs on.
"""

from __future__ import annotations

import asyncio
import select
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

import msgspec

from headrace.actors.cluster import Cluster
from headrace.actors.inline import InlineCluster
from headrace.actors.reimport import load_again, user_files
from headrace.actors.spec import ClusterStatus, CodeRef
from headrace.actors.state_check import SAMPLE, prepare_states, review_states
from headrace.actors.store_registry import Registry
from headrace.cli.code_watch import CodeWatch
from headrace.cli.screen import Screen
from headrace.cli.servers import Servers
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan
from headrace.workflows.ports import BEGINNING
from headrace.workflows.state_review import StatesLost, renames_of

T = TypeVar("T")
_SHOWN: Final = 3
"""Kinds of states that would be lost that are named; of the others the number is told."""


class Version(msgspec.Struct, frozen=True):
    """A version of the user's code."""

    ref: CodeRef
    plan: Plan
    since: float
    """`time.monotonic()` when its change was noticed."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be reloaded, and how."""

    target: str
    """The workflow as the user names it."""
    fuse: bool
    """Compile with all nodes inside the workers."""
    drop_state: Sequence[str]
    """Nodes whose states are dropped without asking, where a version has no place for them or can't read them."""


class Reloader:
    """Brings what is saved into the running workflow. Its methods are called on the thread of the display.

    Args:
        wanted: What is to be reloaded.
        first: The version that runs.
        cluster: The running workflow.
        servers: What it runs with.
        screen: Told what happens.
        watch: Looks after the files.
        hand_over: Give a version to the supervisor, and tell others of it.
    """

    def __init__(
        self,
        wanted: Wanted,
        first: Version,
        cluster: Cluster | InlineCluster,
        servers: Servers,
        screen: Screen,
        watch: CodeWatch,
        *,
        hand_over: Callable[[Version], None],
    ) -> None:
        self._wanted = wanted
        self._running = first
        self._cluster = cluster
        self._servers = servers
        self._screen = screen
        self._hand_over = hand_over
        self._coming: Version | None = None
        """It was handed over, and is not up yet."""
        self._offered: tuple[Version, StatesLost] | None = None
        """It waits for a word: these states would have to be dropped."""
        self._watch = watch
        self._watch.follow(user_files(first.ref.folder))

    def close(self) -> None:
        """Watch no more; idempotent."""
        self._watch.close()

    def look(self, status: ClusterStatus | None) -> None:
        """Take what was saved; say when it runs. Called several times a second."""
        if self._watch.changed():
            self._offered = None
            self._attempt(self._take_files)
        elif (offered := self._offered) is not None and self._agreed():
            self._offered = None
            self._attempt(lambda: self._switch(offered[0], drop=offered[1].names))
        coming = self._coming
        if coming is not None and status is not None and status.version == coming.ref.version and status.ready:
            self._coming = None
            self._screen.say(f"reloaded, {time.monotonic() - coming.since:.1f} s after saving.", "green")

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except HeadraceError as error:
            self._screen.complain(f"{self._wanted.target} can't be taken; the version before runs on.\n{error}")

    def _take_files(self) -> None:
        since = time.monotonic()
        # until it is imported: what is missing may be a file that nobody has imported yet
        self._watch.follow(user_files(self._running.ref.folder), any_python=True)
        ref, workflow = load_again(self._wanted.target, self._running.ref.folder)
        self._watch.follow(user_files(ref.folder))
        if ref.version == (self._coming or self._running).ref.version:
            return  # saved without a change, or the mistake was taken back
        plan = workflow.compile(fuse="all" if self._wanted.fuse else None, now=BEGINNING)
        self._refuse_another(plan)
        version = Version(ref, plan, since)
        lost = _run(lambda: self._lost(plan))
        if lost is not None:
            self._offer(version, lost)
        else:
            self._switch(version, drop=self._wanted.drop_state)

    def _refuse_another(self, plan: Plan) -> None:
        """What can't change while a workflow runs."""
        old = self._running.plan
        changes = [
            f"its name is {plan.name}, not {old.name}" if plan.name != old.name else "",
            "it is keyed now, or is no more" if plan.keyed != old.keyed else "",
            f"it has partitions={plan.partitions}, not {old.partitions}" if plan.partitions != old.partitions else "",
        ]
        told = [change for change in changes if change]
        if told:
            raise HeadraceError(f"{' and '.join(told)}: that needs a new start. Press Ctrl-C, and type it again")

    def _offer(self, version: Version, lost: StatesLost) -> None:
        self._offered = version, lost
        wrong = lost.sentences
        lines = [f"  {sentence}" for sentence in wrong[:_SHOWN]]
        if len(wrong) > _SHOWN:
            lines.append(f"  and {len(wrong) - _SHOWN} more")
        cure = "Save one with renamed_from=, migrations=, or defaults for new fields"
        if sys.stdin.isatty():
            cure += "; or type d and Enter to drop these states and take it as it is."
        else:
            cure += f"; or start with --drop-state {' --drop-state '.join(lost.names)} to drop such states."
        head = "This version would lose states of the one before, which runs on."
        self._screen.say("\n".join([head, *lines, cure]), "yellow")

    def _agreed(self) -> bool:
        if not sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0)[0]:
            return False
        return sys.stdin.readline().strip().lower() in ("d", "drop")

    def _switch(self, version: Version, *, drop: Collection[str]) -> None:
        self._screen.say("reloading ...", "dim")
        self._servers.take(version.plan)
        self._cluster.hold()
        count = _run(lambda: self._prepare(version.plan, drop))
        if count:
            self._screen.say(f"{count} state{'' if count == 1 else 's'} dropped.", "yellow")
        self._hand_over(version)
        self._running = self._coming = version

    async def _lost(self, plan: Plan) -> StatesLost | None:
        async with Registry(self._servers.redis_url, connections=1) as registry:
            review = await review_states(registry, plan, renames=renames_of(self._running.plan), limit=SAMPLE)
        return review.lost(besides=self._wanted.drop_state)

    async def _prepare(self, plan: Plan, drop: Collection[str]) -> int:
        async with Registry(self._servers.redis_url, connections=1) as registry:
            return await prepare_states(registry, plan, renames=renames_of(self._running.plan), drop=drop)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def wait() -> T:
        return await work()

    return asyncio.run(wait())
