"""The two places where a workflow runs, behind one face: the test kit, and a cluster on real parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar

import msgspec

from flows import Flow
from headrace import SourceClosed, Workflow
from headrace.testing import Harness, RunView
from headrace.workflows.commit import DeadLetter
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.records import Headers

F = TypeVar("F", bound=Flow)
D = TypeVar("D")
Fuse = Literal["all"] | None
MANY = 1_000
"""Events of one `send` beyond which they come in one batch, as from a sender that does not wait."""


@dataclass
class Ended:
    """What became of a sender."""

    sent: int
    """Events that went in."""
    error: str | None = None
    """Class of what it got instead of an answer."""


class Senders(ABC):
    """Several senders, each of which sends one event after the other and waits while the channel is full."""

    @abstractmethod
    def wait_until_blocked(self) -> None:
        """Until each of them waits for room."""

    @abstractmethod
    def ends(self) -> list[Ended]:
        """Once all of them have ended, in their order; none of them hangs."""


class Rig(ABC):
    """Runs one workflow: `prepare` it, send what shall wait for the start, `start`, send more, look."""

    @abstractmethod
    def prepare(self, make: Callable[[str], F]) -> F:
        """Build the workflow. From here on events may be sent, but nothing is processed."""

    @abstractmethod
    def start(self) -> None:
        """Let it run."""

    def run(self, make: Callable[[str], F]) -> F:
        """Build it and let it run."""
        flow = self.prepare(make)
        self.start()
        return flow

    @abstractmethod
    def send(self, source: SourceHandle[D], *data: D, key: str | None = None) -> None:
        """Send events, one after the other."""

    @abstractmethod
    def send_raw(
        self, source: SourceHandle[Any], value: bytes | None, *, key: str | None, headers: Headers = ()
    ) -> None:
        """Send bytes to a topic; None is a tombstone."""

    @abstractmethod
    def message(self, source: SourceHandle[Any], body: bytes, *, key: str, id: str) -> None:
        """Send the bytes of a message, with an id of the sender's."""

    @abstractmethod
    def senders(self, source: SourceHandle[D], *batches: Sequence[D]) -> Senders:
        """One sender for each batch, at the same time; on a cluster each is a process."""

    @abstractmethod
    def request(self, source: SourceHandle[D], data: D, *, key: str) -> Any:
        """Send a request, and return its reply."""

    @abstractmethod
    def close(self, source: SourceHandle[Any]) -> None:
        """Close a channel."""

    @abstractmethod
    def settle(self) -> None:
        """Until all that was sent is processed, or the workflow has ended."""

    @abstractmethod
    def until_waiting(self, *keys: str) -> None:
        """Until these runs stand at a wait."""

    @abstractmethod
    def run_of(self, key: str = "") -> RunView:
        """One run, as it is in the store once all is processed."""

    @abstractmethod
    def dead_letters(self) -> list[DeadLetter]:
        """All of them, once all is processed."""

    @abstractmethod
    def replay(self) -> int:
        """Send all dead letters back to where they stopped; how many went."""

    @abstractmethod
    def sent(self, sink: SinkHandle[D]) -> list[D]:
        """What has left to a sink, without repeats, once all is processed."""

    @abstractmethod
    def remainder(self, source: SourceHandle[D]) -> list[D]:
        """What lies in a channel and is not processed, once all is processed that will be."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""


@dataclass
class _Sender(Generic[D]):
    waiting: deque[D]
    ended: Ended = field(default_factory=lambda: Ended(0))


class HarnessSenders(Senders, Generic[D]):
    """They take turns: who waits longest goes first."""

    def __init__(self, harness: Harness, source: SourceHandle[D], batches: Sequence[Sequence[D]]) -> None:
        self._harness = harness
        self._source = source
        self._senders = [_Sender(deque(batch)) for batch in batches]
        self.pump()

    def pump(self) -> None:
        """Send until all are done or wait for room."""
        while sum(self._step(sender) for sender in self._senders):
            pass

    def _step(self, sender: _Sender[D]) -> bool:
        if not sender.waiting:
            return False
        try:
            if not self._harness.try_send(self._source, sender.waiting[0]):
                return False
        except SourceClosed as error:
            sender.ended.error = type(error).__name__
            sender.waiting.clear()
            return False
        sender.waiting.popleft()
        sender.ended.sent += 1
        return True

    def wait_until_blocked(self) -> None:
        assert all(sender.waiting for sender in self._senders)

    def ends(self) -> list[Ended]:
        self.pump()
        assert not any(sender.waiting for sender in self._senders), "a sender waits for ever"
        return [sender.ended for sender in self._senders]


class HarnessRig(Rig):
    """On the test kit.

    Args:
        fuse: As for `Harness`.
    """

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse
        self._stack = ExitStack()
        self._before_start = ExitStack()
        self._senders: list[HarnessSenders[Any]] = []

    def prepare(self, make: Callable[[str], F]) -> F:
        flow = make("x")
        self.workflow: Workflow = flow.workflow
        self.harness = self._stack.enter_context(Harness(flow.workflow, fuse=self._fuse))
        self._before_start.enter_context(self.harness.batch())
        return flow

    def start(self) -> None:
        self._before_start.close()

    def send(self, source: SourceHandle[D], *data: D, key: str | None = None) -> None:
        with self.harness.batch() if len(data) > MANY else nullcontext():
            for item in data:
                self.harness.send(source, item, key=key)

    def send_raw(
        self, source: SourceHandle[Any], value: bytes | None, *, key: str | None, headers: Headers = ()
    ) -> None:
        self.harness.send_raw(source, value, key=key, headers=dict(headers))

    def message(self, source: SourceHandle[Any], body: bytes, *, key: str, id: str) -> None:
        try:
            data = self._codec(source).decode(body)
        except msgspec.DecodeError:
            self.harness.send_raw(source, body, key=key)
        else:
            self.harness.send(source, data, key=key, id=id)

    def _codec(self, source: SourceHandle[Any]) -> Any:
        plan = self.harness._plan
        return plan.types[next(row.type for row in plan.sources if row.name == source.name)].codec

    def senders(self, source: SourceHandle[D], *batches: Sequence[D]) -> Senders:
        senders = HarnessSenders(self.harness, source, batches)
        self._senders.append(senders)
        return senders

    def request(self, source: SourceHandle[D], data: D, *, key: str) -> Any:
        asked = self.harness.ask(source, data, key=key)
        while asked.answer is None:
            self.harness.advance(timedelta(seconds=1))
        return asked.reply()

    def close(self, source: SourceHandle[Any]) -> None:
        self.harness.close(source)

    def settle(self) -> None:
        for senders in self._senders:
            senders.pump()
        while self.harness.parked or self._falls_due():
            self.harness.advance(timedelta(seconds=1))

    def until_waiting(self, *keys: str) -> None:
        assert all(self.harness.runs[key].waits_at for key in keys)

    def _falls_due(self) -> bool:
        """Something will, within a minute."""
        engine = self.harness._engine
        until = engine.now + 60_000
        return any(engine.store.timers(number, until, 1)[0] for number in range(engine.partitions))

    def run_of(self, key: str = "") -> RunView:
        self.settle()
        return self.harness.runs[key]

    def dead_letters(self) -> list[DeadLetter]:
        self.settle()
        return list(self.harness.dead_letters)

    def replay(self) -> int:
        self.settle()
        return self.harness.replay()

    def sent(self, sink: SinkHandle[D]) -> list[D]:
        self.settle()
        return self.harness.sent(sink, unique=True)

    def remainder(self, source: SourceHandle[D]) -> list[D]:
        self.settle()
        return self.harness.remainder(source)

    def stop(self) -> None:
        self._before_start.close()
        self._stack.close()
