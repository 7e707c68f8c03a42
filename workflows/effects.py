"""Names for every durable effect, so that a test can stop a process before or after any of them.

Each call that changes something outside the process stands in `with effect(Effect.X):`; a unit test
reads the code and fails where one does not. Steps between effects that matter are marked by `point`.
A process with `HEADRACE_CRASH_AT=after:commit:3` kills itself (SIGKILL) right after its third commit;
with `HEADRACE_CRASH_MARKER=<path>` it does so once: it leaves the file, and one that finds it lives on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final


class Effect(Enum):
    """Everything that a process of Headrace makes durable or sends away."""

    ACQUIRE = "acquire"
    COMMIT = "commit"
    RELAY_SEND = "relay-send"
    """Outputs handed to a sink (Kafka, ...)."""
    TRANSACTION_INIT = "transaction-init"
    """A transactional id of a Kafka sink taken over: whoever had it is shut out."""
    TRANSACTION_BEGIN = "transaction-begin"
    TRANSACTION_COMMIT = "transaction-commit"
    """Outputs and their marker become visible, together."""
    TRANSACTION_ABORT = "transaction-abort"
    OUTBOX_TRIM = "outbox-trim"
    CHANNEL_APPEND = "channel-append"
    CHANNEL_CREDIT = "channel-credit"
    """Room of a channel: taken by a sender, or counted again."""
    CHANNEL_CLOSE = "channel-close"
    REQUEST_APPEND = "request-append"
    STREAM_APPEND = "stream-append"
    """What a node writes into a stream of its run."""
    INTERNAL_APPEND = "internal-append"
    """Events handed to another partition."""
    LEASE = "lease"
    TERM = "term"
    PUBLISH = "publish"
    """The workflow's descriptor."""
    STATUS = "status"
    TOPIC = "topic"
    """A Kafka topic made by us."""
    TOUCH = "touch"
    """A write that says nothing: who waits for it has waited for all before it."""
    WAKE = "wake"
    """Callers are told that their replies are there, and durable."""
    GROUP = "group"
    """Positions told to a consumer group."""
    REMOVE = "remove"
    """A workflow taken out of the store."""
    DEAD_DROP = "dead-drop"
    """Dead letters taken out by a person."""
    DEATH_NOTE = "death-note"
    """An event noted before its node has it, or as one that has passed, while processes die."""
    CALM = "calm"
    """A partition's owner says that all is well."""
    DEAD_TRIM = "dead-trim"
    """Dead letters dropped that are too old, or too many."""
    DEAD_REPLAY = "dead-replay"
    """Dead letters sent back in by a person."""
    RESTORE = "restore"
    """Keys of a backup written back."""
    RESET = "reset"
    """Positions set anew by a person."""
    AUDIT = "audit"
    """A line on what a person has done."""
    CONTROL = "control"
    """Runs that are to end, or to be forgotten, by a person."""
    FORGET = "forget"
    """What callers have left of keys that are forgotten."""
    TICKET = "ticket"
    """A browser's way to one stream, for a short time."""
    CALLBACK_CLAIM = "callback-claim"
    """Callbacks taken in hand by a sender."""
    CALLBACK_SEND = "callback-send"
    CALLBACK_SETTLE = "callback-settle"
    """What came of a callback."""
    CALLBACK_AGAIN = "callback-again"
    """A callback that is to be told once more."""
    CALLBACK_REST = "callback-rest"
    """A receiver is left alone for a while, or not any more: told to other processes."""
    PAUSE = "pause"
    """Sources paused, or let go on, by a person."""
    ACCESS_KEY = "access-key"
    """Keys for callers of the gateway, made or taken back."""
    RATE = "rate"
    """A request counted against a limit."""


STEPS: Final = ("after:pull", "before:call", "after:call", "after:load")
"""Points that are no effects, but between two of them."""

CRASH_POINTS: Final = tuple(f"{when}:{kind.value}" for kind in Effect for when in ("before", "after")) + STEPS
"""Every name that `HEADRACE_CRASH_AT` may start with."""


def kill_process() -> None:
    """End this process at once, as a power cut would: no clean-up, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


class CrashPlan:
    """Counts how often a crash point is passed and crashes at the one asked for.

    Args:
        crash_at: `<point>` or `<point>:<occurrence>`, such as `after:commit:3`; the first is 1.
        crash: What to do then; a test kit without processes raises instead.
        marker: File that is made just before the crash; where it exists, nothing happens.

    Raises:
        ValueError: No such point.
    """

    def __init__(self, crash_at: str, *, crash: Callable[[], None] = kill_process, marker: Path | None = None) -> None:
        name, _, occurrence = crash_at.rpartition(":")
        if not occurrence.isdecimal():
            name, occurrence = crash_at, "1"
        if name not in CRASH_POINTS:
            raise ValueError(f"no crash point {name!r}. There are: {', '.join(CRASH_POINTS)}")
        self.name = name
        self._left = int(occurrence)
        self._crash = crash
        self._marker = marker

    def passed(self, name: str) -> None:
        """Called at every point of the process."""
        if name != self.name:
            return
        self._left -= 1
        if self._left == 0 and self._first_time():
            self._crash()

    def _first_time(self) -> bool:
        if self._marker is None:
            return True
        try:
            self._marker.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def plan_of(environment: Mapping[str, str]) -> CrashPlan | None:
    """The plan that the environment asks for (`HEADRACE_CRASH_AT`, `HEADRACE_CRASH_MARKER`), if any."""
    crash_at = environment.get("HEADRACE_CRASH_AT")
    if not crash_at:
        return None
    marker = environment.get("HEADRACE_CRASH_MARKER")
    return CrashPlan(crash_at, marker=Path(marker) if marker else None)


class _Armed:
    """The plan of this process: read once, at import, from the environment."""

    def __init__(self) -> None:
        self.plan = plan_of(os.environ)


_armed = _Armed()
_nothing: Final[AbstractContextManager[None]] = nullcontext()


def arm(plan: CrashPlan | None) -> CrashPlan | None:
    """Put another plan into force in this process; returns the one before."""
    before, _armed.plan = _armed.plan, plan
    return before


class _Around:
    __slots__ = ("_kind", "_plan")

    def __init__(self, kind: Effect, plan: CrashPlan) -> None:
        self._kind = kind
        self._plan = plan

    def __enter__(self) -> None:
        self._plan.passed(f"before:{self._kind.value}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._plan.passed(f"after:{self._kind.value}")


def effect(kind: Effect) -> AbstractContextManager[None]:
    """The block in which one durable effect happens; costs nothing unless a crash is planned.

    `after:` is passed only when the block ends without an error: the effect is known to have happened.
    """
    plan = _armed.plan
    return _nothing if plan is None else _Around(kind, plan)


def point(name: str) -> None:
    """A step that is no effect but lies between two (one of `STEPS`)."""
    plan = _armed.plan
    if plan is not None:
        plan.passed(name)
