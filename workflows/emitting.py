"""From what leaves the graph to messages of sinks: packed, held against the sink's cap, written down for the commit."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from .actions import Reject
from .calls import Path, Sent
from .commit import DeadLetter, Output
from .dispatch import Dispatch
from .epoch import Epoch
from .letters import texts_of
from .packing import Emission, Message, size_of, traced
from .plan import BETWEEN, Plan
from .records import Headers, Records, Reentry
from .runs import RunRecord

if TYPE_CHECKING:
    from .partition import PartitionCore


class Emitter:
    """Writes down what one partition's events become at sinks."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._plan = core.plan

    def many(self, dispatch: Dispatch, sent: Sent, sink: int) -> None:
        """What came of many events goes to a sink: all at once, where nothing is to be done for each."""
        epoch, cap = dispatch.epoch, self._plan.sinks[sink].cap
        slots = dispatch.slots
        if len(sent.indexes) < len(slots):
            slots = [slots[index] for index in sent.indexes]
        fits = cap is None or 2 * max(map(len, sent.blobs)) <= cap
        if sink in self._core.packers or epoch.headers or epoch.paths or not fits:
            for slot, blob in zip(slots, sent.blobs, strict=True):
                self.one(epoch, slot, sent.path, blob, sink)
            return
        # Without a path of its own each is a source's event: its slot is its root.
        of_runs, times = list(map(epoch.runs.__getitem__, slots)), map(epoch.times.__getitem__, slots)
        keys = [run.key for run in of_runs]  # type: ignore[union-attr]
        ids = epoch.ids_of(slots, sent.path)
        data: list[Any] = sent.blobs if all(sent.blobs) else [blob or None for blob in sent.blobs]  # None: a tombstone
        outputs = list(map(Output, repeat(sink), ids, keys, times, data))
        epoch.pending.sent.append((slots, sent.path, of_runs, outputs))  # type: ignore[arg-type]

    def one(self, epoch: Epoch, slot: int, suffix: Path, data: bytes | None, sink: int) -> None:
        """What came of the event in `slot` by `suffix` goes to a sink; None: the event itself does."""
        root, run = epoch.roots[slot], epoch.runs[slot]
        assert run is not None
        path = epoch.paths.get(slot, ()) + suffix if epoch.paths else suffix
        text = epoch.blobs[slot] if data is None else data
        self._emit(
            epoch, (root, path), run, sink, Emission(epoch.id_of(root, path), run.key, epoch.times[root], text, ())
        )

    def resend(self, epoch: Epoch, first: int, records: Records, sink: int) -> None:
        """Messages that could not leave, from the slot `first` on, are to leave again: past the graph, as they were."""
        packed = records.entry is not None and records.entry.packed
        for index, value in enumerate(records.values):
            root, key = first + index, (records.keys[index] or b"").decode()
            emission = Emission(epoch.id_of(root, ()), key, epoch.times[root], value or b"", ())
            self._emit(epoch, (root, ()), None, sink, emission, packed=packed)

    def letter(self, epoch: Epoch, place: tuple[int, Path], letter: DeadLetter) -> None:
        """A dead letter goes to the sinks that get all of them; not one that is of such a sink's own messages."""
        plan = self._plan
        sinks = _letter_sinks(plan, letter)
        named = {plan.sinks[sink].name for sink in sinks}
        if letter.reentry is None or letter.reentry.sink not in named:
            for sink in sinks:
                self._copy(epoch, place, letter, sink)

    def _copy(self, epoch: Epoch, place: tuple[int, Path], letter: DeadLetter, sink: int) -> None:
        """Write down a dead letter's message to a sink; what there is no room for in it is left out."""
        row, packer = self._plan.sinks[sink], self._core.packers.get(sink)
        what = Emission(letter.id, letter.key, letter.event_time, b"", letter.headers)
        reason, error = "size", ""
        for text in texts_of(letter, self._plan.name):
            what = what._replace(text=text)
            try:
                message = Message(what.key, text, traced(what.headers)) if packer is None else packer.pack(what)
            except Exception as problem:  # noqa: BLE001  the user's encoder may raise anything
                reason, error = "encode", _said(problem)
                break
            size = size_of(what.id, message)
            if row.cap is None or size <= row.cap:
                output = Output(sink, what.id, message.key, what.time, message.value, message.headers)
                epoch.pending.outputs.append((*place, None, output))
                return
            error = _too_large(size, row.cap)
        self._unsent(epoch, place, Reentry(sink=row.name), what, reason, error, letter.headers)

    def _emit(
        self, epoch: Epoch, place: tuple[int, Path], run: RunRecord | None, sink: int, what: Emission, *,
        packed: bool = False,
    ) -> None:  # fmt: skip
        """Something becomes a message of a sink."""
        root, path = place
        entry = Reentry(sink=self._plan.sinks[sink].name, packed=packed)
        came: Headers = epoch.headers[root] if epoch.headers else ()
        headers, trace = came, None
        if epoch.headers:
            trace = epoch.traces.get(root)
            if trace is not None:
                headers = trace.outgoing(entry.sink, path)
        key, value = what.key, what.text or None
        packer = self._core.packers.get(sink)
        if packer is None:
            if headers:
                headers = traced(headers)
        elif not packed:
            try:
                key, value, headers = packer.pack(Emission(what.id, key, what.time, what.text, headers))
            except Exception as error:  # noqa: BLE001  the user's encoder may raise anything
                self._unsent(epoch, place, entry, what, "encode", _said(error), came)
                return
        cap = self._plan.sinks[sink].cap
        if cap is not None and (headers or 2 * len(value or b"") > cap):
            size = size_of(what.id, Message(key, value, headers))
            if size > cap:
                self._unsent(epoch, place, entry, what, "size", _too_large(size, cap), came)
                return
        epoch.pending.outputs.append((root, path, run, Output(sink, what.id, key, what.time, value, headers)))
        if trace is not None:
            trace.output(entry.sink, path, what.id)

    def _unsent(
        self, epoch: Epoch, place: tuple[int, Path], entry: Reentry, what: Emission, reason: str, error: str,
        headers: Headers,
    ) -> None:  # fmt: skip
        """It can't become a message of its sink: a dead letter, with the headers that came."""
        root, path = place
        if root in epoch.traces:
            epoch.traces[root].stopped(reason, error)
        letter = DeadLetter(
            id=what.id, key=what.key, source=entry.sink, node=None, reason=reason, error=error,
            time=self._core.router.now, event_time=what.time, data=what.text or None,
            headers=headers, reentry=entry,
        )  # fmt: skip
        self._core.router.dead(epoch, root, path, letter)


def _letter_sinks(plan: Plan, letter: DeadLetter) -> tuple[int, ...]:
    """The workflow's sinks of dead letters, and those of the workflows inside of which it became one."""
    found = plan.letter_sinks
    if plan.scopes:
        where = letter.node or (letter.reentry and letter.reentry.sink) or ""
        for scope in plan.scopes:
            if f"{where}{BETWEEN}".startswith(f"{scope.name}{BETWEEN}"):
                found += tuple(sink for sink in scope.letters if sink not in found)
    return found


def _said(error: Exception) -> str:
    return error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"


def _too_large(size: int, cap: int) -> str:
    return f"{size} bytes, over the cap of {cap} for one message of this sink (max_bytes)"
