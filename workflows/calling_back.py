"""What becomes of a run, told to an address that came with one of its requests: part of the commit that decides it.

An address comes as a header of a request, and stays with the run; the last one counts. Without one it is the workflow's
own, if it has one, wherever the run's events came from. From then on each commit that
ends the run, brings it to a wait, or gives one of its events up has an occurrence to tell. Its id is made of the run,
its number and what occurred: whoever sends it, and however often, it is the same.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .commit import Callback, Commit, DeadLetter
from .envelope import raw
from .late import LATE
from .runs import CALLBACK_FIELD, RUNNING, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from .epoch import End, Epoch

HEADER: Final = "headrace-callback"
"""Header of a request's event: the address."""
WAITING: Final = "run.waiting"
FAILED: Final = "run.failed"
COMPLETED: Final = "completed"
_encode: Final = msgspec.json.Encoder().encode


class CallbackWriter:
    """Finds what the commits of one partition have to tell.

    Args:
        workflow: Name of the workflow.
        default: Address for runs with which none came; "": they tell nobody.
    """

    def __init__(self, workflow: str, default: str = "") -> None:
        self._workflow = workflow
        self._default = default

    @property
    def always(self) -> bool:
        """Whether runs tell also without an address of their own."""
        return bool(self._default)

    def register(self, epoch: Epoch, last: int, write: Callable[[RunRecord], list[str]]) -> bool:
        """Note the addresses that came with an epoch's requests.

        Args:
            epoch: It is done.
            last: The last of the source's events that counts.
            write: Gives the fields of a run in the commit.

        Returns:
            Whether there was one.
        """
        if epoch.headers is None:
            return False
        pending, found = epoch.pending, False
        for root in sorted(epoch.replies):
            address = address_in(epoch.headers[root])
            run = epoch.runs[root] if address and root <= last else None
            if run is None or run.absent or run in pending.erased or (run.ended and run not in pending.ended):
                continue
            if root in epoch.turned_away or root in epoch.passed_over:
                continue
            run.callback, found = address, True
            if run.next is None:
                write(run).extend((CALLBACK_FIELD, address))
        return found

    def write(self, epoch: Epoch, last: int, commit: Commit, now: int) -> None:
        """Put what there is to tell into the commit.

        Args:
            epoch: It is done.
            last: The last of the source's events that counts.
            commit: Its dead letters are in it.
            now: Milliseconds since 1970 UTC.
        """
        pending = epoch.pending
        erased = set(pending.erased)
        for root, _, letter in sorted(pending.dead, key=lambda row: row[:2]):
            run = epoch.runs[root] if 0 <= root <= last else None
            if letter.reason == LATE:
                continue  # its run has ended, and that was told
            if run is not None and self._address(run) and run not in erased:
                commit.callbacks.append(self._failed(run, letter, commit.sequence, now))
        for run, stand in pending.stands.items():
            if self._address(run) and stand.wait and run not in pending.ended and run not in erased:
                more = {"status": RUNNING, "wait": stand.wait, "until": _text(stand.due) if stand.due else None}
                commit.callbacks.append(self._callback(run, WAITING, f"waiting/{stand.generation}", now, more))
        for run, end in pending.ended.items():
            if self._address(run) and run not in erased:
                commit.callbacks.append(self._ended(run, end, now))

    def _address(self, run: RunRecord) -> str:
        return run.callback or self._default

    def _ended(self, run: RunRecord, end: End, now: int) -> Callback:
        more: dict[str, Any] = {"status": end.outcome}
        more["result" if end.outcome == COMPLETED else "reason"] = raw(end.result)
        return self._callback(run, "run." + end.outcome.replace(" ", "_"), "ended", now, more)

    def _failed(self, run: RunRecord, letter: DeadLetter, sequence: int, now: int) -> Callback:
        more = {
            "status": RUNNING, "event": letter.id, "node": letter.node, "reason": letter.reason,
            "error": letter.error, "attempts": letter.attempts,
        }  # fmt: skip
        return self._callback(run, FAILED, f"failed/{sequence}/{letter.id}/{letter.node}", now, more)

    def _callback(self, run: RunRecord, kind: str, what: str, now: int, more: dict[str, Any]) -> Callback:
        about = {"workflow": self._workflow, "key": run.key, "number": run.number, **more}
        body = _encode({"type": kind, "timestamp": _text(now), "data": about}).decode()
        return Callback(callback_id(self._workflow, run.key, run.number, what), run.key, kind, self._address(run), body)


def address_in(headers: tuple[tuple[str, bytes], ...]) -> str:
    """The address that came with an event; "": none."""
    return next((value.decode() for name, value in headers if name == HEADER), "")


def callback_id(workflow: str, key: str, number: int, what: str) -> str:
    """Identity of one occurrence.

    Examples:
        >>> callback_id("orders", "4711", 12, "ended") == callback_id("orders", "4711", 12, "ended")
        True
        >>> callback_id("orders", "4711", 12, "ended") == callback_id("orders", "4711", 13, "ended")
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (workflow, key, str(number), what):
        digest.update(f"{len(part)}:{part}".encode())
    return f"msg_{digest.hexdigest()}"


def _text(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
