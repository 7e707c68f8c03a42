"""Outputs that their sink will never take: a dead letter each, committed before the relay goes on behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.sources.outlet import Refused
from headrace.workflows.commit import DeadLetter
from headrace.workflows.letters import of_refused
from headrace.workflows.plan import Plan

_MARK: Final = "buried:"


@dataclass(frozen=True, slots=True)
class Burial:
    """Dead letters on their way into a commit."""

    letters: list[DeadLetter]
    mark: dict[str, int]
    """Field of the head that the commit sets: up to which output this outlet's refusals are dead letters."""
    committed: asyncio.Future[bool]
    """True once they are committed; False when the partition was dropped before."""


class Burials:
    """Refused outputs of one stay of a partition. A refusal that was buried before, by whomever, is not buried again.

    Args:
        counters: Those of the partition's head, as acquired.
    """

    def __init__(self, counters: Mapping[str, int] | None = None) -> None:
        self._through = {name: value for name, value in (counters or {}).items() if name.startswith(_MARK)}
        self._under_way: dict[tuple[str, int], asyncio.Future[bool]] = {}

    def begin(self, rows: Sequence[tuple[int, Refused]], outlet: str, plan: Plan, now: int) -> Burial | None:
        """Dead letters of what an outlet refused.

        Args:
            rows: Sequence in the outbox, and what was refused.
            outlet: Its name.
            plan: The workflow.
            now: Milliseconds since 1970 UTC.

        Returns:
            What is to be committed; None when all of it has been.
        """
        mark = _MARK + outlet
        fresh = [(sequence, row) for sequence, row in rows if sequence > self._through.get(mark, 0)]
        if not fresh:
            return None
        last = max(sequence for sequence, _ in fresh)
        committed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._under_way[mark, last] = committed
        return Burial([of_refused(plan, row.output, row.error, now) for _, row in fresh], {mark: last}, committed)

    def saved(self, counters: Mapping[str, int]) -> None:
        """A commit with these counters was applied."""
        for mark, value in counters.items():
            if mark.startswith(_MARK):
                self._through[mark] = max(value, self._through.get(mark, 0))
                committed = self._under_way.pop((mark, value), None)
                if committed is not None and not committed.done():
                    committed.set_result(True)

    def drop(self) -> None:
        """The partition is another owner's: who waits need not wait any longer."""
        for committed in self._under_way.values():
            if not committed.done():
                committed.set_result(False)
        self._under_way.clear()
