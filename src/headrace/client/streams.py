"""Following a stream of a run, through connections that break: nothing is missed, nothing comes twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec

from headrace.client.errors import ClientError, GatewayUnreachable, problem_of
from headrace.client.exchange import Ask, Got, Lost, problem_in
from headrace.client.sse import EventParser
from headrace.workflows.retry import Retry

VALUE: Final = "value"
RESET: Final = "reset"
END: Final = "end"
ERROR: Final = "error"
_SAYING: Final = {RESET: "from", END: "status"}
"""What is said of a stream is an object; its field that says it."""
_TYPE: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One thing that a follower is told."""

    kind: str
    """`value`; `reset`: some of what came is void; `end`: nothing comes any more."""
    value: Any
    """What was written; of a `reset`, the id from which on all that came before is void; of the `end`, how the run has
    ended: `completed`, ..."""
    id: str
    """To go on behind it: `follow(after=id)`."""


@dataclass(slots=True)
class StreamValues:
    """The values of a stream that count, from what a follower is told.

    Examples:
        >>> seen = StreamValues()
        >>> for event in (StreamEvent("value", "a", "1-0"), StreamEvent("value", "b", "2-0"),
        ...               StreamEvent("reset", "2-0", "3-0"), StreamEvent("value", "c", "4-0")):
        ...     seen.take(event)
        >>> seen.values
        ['a', 'c']
    """

    _kept: list[tuple[tuple[int, ...], Any]] = field(default_factory=list)

    def take(self, event: StreamEvent) -> None:
        """Add what an event says, or drop what it voids."""
        if event.kind == VALUE:
            self._kept.append((_order(event.id), event.value))
        elif event.kind == RESET:
            void = _order(str(event.value))
            self._kept = [row for row in self._kept if row[0] < void]

    @property
    def values(self) -> list[Any]:
        """In order."""
        return [value for _, value in self._kept]


class Follower:
    """The state of a follower: what to ask for, and what is new in what comes.

    Args:
        path: Address of the stream.
        after: Go on behind this id.
        retry: How often connecting is tried again.

    Attributes:
        ended: Nothing comes any more.
    """

    def __init__(self, path: str, after: str, retry: Retry) -> None:
        self._path, self._retry = path, retry
        self._parser = EventParser(after)
        self._failures = 0
        self.ended = False

    def ask(self) -> Ask:
        """The request of the next connection."""
        self._parser.begin()
        headers = {"Accept": _TYPE, "Cache-Control": "no-cache"}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        return Ask("GET", self._path, headers=headers, seed=self._path)

    def connected(self, status: int, content_type: str) -> bool:
        """The gateway has answered with a success; whether a stream comes.

        Raises:
            ClientError: It is something else.
        """
        self._failures = 0
        if status == HTTPStatus.NO_CONTENT:
            self.ended = True
        elif not content_type.startswith(_TYPE):
            raise ClientError(f"{self._path} has answered with {content_type or 'nothing'}, which is no {_TYPE}")
        return not self.ended

    def feed(self, some: bytes) -> list[StreamEvent]:
        """What is new in these bytes.

        Raises:
            GatewayProblem: The gateway says that it can't go on.
        """
        found: list[StreamEvent] = []
        for event in self._parser.feed(some):
            value = _decoded(event.data)
            if event.kind == ERROR:
                document = value if isinstance(value, dict) else {"detail": event.data}
                raise problem_of(int(document.get("status", 0)), document)
            if event.kind == VALUE:
                found.append(StreamEvent(event.kind, value, event.id))
            elif event.kind in _SAYING:
                found.append(StreamEvent(event.kind, value[_SAYING[event.kind]], event.id))
            if event.kind == END:
                self.ended = True
                break
        return found

    def lost(self, lost: Lost) -> float:
        """The connection is at its end, the stream is not: seconds to wait before the next one.

        Raises:
            GatewayUnreachable: That was once too often.
        """
        return self._again(GatewayUnreachable(lost.address, lost.reason), 0.0)

    def refused(self, got: Got) -> float:
        """The gateway has answered with an error: seconds to wait before the next connection.

        Raises:
            GatewayProblem: It does not pass, or that was once too often.
        """
        error, asked = problem_in(got)
        if asked is None:
            raise error
        return self._again(error, asked)

    def _again(self, error: ClientError, asked: float) -> float:
        self._failures += 1
        wait = self._retry.wait(error, self._failures, self._path)
        if wait is None:
            raise error
        return max(wait / 1000, asked, self._parser.retry or 0.0)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _order(id_: str) -> tuple[int, ...]:
    """Ids grow: `5-12` comes before `5-13` and `12-0`."""
    return tuple(int(part) for part in id_.split("-") if part.isdecimal())
