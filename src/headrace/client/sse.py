"""Server-sent events (WHATWG HTML 9.2): from bytes, cut anywhere, to events."""

from __future__ import annotations

import codecs
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event as it was sent."""

    kind: str
    data: str
    id: str
    """The last id that was sent up to it."""


class EventParser:
    r"""Takes bytes as they come; knows the last id and how long to wait before connecting again.

    Attributes:
        last_id: Of the last event.
        retry: Seconds to wait before connecting again; None: nothing was said.

    Examples:
        >>> parser = EventParser()
        >>> parser.feed(b"id: 7\nevent: value\nda")
        []
        >>> parser.feed(b"ta: 1\n\n")
        [ServerEvent(kind='value', data='1', id='7')]
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry: float | None = None
        self.begin()

    def begin(self) -> None:
        """A new connection: what was cut off is forgotten."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = ""
        self._kind, self._data, self._id = "", list[str](), self.last_id

    def feed(self, some: bytes) -> list[ServerEvent]:
        """The events that are complete by now."""
        self._text += self._decoder.decode(some)
        held = "\r" if self._text.endswith("\r") else ""  # its \n may be still to come
        whole = self._text[: len(self._text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = whole.split("\n")
        self._text = rest + held
        found = [self._line(line) for line in lines]
        return [event for event in found if event is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data = "", []
        self.last_id = self._id
        return ServerEvent(kind, "\n".join(data), self.last_id) if data else None
