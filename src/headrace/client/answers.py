"""What comes back: answers to what was sent, and how a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

ACCEPTED: Final = "accepted"
RUNNING: Final = "running"
COMPLETED: Final = "completed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an event or a message."""

    status: str
    """`reply`: a node has replied; `waiting`: the run stands at a wait; `completed`: it has ended; `done`: all of it is
    processed; `accepted`: it is in, and nothing has come of it in the time that was waited."""
    value: Any
    """The reply, or the result of the run that it completed; else what the gateway says instead."""
    idempotency_key: str
    """By which it was sent."""
    replayed: bool = False
    """The same was sent before, and this is what came of it then."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a node made of data that it was given out of line."""

    node: str
    """Its name."""
    returned: str
    """`nothing`, `data`, `action`, `complete`, `terminate`, or `list`: in `data` an object for each part."""
    action: str
    """Name of the member."""
    data: Any
    """What it returned, or the result or reason of an end."""
    reply: Any
    """What it has replied first; None: nothing."""
    committed: bool
    """States and effects are kept."""
    idempotency_key: str
    """By which it was sent."""
    replayed: bool
    """The same was sent before, and this is what came of it then."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands."""

    key: str
    number: int
    """Of the run: a key that is used again is another run."""
    status: str
    """`running`, `completed`, `terminated`, `timed out`, ..."""
    wait: str | None
    """Name of the wait that it stands at."""
    result: Any
    """Of a completed run."""
    reason: Any
    """Why it ended otherwise."""
    document: dict[str, Any]
    """All that the gateway says of it."""

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.status == RUNNING


def executed(answer: Answer) -> Executed:
    """From what `POST /runs/{key}/nodes/{node}` says."""
    said = answer.value
    return Executed(
        node=said["node"], returned=said["returned"], action=said.get("action", ""), data=said.get("data"),
        reply=said.get("reply"), committed=said.get("committed", False), idempotency_key=answer.idempotency_key,
        replayed=answer.replayed,
    )  # fmt: skip


def run_status(document: dict[str, Any]) -> RunStatus:
    """From what `GET /runs/{key}` says."""
    wait = document.get("wait")
    return RunStatus(
        key=document["key"], number=document["number"], status=document["status"],
        wait=wait["name"] if wait else None, result=document.get("result"), reason=document.get("reason"),
        document=document,
    )  # fmt: skip
