"""What a node can see and do besides its event: the run, its state, time, replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.codec import encode_json
from headrace.workflows.errors import HeadraceError
from headrace.workflows.events import Event
from headrace.workflows.settings import NO_SETTINGS, Settings
from headrace.workflows.streaming import NAME_CAP, StreamError, StreamOpened, Writing
from headrace.workflows.timers import TimerError, due_in
from headrace.workflows.values import ValueSet, check

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

State = TypeVar("State", default=None)
RunState = TypeVar("RunState", default=None)
V_contra = TypeVar("V_contra", contravariant=True)


class Replied(msgspec.Struct, frozen=True, gc=False):
    """Effect: an answer to the event's request. Takes effect when the epoch is committed."""

    body: str
    """JSON text, written when `reply` was called: a later change of the value does not show."""
    path: tuple[int, ...] = ()
    """Branch numbers of the event that the node had."""


class TimerSet(msgspec.Struct, frozen=True, gc=False):
    """Effect: a timer of the run, at this node."""

    name: str
    due: int | None
    """Milliseconds since 1970 UTC; None: it is taken back."""


class SentMessage(msgspec.Struct, frozen=True, gc=False):
    """Effect: a message to a run of the workflow."""

    id: str
    name: str
    to: str
    """Key of the run."""
    body: str
    """JSON text."""


Effect: TypeAlias = Replied | TimerSet | SentMessage | ValueSet | StreamOpened
"""What a node asked for through its context."""


Encoders: TypeAlias = Mapping[str, Callable[[Any], bytes]]
"""By name of a `MessageSource`: what checks its data and puts it into JSON."""
NO_MESSAGES: Final[Encoders] = {}


class MessageError(HeadraceError):
    """A node sent a message that can't be: the event fails, and is not tried again."""

    final = True


class Writer(Protocol[V_contra]):
    """The writing end of one of the run's streams."""

    async def write(self, value: V_contra) -> None:
        """Append `value`; readers see it at once."""


class Run(Generic[RunState]):
    """The keyed conversation that an event belongs to."""

    __slots__ = ("_workflow", "key", "state")

    key: str
    """A sensor, a chat session, an order; "" in an unkeyed workflow."""
    state: RunState
    """State shared by the run's nodes; None unless the workflow has `state=`."""

    def __init__(self, workflow: str, key: str, state: RunState) -> None:
        self._workflow = workflow
        self.key = key
        self.state = state

    @property
    def id(self) -> str:
        """Address of the run: `workflow/key`."""
        return f"{self._workflow}/{self.key}"

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, state={self.state!r})"


class Context(Generic[State, RunState]):
    """Handed to a node together with each event.

    Plain methods (`reply`, ...) take effect when the epoch is committed, together with the state: if the
    event fails, nothing of it is kept. Awaitable ones act at once.

    The runner makes few contexts and reuses them: between two events it sets `state`, `_event`, `_hop`,
    `_now_ms`, and clears `_run` and `_effects`. Don't keep one beyond the call.
    """

    __slots__ = (
        "_attempt",
        "_effects",
        "_event",
        "_hop",
        "_messages",
        "_node",
        "_now_ms",
        "_partition",
        "_run",
        "_sets_timers",
        "_settings",
        "_traced",
        "_until",
        "_workflow",
        "_writing",
        "state",
    )

    state: State
    """This node's state of this run: change it or set it, it is kept when the event succeeds."""

    def __init__(
        self, workflow: str, node: str, settings: Settings = NO_SETTINGS, messages: Encoders = NO_MESSAGES
    ) -> None:
        self._workflow = workflow
        self._node = node
        self._settings = settings
        self._hop = 0
        self._attempt = 1
        self._now_ms = 0
        self._partition = 0
        self._until = 0.0
        """When the call that it is in is to end at the latest, by the clock of the process' loop."""
        self._messages = messages
        self._sets_timers = False
        """The node has an `on_timer`."""
        self._effects: list[Effect] | None = None
        self._run: Run[RunState] | None = None
        self._event: Event[Any] | None = None
        self._writing: Writing | None = None
        """Where streams go; None: this node has none."""
        self._traced: Any = None
        """The `TracedEvent` that nodes are to note; only nodes that do so look."""

    @property
    def run(self) -> Run[RunState]:
        """The run: its id, its key, and the state that its nodes share."""
        run = self._run
        if run is None:
            key = "" if self._event is None else self._event.key
            # Without `state=` there is no shared state: None, whatever RunState the annotation claims.
            nothing: Any = None
            run = self._run = Run(self._workflow, key, nothing)
        return run

    @property
    def settings(self) -> Settings:
        """Settings and secrets of the workflow, by name; see `Settings`. In `open()`: `self.settings`."""
        return self._settings

    @property
    def now(self) -> datetime:
        """The time of this call (aware, UTC). Never `time.time()`: tests turn this clock, a retry repeats it."""
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    @property
    def idempotency_key(self) -> str:
        """The same whenever this event is processed again at this place: hand it to services you call."""
        event_id = "" if self._event is None else self._event.id
        return f"{event_id}/{self._node}/{self._hop}"

    @property
    def attempt(self) -> int:
        """Which attempt of this node at this event it is: 1, and with `retry=` 2, 3 ... after it has failed."""
        return self._attempt

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that knows workflow, node, key and event."""
        import structlog  # noqa: PLC0415  seldom used, and a third of the import time

        event = self._event
        logger: FilteringBoundLogger = structlog.get_logger("headrace.node").bind(
            workflow=self._workflow,
            node=self._node,
            key=None if event is None else event.key,
            event_id=None if event is None else event.id,
        )
        return logger

    def reply(self, value: object) -> None:
        """Answer the request that brought this event; of several answers the first one counts.

        Args:
            value: Anything that JSON can carry.

        Raises:
            CodecError: JSON can't carry it; names the field.
        """
        self._ask(Replied(encode_json(value).decode(), () if self._event is None else self._event.path))

    def _ask(self, effect: Effect) -> None:
        if self._effects is None:
            self._effects = [effect]
        else:
            self._effects.append(effect)

    def set_value(self, name: str, value: object) -> None:
        """Publish `value` under `name`, for readers of the run; it takes the place of the one that was there.

        It takes effect with the commit; the version that readers see is one higher each time. It is kept as long as
        the run is.

        Args:
            name: 1 to 200 characters.
            value: Anything that JSON can carry; None is a value, too.

        Raises:
            CodecError: JSON can't carry it; names the field.
            ValueCap: It is too large, or the run has too many.
        """
        body = encode_json(value).decode()
        sizes = dict(getattr(self._run, "values", ()))
        sizes.update({row.name: len(row.body) for row in self._effects or () if isinstance(row, ValueSet)})
        check(name, body, sizes, self._workflow)
        self._ask(ValueSet(name, body, () if self._event is None else self._event.path))

    def send(self, run: str, name: str, data: object) -> None:
        """Send a message to a run of this workflow, for its wait on the `MessageSource` of that name.

        It leaves with the commit, and arrives once; messages of one event in their order. If the run has not reached
        the wait, it is kept until then; one for a run that is not there is a dead letter, `no-run`.

        Args:
            run: Its key, or its address `workflow/key`, as `ctx.run.id` has it.
            name: Of the source.
            data: Of the source's type.

        Raises:
            MessageError: The workflow has no such source, or the data is not of its type.
        """
        encode = self._messages.get(name)
        if encode is None:
            known = ", ".join(map(repr, self._messages)) or "none"
            raise MessageError(f"the workflow has no MessageSource {name!r}. There are: {known}")
        try:
            body = encode(data).decode()
        except (HeadraceError, msgspec.MsgspecError, TypeError, ValueError) as error:
            raise MessageError(f"{data!r} can't be a message {name!r}: {error}") from error
        number = sum(isinstance(effect, SentMessage) for effect in self._effects or ())
        key = run.removeprefix(f"{self._workflow}/")
        self._ask(SentMessage(f"{self.idempotency_key}/{number}", name, key, body))

    def set_timer(self, name: str, *, after: timedelta) -> None:
        """Have this node's `on_timer` called for this run, so long after this call (`ctx.now`).

        One that is set already under this name is replaced. It takes effect with the commit, falls due while nothing
        comes in, too, and is gone when the run ends. It comes late where the process was away, or older events had
        to be read first; never early.

        Args:
            name: Of the timer, for this node and run: 1 to 200 characters.
            after: From 0 to ten years; to the millisecond, rounded up.

        Raises:
            TimerError: The node has no `on_timer`, or the timer can't be.
        """
        self._ask(TimerSet(name, due_in(name, after, self._own_timers())))

    def cancel_timer(self, name: str) -> None:
        """Take back this node's timer of this run; nothing happens if there is none.

        Raises:
            TimerError: The node has no `on_timer`.
        """
        self._own_timers()
        self._ask(TimerSet(name, None))

    def _own_timers(self) -> int:
        if not self._sets_timers:
            raise TimerError(
                f"{self._node} has no on_timer, so it can't have timers: derive it from Node, and write"
                " def on_timer(self, timer, ctx)"
            )
        return self._now_ms

    def stream(self, name: str) -> AbstractAsyncContextManager[Writer[Any]]:
        """Write into the stream `name` of the run, for followers: `async with ctx.stream("tokens") as tokens`.

        Each value that is written is seen at once. If the event fails, or is tried again, followers are told that what
        this attempt has written is void. In `async` nodes, not in batch nodes.

        Args:
            name: 1 to 200 characters, without a colon.

        Raises:
            StreamError: It can't be: the node is a batch node, or the name is none.
        """
        if self._writing is None:
            raise StreamError(f"{self._node} can't write streams: only `async` nodes that are no BatchNode can")
        if not 0 < len(name) <= NAME_CAP or ":" in name:
            raise StreamError(f"{name!r} can't be the name of a stream: 1 to {NAME_CAP} characters without a colon")
        stream: AbstractAsyncContextManager[Writer[Any]] = self._writing.stream(self, name)
        return stream
