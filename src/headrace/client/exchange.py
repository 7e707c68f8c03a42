"""One call of the gateway, tried again until it is answered: a conversation without a socket.

What is to be done is yielded, what came of it is sent back. So a client with threads and one with a loop do the same,
and tests need neither.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from headrace.client.errors import ClientError, GatewayProblem, GatewayUnreachable, problem_of
from headrace.workflows.retry import Retry

_AGAIN: Final = (429, 502, 503, 504)
"""Of the gateway, or of a proxy before it: what passes."""
_SOON: Final = "run_starting"
_LONGEST_ASKED: Final = 300.0
"""Seconds: no Retry-After is heeded for longer."""
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to be made."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait: float = 0.0
    """Seconds that the gateway may take beyond what a call takes anyway."""
    seed: str = ""
    """What the chance of its retries hangs on."""


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    """By names in small letters."""
    body: bytes

    def json(self) -> Any:
        """Its body; None where it has none.

        Raises:
            ClientError: It is no JSON.
        """
        if not self.body:
            return None
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise ClientError(f"the answer is no JSON ({error}); is there a gateway at this address?") from error


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Time to let pass."""

    seconds: float


Talk: TypeAlias = Generator[Ask | Pause, Got | Lost | None, R]
"""Yields what is to be done: an `Ask` (send back `Got` or `Lost`) or a `Pause` (send back None)."""


def exchange(ask: Ask, retry: Retry) -> Talk[Got]:
    """Make a call, again after what passes: 429, 503, a broken connection.

    Only what may arrive twice is given to it: requests that read, or that have an Idempotency-Key.

    Raises:
        GatewayUnreachable: No answer came in the last attempt.
        GatewayProblem: It was refused.
    """
    failures = 0
    while True:
        got = yield ask
        asked = 0.0
        if isinstance(got, Lost):
            error: ClientError = GatewayUnreachable(got.address, got.reason)
        else:
            assert got is not None
            if got.status < 400:  # noqa: PLR2004  where errors of HTTP begin
                return got
            error, later = problem_in(got)
            if later is None:
                raise error
            asked = later
        failures += 1
        wait = retry.wait(error, failures, ask.seed)
        if wait is None:
            raise error
        yield Pause(max(wait / 1000, asked))


def problem_in(got: Got) -> tuple[GatewayProblem, float | None]:
    """The problem that an answer is, and the seconds to wait before trying again; None: it does not pass."""
    document = _problem(got)
    passes = got.status in _AGAIN or document.get("code") == _SOON
    return problem_of(got.status, document), retry_after(got.headers.get("retry-after")) if passes else None


def retry_after(text: str | None, now: datetime | None = None) -> float:
    """Seconds that an answer asks to wait, by number or by date; 0 if it asks for nothing.

    Examples:
        >>> retry_after("3"), retry_after(None), retry_after("soon")
        (3.0, 0.0, 0.0)
        >>> retry_after("Fri, 27 Nov 2026 12:00:05 GMT", datetime(2026, 11, 27, 12, tzinfo=UTC))
        5.0
    """
    if not text:
        return 0.0
    if text.isascii() and text.isdecimal():
        return min(float(text), _LONGEST_ASKED)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0.0, (when - (now or datetime.now(UTC))).total_seconds()), _LONGEST_ASKED)


def _problem(got: Got) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(got.body)
    except msgspec.DecodeError:
        document = None
    return document if isinstance(document, dict) else {"title": got.body[:200].decode(errors="replace")}
