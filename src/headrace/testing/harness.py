"""`Harness`: what a test of a workflow talks to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Literal, Self

from typing_extensions import TypeVar

from headrace.sources.custom import CustomSource
from headrace.testing.asking import Asked, Asking
from headrace.testing.beginning import START, Beginning
from headrace.testing.engine import Engine
from headrace.testing.inputs import LogEntry
from headrace.testing.operations import Operations
from headrace.testing.parts import part_of
from headrace.testing.problems import HarnessError
from headrace.testing.reading import Reading
from headrace.testing.replacing import Replacements, replaced
from headrace.testing.senders import Senders
from headrace.testing.thread import LoopThread
from headrace.testing.views import Runs, RunView
from headrace.workflows.actions import Tombstone
from headrace.workflows.commit import DeadLetter, Output
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.parking import Parked
from headrace.workflows.settings import Scalar
from headrace.workflows.store import StoreFull
from headrace.workflows.workflow import Workflow

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Sent(Generic[D]):
    """One message that left to a sink."""

    id: str
    """The same in every repeat."""
    key: str
    time: datetime
    data: D
    """As it was returned."""
    value: bytes | None
    """As the sink gets it, in its format; None: a tombstone."""
    headers: Mapping[str, str]
    """Those that a record has besides `headrace-id`."""


class Harness(Operations):
    """Runs a workflow in this process: the same core as on a cluster, in virtual time, without servers.

    Each `send` is processed to its end before it returns, in an epoch of its own; `with harness.batch():`
    has what is sent inside it processed together. Nodes run on a thread of the harness, with an event loop:
    so `async` nodes work, also in a test that is `async` itself.

    Args:
        workflow: What to run; compiled here.
        replace: What takes the place of a part: for a node another node or function; for a sink a function
            that is called with the data of each message (it may raise `Reject`: the sink refuses it for good).
        fuse: `"all"`: with all nodes in one unit, as on a cluster with `fuse="all"`.
        partitions: Shares of the key space; default: what the workflow says, else 4 (unkeyed: 1).
        start: The virtual time at which it begins (aware).
        settings: What nodes see as `ctx.settings`: values, not references to secrets.
        on: Harness of an earlier version of the workflow, on a copy of whose runs, sources and dead letters this one
            goes on, at its time. That one is not changed, and may have been stopped.
        drop_state: With `on`: nodes whose states go, as `headrace deploy --drop-state` has it.

    Raises:
        WorkflowError: The workflow can't be compiled: lists every problem.
        StatesLost: With `on`: it has no place for states of that one, or can't read them.

    Examples:
        >>> from headrace import Context, Event, KafkaSink, KafkaSource, Node, Workflow
        >>> class Count(Node[str, dict[str, int], str]):
        ...     def process(self, event: Event[str], ctx: Context[dict[str, int]]) -> str:
        ...         ctx.state[event.data] = ctx.state.get(event.data, 0) + 1
        ...         return f"{event.data} {ctx.state[event.data]}"
        >>> workflow = Workflow("words")
        >>> words = workflow.source(KafkaSource("words", str))
        >>> counts = workflow.sink(KafkaSink("counts", str))
        >>> count = workflow.node(Count())
        >>> words.to(count)
        >>> count.to(counts)
        >>> with Harness(workflow) as harness:
        ...     harness.send(words, "tea", key="ada")
        ...     harness.send(words, "tea", key="ada")
        ...     harness.sent(counts), harness.runs["ada"].state(count)
        (['tea 1', 'tea 2'], {'tea': 2})
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        replace: Replacements | None = None,
        fuse: Literal["all"] | None = None,
        partitions: int | None = None,
        start: datetime = START,
        settings: Mapping[str, Scalar] | None = None,
        on: Harness | None = None,
        drop_state: Sequence[str] = (),
    ) -> None:
        self._plan, self._fakes = replaced(workflow.compile(fuse=fuse, now=start), replace or {})
        self._left: list[Output] = []
        begin = Beginning(self._plan, self._deliver, settings, partitions, start)
        self._engine: Engine = begin.anew() if on is None else begin.on(on._engine, drop_state)
        self._partitions = self._engine.partitions
        self._senders = Senders(self._plan, self._engine)
        self._asking = Asking(self._engine, self._senders)
        self._batching = False
        self._readings: dict[int, Reading] = {}
        self._thread = LoopThread()
        self._thread.run(self._engine.open())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the nodes and end the harness' thread; what is committed can still be looked at."""
        self._thread.run(self._engine.close())
        self._thread.stop()

    @property
    def now(self) -> datetime:
        """The virtual time (aware, UTC)."""
        return datetime.fromtimestamp(self._engine.now / 1000, UTC)

    def advance(self, time: timedelta) -> None:
        """Let time pass; what falls due meanwhile happens, each event of a schedule at its own time."""
        self._thread.run(self._engine.advance(self._duration("advance", time)))

    def outage(self, time: timedelta) -> None:
        """Have the process die, and come back so much later: what schedules missed is treated as they say."""
        self._thread.run(self._engine.outage(self._duration("outage", time)))

    def _duration(self, name: str, time: timedelta) -> int:
        if time < timedelta(0):
            raise HarnessError(f"{name}({time!r}): time goes forward only")
        if self._batching:
            raise HarnessError(f"{name} inside batch() would not let anything happen: call it outside")
        return time // timedelta(milliseconds=1)

    def send(
        self,
        source: SourceHandle[D],
        data: D,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send one event to a source.

        Args:
            source: As `workflow.source` gave it.
            data: Of the source's type.
            key: The run, where the source takes the record's own key (or the request's address).
            id: Of the event, where senders choose it: channels and requests.
            headers: Of a Kafka record.
            partition: Topic partition in which a Kafka record lies, from 0; default: where Kafka's default
                partitioner puts one with the run's key.

        Raises:
            StoreFull: A channel has no room, as nothing is processed inside `batch()`: a sender would wait.
            SourceClosed: The channel is closed, or its workflow has ended.
        """
        self._senders.send(self._senders.source(source), data, key, id, headers, partition)
        self._settle()

    def try_send(self, source: SourceHandle[D], data: D, *, key: str | None = None, id: str | None = None) -> bool:
        """As `send`; False where a sender would wait for room."""
        try:
            self.send(source, data, key=key, id=id)
        except StoreFull:
            return False
        return True

    def send_all(self, source: SourceHandle[D], data: Iterable[D], *, key: str | None = None) -> None:
        """Send several events, to be processed together."""
        with self.batch():
            for item in data:
                self.send(source, item, key=key)

    def send_raw(
        self,
        source: SourceHandle[Any],
        value: bytes | None,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send bytes as they are, whether or not they can be decoded; None is a tombstone.

        Args:
            source: As `workflow.source` gave it.
            value: The record's value.
            key: The record's key; it also chooses the partition, as Kafka's default partitioner does.
            headers: Of a Kafka record.
            partition: Topic partition in which it lies; see `send`.
        """
        self._senders.raw(self._senders.source(source), value, key, headers, partition)
        self._settle()

    def read(self, source: SourceHandle[Any]) -> int:
        """Read a source of your own (or a replay) for real, on from where the last `read` ended, and process it.

        Without it, such a source is not opened: a test sends what it should have read.

        Returns:
            How many records it had. A source that says that it has ended is closed by that.

        Raises:
            Exception: Whatever the source's code raises.
        """
        plan = self._senders.source(source)
        if not isinstance(plan.source, CustomSource):
            raise HarnessError(f"{plan.name} is a {type(plan.source).__name__}: tests send to it")
        if self._batching:
            raise HarnessError("read inside batch() would never be processed: call it outside")

        def put(run: str | None, entry: LogEntry) -> None:
            self._engine.inputs.append(plan, self._senders.home(run) if run else 0, entry)

        reading = self._readings.get(plan.index)
        if reading is None:
            reading = self._readings[plan.index] = Reading(plan, put, self._plan.types[plan.type].codec.decode)
        count = self._thread.run(reading.read(self._engine.settle))
        if reading.closed:
            self._engine.closed.add(plan.index)
            self._settle()
        return count

    def request(self, source: SourceHandle[D], data: D, *, key: str | None = None, id: str | None = None) -> Any:
        """Send a request and return what a node replied, or else the result of the run that it completed.

        Raises:
            HarnessError: There is neither; says what there is, with the dead letter's error if there is one.
        """
        return self.ask(source, data, key=key, id=id).reply()

    def ask(
        self,
        source: SourceHandle[D],
        data: D,
        *,
        key: str | None = None,
        id: str | None = None,
        wait: str | None = None,
    ) -> Asked:
        """Send a request, or a message that wants an answer, as a caller of the gateway does; see `Asked.answer`.

        With `wait`, an id from `RunView.wait_ids`, a message is for that wait and for no later one.
        """
        if self._batching:
            raise HarnessError("a request inside batch() would wait for ever: make it outside")
        asked = self._asking.ask(self._senders.source(source), data, key, id, wait)
        self._settle()
        return asked

    def close(self, source: SourceHandle[Any]) -> None:
        """Close a channel for everybody: what is in it is still processed."""
        plan = self._senders.source(source)
        if plan.source.kind != "channel":
            raise HarnessError(f"{plan.name} is no channel: only those can be closed")
        for partition in range(self._partitions):
            self._engine.store.close_channel(partition, plan.name)
        self._engine.closed.add(plan.index)
        self._settle()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is sent inside is processed at the end, together: one epoch of each partition."""
        if self._batching:
            raise HarnessError("batch() inside batch()")
        self._batching = True
        try:
            yield
        finally:
            self._batching = False
        self._settle()

    def crash_at(self, point: str) -> None:
        """Have the process die at a point of its work: all memory is lost, and it goes on from the store.

        Args:
            point: As in `headrace.workflows.effects.CRASH_POINTS`, with `:2` for the second time it is passed:
                `before:commit`, `after:commit`, `after:relay-send:2` ...

        Raises:
            HarnessError: There is no such point here; names those that there are.
        """
        self._engine.crash_at(point)

    @property
    def crashes(self) -> int:
        """How often the process died."""
        return self._engine.crashes

    def sent(self, sink: SinkHandle[D] | str, *, unique: bool = False) -> list[D]:
        """Data of all that left to a sink; what belongs to one key in its order.

        Args:
            sink: As `workflow.sink` gave it, or its name: `"pay/receipts"` for a sink of a workflow that is a node.
            unique: Without repeats: a message may leave twice, with the same id, when the process dies.
        """
        messages = self.messages(sink)
        if unique:
            messages = list({message.id: message for message in reversed(messages)}.values())[::-1]
        return [message.data for message in messages]

    def messages(self, sink: SinkHandle[D] | str) -> list[Sent[D]]:
        """All that left to a sink, with ids, keys and times."""
        plan = part_of(self._plan.sinks, sink, self._plan.name)
        return [
            Sent(
                output.id, output.key, datetime.fromtimestamp(output.time / 1000, UTC), self._data(output),
                output.data, {name: value.decode("utf-8", "replace") for name, value in output.headers},
            )
            for output in self._left
            if output.sink == plan.index
        ]  # fmt: skip

    def remainder(self, source: SourceHandle[D]) -> list[D]:
        """What lies in a source and is not processed, in order within each partition."""
        plan = self._senders.source(source)
        decode = self._plan.types[plan.type].codec.decode
        return [
            decode(blob)
            for partition in range(self._partitions)
            for blob in self._engine.remainder(plan, partition)
            if blob is not None
        ]

    @property
    def parked(self) -> list[Parked]:
        """Events that stand still: to be tried again, or behind one of their key that is."""
        return self._engine.parked()

    @property
    def runs(self) -> Mapping[str, RunView]:
        """All runs, by key."""
        return Runs(self._plan, self._partitions, self._engine.store, self._settle, lambda: self._batching)

    @property
    def run(self) -> RunView:
        """The run of an unkeyed workflow."""
        if self._plan.keyed:
            raise HarnessError("the workflow is keyed and has many runs: write harness.runs[key]")
        return self.runs[""]

    @property
    def outcome(self) -> str:
        """Of an unkeyed workflow: `running`, `completed`, `terminated`, or `source closed`."""
        if self._plan.keyed:
            raise HarnessError("the workflow is keyed and has many runs: write harness.runs[key].status")
        return self.runs[""].status if "" in self.runs else "running"

    @property
    def dead_letters(self) -> Sequence[DeadLetter]:
        """What could not be processed, in order within each partition."""
        store = self._engine.store
        return [letter for partition in range(self._partitions) for letter in store.dead_letters(partition)]

    def replay(self, *letters: DeadLetter) -> int:
        """Send dead letters back to where they stopped; all, if none is given. Returns how many went."""
        count = self._engine.replay(letters)
        self._settle()
        return count

    def _settle(self) -> None:
        if not self._batching:
            self._thread.run(self._engine.settle())

    def _deliver(self, output: Output) -> None:
        fake = self._fakes.get(output.sink)
        if fake is not None:
            fake(self._data(output))
        self._left.append(output)

    def _data(self, output: Output) -> Any:
        """What left, as it was returned."""
        if output.data is None:
            return Tombstone()
        packer = self._engine.packers.get(output.sink)
        text = output.data if packer is None else packer.texts[output.id]
        return self._plan.types[self._plan.sinks[output.sink].type].codec.decode(text)
