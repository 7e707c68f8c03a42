"""Sources of your own: a class that says what there is to read, and one that reads a part of it."""

from __future__ import annotations

import builtins
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, get_args

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.ports import Source
from headrace.workflows.returns import Fault

_SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

D = TypeVar("D")

Delivery: TypeAlias = Literal["exactly-once", "at-least-once", "at-most-once"]
"""How often the records of a source of your own change the state, if processes die."""
_DELIVERIES: Final = get_args(Delivery)


class Raw(msgspec.Struct, frozen=True, gc=False):
    """Data of a record as bytes: JSON that Headrace decodes to the source's type, or what is no event at all.

    Examples:
        >>> Raw(b'{"celsius": 21.5}')
        Raw(value=b'{"celsius": 21.5}', fault=None)
    """

    value: bytes
    """JSON text; if it does not fit the source's type, it becomes a dead letter."""
    fault: str | None = None
    """What is wrong with it, if the source knows: then it becomes a dead letter in any case."""


class Record(msgspec.Struct, Generic[D], frozen=True, gc=False):
    """One record that a source of yours has read.

    Examples:
        >>> Record({"celsius": 21.5}, position="42", key="s1").position
        '42'
    """

    data: D | Raw
    """Of the source's type; or bytes, as `Raw`."""
    position: str = ""
    """Where reading goes on after this record, in your own words: a row number, a cursor, an offset. No two records of
    a split have the same. Needed for `exactly-once`; for `at-least-once` what `Split.committed` is to be told."""
    key: str | None = msgspec.field(default=None)
    """The run it belongs to, in a keyed workflow whose source has no `key=`."""
    time: datetime | None = None
    """When it happened (aware); None: now."""
    id: str | None = None
    """Its identity for ever; None: made from source, split and position. Give one where the other side has one."""
    headers: Mapping[str, str | bytes] = msgspec.field(default_factory=dict)


class Split(ABC, Generic[D]):
    """A part of a source while one worker reads it; made by `CustomSource.open`.

    Each split has a thread of its own, with an event loop. Every method may be `async` or not. One that is not has the
    thread for itself: it must return within about a second, as `committed` and `close` wait for it; an `async` one may
    wait as long as it likes.
    """

    @abstractmethod
    def read(self, limit: int) -> Sequence[Record[D]] | Awaitable[Sequence[Record[D]] | None] | None:
        """The next records, in order.

        Called again and again, never while an earlier call runs, and not while enough is waiting to be processed
        (back-pressure). After an empty answer it is called again `CustomSource.idle` later.

        Args:
            limit: How many are wanted at most, at least 1. More are taken, but held in memory.

        Returns:
            As many as there are now; [] if there are none; None if there never will be any more: the source is closed.

        Raises:
            Exception: Whatever it raises is named in the status. The split is closed, and opened again, with growing
                pauses, at the position of the last record that it returned. It never ends the worker.
        """

    def committed(self, position: str) -> Awaitable[None] | None:
        """All records up to this one are processed, and their effects are durable: acknowledge them, if you must.

        Called after commits, with the `Record.position` of the last record; not for each. What it raises goes to the
        log. An `at-least-once` split hears only of what it has read itself, not of what was read before it was opened.
        """

    def close(self) -> Awaitable[None] | None:
        """Let go of what is open. Called once, whatever happened before; what it raises goes to the log."""


class CustomSource(Source[D], ABC, Generic[D]):
    """Base of a source of your own. It is configuration only: every process of the workflow has one.

    Args:
        type: What its data are: a Struct, a dataclass, or whatever JSON can carry.
        name: Unique within the workflow; part of event ids and positions, so keep it.
        key: Field or function of the data that is the run's key; None: `Record.key`, or an unkeyed workflow.

    Examples:
        >>> class Lines(CustomSource[str]):
        ...     delivery = "exactly-once"
        ...     def __init__(self, path: str) -> None:
        ...         super().__init__(str, name="lines")
        ...         self.path = path
        ...     def open(self, split: str, position: str | None) -> Split[str]:
        ...         return LinesOf(self.path, int(position or 0))
        >>> class LinesOf(Split[str]):
        ...     def __init__(self, path: str, row: int) -> None:
        ...         self.lines, self.row = open(path).read().splitlines(), row
        ...     def read(self, limit: int) -> list[Record[str]] | None:
        ...         first, self.row = self.row, min(self.row + limit, len(self.lines))
        ...         rows = range(first, self.row)
        ...         return [Record(self.lines[row], position=str(row + 1)) for row in rows] or None
        >>> Lines("poem.txt").splits()
        ('0',)
    """

    kind: ClassVar[str] = "custom"
    brings_keys: ClassVar[bool] = True
    feeder: ClassVar[str] = "headrace.sources.custom_reader:make_readers"

    delivery: ClassVar[Delivery]
    """To be said by each class, as Headrace can't know it:

    - `exactly-once`: opened at a position, it gives the same records again as it did before. Positions are committed
      with the states, so each record changes them once.
    - `at-least-once`: it gives again what was not acknowledged (`Split.committed`). After a crash some come twice.
    - `at-most-once`: what was read is gone. After a crash some are lost.
    """
    idle: timedelta = timedelta(milliseconds=200)
    """Pause after a `read` that found nothing."""

    def __init__(self, type: builtins.type[D], *, name: str, key: str | Callable[[D], str] | None = None) -> None:
        self.type = type
        self.name = name
        self.key = key

    def splits(self) -> Sequence[str]:
        """Names of the parts that can be read independently of each other: shards, files, devices.

        Called once in each worker; must not ask anybody else. A split belongs to one partition, by its name, and is
        read in order. Names are part of positions: keep them; more may come with a new version.
        """
        return ("0",)

    def in_test(self) -> CustomSource[D]:
        """What `Harness.read` opens in its place; for sources that would wait for a time."""
        return self

    @abstractmethod
    def open(self, split: str, position: str | None) -> Split[D] | Awaitable[Split[D]]:
        """Begin to read a split; may be `async`. Called in the thread of the split.

        Only one worker at a time commits what it reads; another one that was suspended may go on reading for a while,
        in vain.

        Args:
            split: One of `splits()`.
            position: Of the last record that is done; None at the first start, and always if not `exactly-once`.

        Raises:
            Exception: As for `Split.read`: named, and tried again.
        """

    def check(self, now: datetime, *, keyed: bool) -> Iterable[Fault]:
        """See `Source.check`; if you override it, yield from this one too."""
        del now, keyed
        yield from _faulty_splits(self)
        said = getattr(self, "delivery", None)
        if said not in _DELIVERIES:
            of = builtins.type(self).__name__
            yield Fault(
                "delivery",
                f"{of} does not say how often its records count" if said is None else f"delivery={said!r} is none",
                f"Write in class {of}: delivery = one of {', '.join(map(repr, _DELIVERIES))}",
            )


def _faulty_splits(source: CustomSource[Any]) -> Iterable[Fault]:
    try:
        names = list(source.splits())
    except Exception as error:  # noqa: BLE001  user code: whatever it raises
        yield Fault("splits", f"splits() raises {type(error).__name__}: {error}", "It must not ask anybody else")
        return
    wrong = [name for name in names if not (isinstance(name, str) and _SPLIT.fullmatch(name))]
    if wrong or not names or len(set(names)) < len(names):
        yield Fault(
            "splits",
            f"splits() gives {names!r}",
            "Give each a name of its own, of letters, digits, '.', '_', '-'; one at least",
        )
