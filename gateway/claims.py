"""Claims of waits over HTTP: a message with `If-Match` is for the wait that its run stands at now, and for no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request

from headrace.gateway.problems import ProblemError

WAIT: Final = "Headrace-Wait"
"""Header of answers to requests whose run stands at a wait: its id."""
_HEADER: Final = "If-Match"
_ID: Final = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}(\.[0-9a-f]{8})?")
CLAIMING: Final[dict[str, Any]] = {
    "name": _HEADER, "in": "header", "required": False, "schema": {"type": "string"}, "example": '"12.3"',
    "description": "Id of the wait that the message is for, and no other: the `id` of the run's `wait`, or the header"
    f" `{WAIT}` of the answer by which it came to stand there.",
}  # fmt: skip


def claim_in(request: Request) -> str:
    """The id of the wait that a message is for; "": any. `*` asks only that there is a run, as always.

    Raises:
        ProblemError: `invalid_wait`: the header names no wait, or several.
    """
    found = request.headers.getlist(_HEADER)
    if not found or found == ["*"]:
        return ""
    text = found[0].strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(found) > 1 or not text:
        raise _no_wait()
    return checked_claim(text)


def checked_claim(text: str) -> str:
    """The id of the wait that a message is for; "": any.

    Raises:
        ProblemError: `invalid_wait`: it is none.
    """
    if text and not _ID.fullmatch(text):
        raise _no_wait()
    return text


def _no_wait() -> ProblemError:
    return ProblemError("invalid_wait", "If-Match is to have the id of one wait, as the run's `wait` has it")


def wait_taken(home: str, headers: Mapping[str, str] | None = None) -> ProblemError:
    """The problem of a message that claims a wait which is over, or about to be.

    Args:
        home: Address of the run.
        headers: Of the answer.
    """
    return ProblemError(
        "wait_taken", "another message has the wait, or it is over", headers=headers,
        extra={"run": home, "delivered": False},
    )  # fmt: skip
