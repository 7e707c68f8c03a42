"""Claims of waits: a message may be for one time that its run stands at a wait, and for no later one.

A wait that a run stands at has an id, which is another one each time it comes to one. A message that names an id goes
on from there or nowhere: if something else has ended that wait, it is refused, and never is the one that the next
wait is for. The inbox looks at it before it takes a message in (`request_append.lua`), so most callers hear of it at
once; what it can't see there (messages without a claim that came before, time-outs, waits of workflows that are
nodes) is decided here, in order with all that happens to the run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from .runs import NUMBER_FIELD, WAIT_FIELD
from .timers import stand_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .records import Headers
    from .timers import Stand

CLAIM: Final = "headrace-wait"
"""Header of a message: id of the wait that it is for."""
TAKEN: Final = "wait-taken"
"""Reason of the dead letter of a message whose wait is over."""
TAKEN_ERROR: Final = "the wait that it is for is over: something else came first"


def wait_id(number: int, generation: int, inside: str = "") -> str:
    """The id of one time that a run stands at a wait.

    Args:
        number: Of the run.
        generation: How often it has come to a wait, this time included.
        inside: Name of the wait where it is one of a workflow that is a node; these count by themselves.
    """
    own = f"{number}.{generation}"
    return f"{own}.{hashlib.blake2b(inside.encode(), digest_size=4).hexdigest()}" if inside else own


def wait_ids(fields: Mapping[str, bytes], stands: Sequence[Stand]) -> list[str]:
    """Ids of the waits that a run stands at.

    Args:
        fields: Of the run.
        stands: See `stands_of`.
    """
    number, own = int(fields[NUMBER_FIELD]), stand_of(fields.get(WAIT_FIELD)).wait
    return [
        wait_id(number, stand.generation, "" if own and not place else stand.wait)
        for place, stand in enumerate(stands)
    ]  # fmt: skip


def claim_of(headers: Headers) -> str:
    """The id that a message names; "": none, it is for the run's next wait on its name."""
    return next((value.decode(errors="replace") for name, value in headers if name == CLAIM), "")
