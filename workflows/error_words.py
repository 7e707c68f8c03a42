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
_OWN: Final = __file__.rsplit("/", 1)[0]
_FEW: Final = 3
"""Frames: of more than three that are alike, the library writes how many more there were."""
_TEXTS_KEPT: Final = 1_000
_texts: dict[tuple[str, str, int, int], str] = {}
"""Frames as text, by place in the code."""


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
    if isinstance(error, PoisonEvent | DeadlineExceeded):
        return reason, text, error.trace[-TRACEBACK_CAP:] or None
    if reason != "error" or not (frames := _user_frames(error.__traceback__)):
        return reason, text, None
    lines = frames + traceback.format_exception_only(error)
    return reason, text, "".join(lines)[-TRACEBACK_CAP:]


def _user_frames(trace: TracebackType | None) -> list[str]:
    """The frames outside of this package's own runner, as text."""
    rows: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OWN):
            rows.append(trace)
        trace = trace.tb_next
    if len(rows) <= _FEW:
        return [_frame_text(row) for row in rows]
    return traceback.format_list([traceback.extract_tb(row, limit=1)[0] for row in rows])


def _frame_text(trace: TracebackType) -> str:
    """One frame. Looking up its line asks the file system each time, so it is kept: in a storm they are alike."""
    code = trace.tb_frame.f_code
    place = (code.co_filename, code.co_qualname, trace.tb_lineno, trace.tb_lasti)
    text = _texts.get(place)
    if text is None:
        if len(_texts) >= _TEXTS_KEPT:
            _texts.clear()
        text = _texts[place] = traceback.format_list(traceback.extract_tb(trace, limit=1))[0]
    return text
