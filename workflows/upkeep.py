"""What a worker asks of a store now and then, to keep a partition in order."""

from __future__ import annotations

from typing import Protocol

from headrace.workflows.commit import Answer
from headrace.workflows.retention import LettersKept


class Upkeep(Protocol):
    """A part of `StoreContract`."""

    async def calm(self, partition: int, owner: str, *, released: bool) -> Answer:
        """All is well: the owner has had the partition for a while, or gives it up in order (`released`).

        `Head.extra["falls"]` tells the next owner how many workers before it did neither, one after the other.
        """
        ...

    async def trim_letters(self, partition: int, owner: str) -> LettersKept | None:
        """Drop dead letters that are over a limit of the workflow's `Retention`, some of them at a time.

        A commit does so by itself when it adds some; age goes on without commits.

        Returns:
            What there is now; None when another owns the partition, or it is torn.
        """
        ...
