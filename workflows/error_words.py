"""What is told of an error that stopped an event: a reason, a sentence, and the user's part of the traceback."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

import msgspec

from .actions import Reject
from .deadline import DeadlineExceeded
from .errors import HeadraceError
from .suspicion import PoisonEvent

TRACEBACK_CAP: Final = 4_000
"""Characters of a traceback that a dead letter keeps (its end)."""


def in_words(error: BaseException) -> tuple[str, str]:
    """Reason and sentence of whatever stopped an event."""
    reason = getattr(error, "reason_code", None) or "error"
    if isinstance(error, Reject):
        return "reject", error.reason
    if isinstance(error, msgspec.DecodeError):  # ValidationError is one, too
        reason = "decode"
    is_own = isinstance(error, HeadraceError | msgspec.MsgspecError)
    return reason, said_by(error) if is_own else f"{type(error).__name__}: {said_by(error)}"


def said_by(error: BaseException) -> str:
    """What an error says; a class of a user's own may fail at that."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  user code: whatever it raises
        return "<it could not be printed>"


def describe(error: BaseException) -> tuple[str, str, str | None]:
    """The same, and the user's part of the traceback."""
    reason, text = in_words(error)
    if isinstance(error, Reject):
        return reason, text, None
    frames = user_frames(error.__traceback__)
    if isinstance(error, PoisonEvent | DeadlineExceeded):
        return reason, text, error.trace[-TRACEBACK_CAP:] or None
    if not frames or reason != "error":
        return reason, text, None
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return reason, text, "".join(lines)[-TRACEBACK_CAP:]


def user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames outside of this package's own runner."""
    own = __file__.rsplit("/", 1)[0]
    return [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(own)]
