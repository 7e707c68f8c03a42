"""How large states may get: told before the cap, refused beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from .errors import HeadraceError

STATE_CAP: Final = 1 << 20
"""Bytes of JSON that the state of one run in one node may have."""
WARN_PART: Final = 0.75
"""Part of the cap from which on a state is told of."""
SHARED: Final = "(run)"
"""Stands for a node's name where the state is the one that a run's nodes share."""
OnLarge: TypeAlias = Callable[[str, str, int, int], None]
"""Told of a state that comes near its cap: node, run key, its bytes, the cap. Called for every such event."""


class StateTooLarge(HeadraceError):
    """The state of a run in a node would grow over its cap; the event that would do it is a dead letter."""

    reason_code = "state"
    final = True

    def __init__(self, node: str, size: int, cap: int) -> None:
        super().__init__(f"state of node {node} would be {size} bytes, over the cap of {cap}: keep less, or less long")


class StateSizes:
    """Watches over the states that a unit writes.

    Args:
        cap: Bytes that one may have.
        on_large: Told of those that come near it.
    """

    def __init__(self, cap: int = STATE_CAP, on_large: OnLarge | None = None) -> None:
        self.large = int(cap * WARN_PART)
        """Bytes beyond which `check` is to be called: the caller compares, as it does so for every event."""
        self.cap = cap
        self._on_large = on_large

    def check(self, node: str, key: str, size: int) -> None:
        """A state larger than `large` is about to be kept.

        Raises:
            StateTooLarge: It is over the cap.
        """
        if size > self.cap:
            raise StateTooLarge(node, size, self.cap)
        if self._on_large is not None:
            self._on_large(node, key, size, self.cap)
