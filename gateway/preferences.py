"""What a caller prefers (RFC 7240): how long it waits, or that it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_WAIT: Final = 10.0
"""Seconds a caller waits for its reply when it doesn't say."""
LONGEST_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Preference:
    """How long to hold the call open."""

    wait: float
    """Seconds; 0: answer at once."""
    applied: str | None
    """Value of `Preference-Applied`; None when the caller preferred nothing that we know."""

    def at_once(self) -> Preference:
        """The same, without waiting."""
        return Preference(0.0, self.applied)


def preference_of(headers: list[str], *, default: float = DEFAULT_WAIT, longest: float = LONGEST_WAIT) -> Preference:
    """The preference in the values of all `Prefer` headers of a request; what is not understood is ignored.

    Args:
        headers: Their values.
        default: Seconds to wait where none says.
        longest: Seconds to wait at most.

    Examples:
        >>> preference_of(["respond-async, wait=5"])
        Preference(wait=0.0, applied='respond-async')
        >>> preference_of(["wait=100"]).wait
        30.0
    """
    found: dict[str, str] = {}
    for token in ",".join(headers).split(","):
        name, _, value = token.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "respond-async" in found:
        return Preference(0.0, "respond-async")
    seconds = found.get("wait", "")
    if seconds.isascii() and seconds.isdecimal():
        wait = min(float(seconds), longest)
        return Preference(wait, f"wait={wait:g}")
    return Preference(min(default, longest), None)
