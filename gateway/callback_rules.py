"""When a callback is tried again, when it is given up, and when its receiver is left alone. No clock, no socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LONGEST_PAUSE: Final = 7200.0
"""Seconds between two attempts, unless the receiver asks for more."""
_GROWTH: Final = 3.0
_MOST_ASKED: Final = 86_400.0
"""Seconds that a receiver may ask for."""
FAILURES: Final = 5
"""After so many one after the other, a receiver is left alone for a while."""
FIRST_REST: Final = 30.0
LONGEST_REST: Final = 600.0
"""Seconds that it is left alone, at first and at most."""
_MOST_KNOWN: Final = 10_000


def pause_before(tries: int, first: float, random: Callable[[], float], asked: float | None = None) -> float:
    """Seconds until the next attempt: three times as long each time, of which half or more by chance.

    So each pause is longer than the one before, and those who failed together don't come back together.

    Args:
        tries: Attempts so far, at least 1.
        first: The longest first pause.
        random: From 0 to 1.
        asked: What the receiver has asked for (`Retry-After`).
    """
    longest = min(LONGEST_PAUSE, first * _GROWTH ** min(tries - 1, 30))
    return max(longest * (0.5 + random() / 2), min(asked or 0.0, _MOST_ASKED))


@dataclass(slots=True)
class _State:
    busy: int = 0
    failures: int = 0
    closed_until: float = 0.0
    rest: float = FIRST_REST
    probing: bool = False


class Receivers:
    """How receivers are, as this process knows: how many calls are under way, and which are left alone.

    Args:
        most: Calls to one receiver at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._states: dict[str, _State] = {}

    def enter(self, name: str, now: float) -> float:
        """A call to a receiver is to begin.

        Args:
            name: Of the receiver.
            now: Seconds, by a clock that only goes on.

        Returns:
            0: it may, and `leave` is to follow. Else seconds after which to ask again.
        """
        if len(self._states) > _MOST_KNOWN:
            self._states = {known: state for known, state in self._states.items() if state.busy}
        state = self._states.setdefault(name, _State())
        if now < state.closed_until:
            return state.closed_until - now
        if state.busy >= self._most or state.probing:
            return 1.0
        state.probing = state.failures >= FAILURES
        state.busy += 1
        return 0.0

    def leave(self, name: str, now: float, *, well: bool, asked: float | None = None) -> None:
        """A call is over.

        Args:
            name: Of the receiver.
            now: As in `enter`.
            well: It has answered, and not that it can't.
            asked: Seconds for which it wants to be left alone.
        """
        state = self._states[name]
        state.busy -= 1
        state.probing = False
        if well:
            state.failures, state.rest, state.closed_until = 0, FIRST_REST, 0.0
        else:
            state.failures += 1
            if state.failures >= FAILURES and now >= state.closed_until:
                state.closed_until, state.rest = now + state.rest, min(2 * state.rest, LONGEST_REST)
            if asked:
                state.closed_until = max(state.closed_until, now + min(asked, LONGEST_REST))
        if not (state.busy or state.failures):
            del self._states[name]
