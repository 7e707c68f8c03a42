"""How each request is answered, once, with the commit that decides it.

What may answer one: a node's reply, the end of its run, a failure that is final; and where none of these comes, that
the run stands at a wait, or that all of the request is processed. As long as an event of it stands still, only the
first three do. What was in one epoch is weighed as one event after the other would have it: the first event of the
request that says something counts; of what came of one event a reply counts before the end, and the end before a
failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .commit import Reply
from .envelope import DONE, RequestAnswer, encode, raw
from .late import LATE
from .timers import NOWHERE
from .wait_claims import wait_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .calls import Path
    from .commit import DeadLetter
    from .epoch import End, Epoch
    from .parking import Parking, Ticket

_REPLY: Final = 0
_END: Final = 1
_FAILURE: Final = 2
_TOO_LATE: Final = RequestAnswer(kind="failed", reason=LATE, error="the run of its key had ended before it came")
_SETTLED: Final = 1 << 60
"""Where in the order what counts stands that counts only if nothing else does."""


def ended(end: End) -> RequestAnswer:
    """The answer to a request whose run has ended."""
    return RequestAnswer(kind="ended", outcome=end.outcome, value=raw(end.result))


def failed(letter: DeadLetter) -> RequestAnswer:
    """The answer to a request of which an event has become a dead letter."""
    return RequestAnswer(
        kind="failed", node=letter.node or "", reason=letter.reason, error=letter.error, attempts=letter.attempts
    )


def deleted(tickets: Sequence[Ticket]) -> list[tuple[tuple[str, str], RequestAnswer, str]]:
    """Answers to requests whose run is to be forgotten: they don't say whose they are."""
    answer = RequestAnswer(kind="ended", outcome="deleted")
    return [(ticket.asked, answer, "") for ticket in tickets if ticket.asked]


def void(tickets: Sequence[Ticket], end: End) -> list[tuple[tuple[str, str], RequestAnswer, str]]:
    """Answers to requests that stood still as their run ended, with its key."""
    answer = ended(end)
    return [(ticket.asked, answer, ticket.key) for ticket in tickets if ticket.asked]


def replies_of(epoch: Epoch, parking: Parking, keep: int) -> list[Reply]:
    """All that the epoch's commit answers.

    Args:
        epoch: It is done.
        parking: What stands still after it.
        keep: How long answers are kept, in milliseconds.
    """
    pending = epoch.pending
    if not (epoch.replies or pending.answers):
        return []
    found = _Answers()
    for place, asked, answer, key in pending.answers:
        found.add(place, _END, asked, answer, key)
    last = len(epoch.runs) if epoch.cut is None else epoch.cut
    of_epoch = {root: asked for root, asked in epoch.replies.items() if root <= last or root in epoch.passed_over}
    if of_epoch:
        _weigh(epoch, of_epoch, parking, found)
    return [Reply(*asked, encode(answer, key), keep) for asked, answer, key in found.first()]


class _Answers:
    """What speaks for an answer, of each request."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, int, RequestAnswer, str]] = {}

    def add(self, place: int, rank: int, asked: tuple[str, str], answer: RequestAnswer, key: str) -> None:
        """What comes earlier, by place and rank, counts; of equals the one that was added first."""
        before = self._found.get(asked)
        if before is None or (place, rank) < before[:2]:
            self._found[asked] = (place, rank, answer, key)

    def first(self) -> list[tuple[tuple[str, str], RequestAnswer, str]]:
        """The answers that count, with the keys of their runs."""
        return [(asked, answer, key) for asked, (_, _, answer, key) in self._found.items()]


def _weigh(epoch: Epoch, of_epoch: dict[int, tuple[str, str]], parking: Parking, found: _Answers) -> None:
    pending = epoch.pending
    said: dict[int, str] = {}
    for root, _, body in sorted(pending.replies, key=_place):
        said.setdefault(root, body)
    letters: dict[int, DeadLetter] = {}
    for root, _, letter in sorted(pending.dead, key=_place):
        letters.setdefault(root, letter)
    ends = {end.root: end for end in pending.ended.values()}
    for root, asked in of_epoch.items():
        run = epoch.runs[root]
        key = "" if run is None else run.key
        if root in pending.executed:
            found.add(root, _REPLY, asked, pending.executed[root], key)
            continue
        stand = NOWHERE if run is None or root in ends else epoch.stood.get(root, run.stand)
        wait, id_ = stand.wait, wait_id(run.number, stand.generation) if run is not None and stand.wait else ""
        if root in epoch.passed_over and run in pending.ended:
            end = pending.ended[run]
            found.add(end.root, _END, asked, ended(end), key)
        elif root in said:
            answer = RequestAnswer(
                kind="waiting" if wait else "reply", wait=wait, wait_id=id_, value=raw(said[root])
            )  # fmt: skip
            found.add(root, _REPLY, asked, answer, key)
        elif root in ends:
            found.add(root, _END, asked, ended(ends[root]), key)
        elif root in letters:
            found.add(root, _FAILURE, asked, failed(letters[root]), key or letters[root].key)
        elif root in epoch.turned_away:
            found.add(root, _FAILURE, asked, _TOO_LATE, key)
        elif run is not None and not parking.has_of(asked[0]):
            silent = RequestAnswer(kind="waiting", wait=wait, wait_id=id_) if wait else DONE
            found.add(_SETTLED - root, _END, asked, silent, key)


def _place(row: tuple[int, Path, object]) -> tuple[int, Path]:
    return row[0], row[1]
