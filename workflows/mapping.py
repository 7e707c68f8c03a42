"""`Map`: a node that runs a function over the items of an event, several at a time."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, overload

import msgspec
from typing_extensions import TypeVar

from headrace.workflows import hints
from headrace.workflows.actions import Failure, Reject
from headrace.workflows.codec import type_name
from headrace.workflows.context import Context, Run
from headrace.workflows.events import Event
from headrace.workflows.graph import Graph
from headrace.workflows.nodes import Node
from headrace.workflows.plan import Plan
from headrace.workflows.returns import Fault, Returns
from headrace.workflows.signature import UNSAID, Signature, read_signature

if TYPE_CHECKING:
    from headrace.workflows.workflow import Workflow

D = TypeVar("D")
I = TypeVar("I")  # noqa: E741  read as "item"
O = TypeVar("O", default=None)  # noqa: E741  read as "output"
X = TypeVar("X")
Y = TypeVar("Y")


class Mapped(msgspec.Struct, Generic[D, O], frozen=True):
    """What a `Map` gives: the event's data, and what came of each of its items, in their order."""

    data: D
    """As the event had it."""
    results: list[O | None]
    """By item: what the function returned; None where it failed."""
    failures: dict[int, Failure] = {}
    """Items that failed, by their place; the others went on."""


class Map(Node[D, None, Mapped[D, O]], Generic[D, I, O]):
    """A node that runs a function over the items of each event, and gives all results as one.

    The function is written as that of a node: it has each item as an event of its own (with an id, so its
    `ctx.idempotency_key` is the item's). One that is `async` has several items at a time; any other one item after the
    other. An item that fails spoils no other: it is in `Mapped.failures`. So the `retry=` of the node does not try
    items again, and its `timeout=` is for all items of an event together.

    A workflow takes the place of the function, too: each item has a run of it, from its one source to its `Complete`,
    whose result is the item's; `Terminate`, and what fails in it for good, is a failure of the item. Such a run has its
    own states, and ends within the call: it can't wait, but for another attempt (`retry=` of its nodes).

    Nothing is kept between items: when the process dies, all items of the event are done again.

    Args:
        each: Takes `Event[item]` and a `Context` without state; returns data, or None. No actions, lists or ends. Or a
            workflow.
        of: Type of the events' data: `Order`, or `list[Line]`.
        items: What of the data the items are; may be left out where the data is a list.
        concurrency: Items at a time, of one event.

    Examples:
        >>> class Order(msgspec.Struct, frozen=True):
        ...     number: int
        ...     lines: list[str]
        >>> async def price(event: Event[str], ctx: Context) -> int:
        ...     return len(event.data)
        >>> pricing = Map(price, Order, items=lambda order: order.lines, concurrency=5)
    """

    @overload
    def __init__(self: Map[list[X], X, Any], each: Workflow, of: type[list[X]], *, concurrency: int = 10) -> None: ...
    @overload
    def __init__(
        self: Map[D, I, Any], each: Workflow, of: type[D], *, items: Callable[[D], Sequence[I]], concurrency: int = 10
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[X], X, Y],
        each: Callable[[Event[X], Context], Coroutine[Any, Any, Y]],
        of: type[list[X]],
        *,
        concurrency: int = 10,
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[X], X, Y], each: Callable[[Event[X], Context], Y], of: type[list[X]], *, concurrency: int = 10
    ) -> None: ...
    @overload
    def __init__(
        self,
        each: Callable[[Event[I], Context], Coroutine[Any, Any, O]],
        of: type[D],
        *,
        items: Callable[[D], Sequence[I]],
        concurrency: int = 10,
    ) -> None: ...
    @overload
    def __init__(
        self,
        each: Callable[[Event[I], Context], O],
        of: type[D],
        *,
        items: Callable[[D], Sequence[I]],
        concurrency: int = 10,
    ) -> None: ...
    def __init__(self, each: Any, of: Any, *, items: Any = None, concurrency: int = 10) -> None:
        self._each = each
        self._of = of
        self._items = items
        self._concurrency = concurrency
        self._waits = inspect.iscoroutinefunction(hints.underlying(each)) if callable(each) else False
        graph = getattr(each, "_graph", None)
        self.mapped_graph = graph if isinstance(graph, Graph) else None
        """Of the workflow that takes the place of a function; None: it is a function."""
        self.__name__ = getattr(each, "__name__", "map") if self.mapped_graph is None else self.mapped_graph.name
        """The function's, or workflow's: what the node is called where it has no other name."""

    @property
    def item_type(self) -> Any:
        """What the items are, where the data is a list of them; None: that can't be said."""
        if self._items is not None or not self._is_list():
            return None
        return next((argument for argument in hints.expand(self._of).__args__), None)

    def runs_of(self, plan: Plan, workflow: str, node: str) -> Node[Any, None, Mapped[Any, Any]]:
        """What runs a workflow for each item.

        Args:
            plan: Of that workflow.
            workflow: Name of the one that the node is in.
            node: Name of the node.
        """
        from headrace.workflows.mapping_runs import MappedRuns  # noqa: PLC0415  which needs `Mapped`

        return MappedRuns(plan, workflow, node, self._items, self._concurrency)

    def process(self, event: Event[D], ctx: Context[None, Any]) -> Any:
        """The results of all items of an event; called by the engine."""
        found: Any = event.data if self._items is None else self._items(event.data)
        work = _Work(self._each, event, ctx, list(found))
        return work.side_by_side(self._concurrency) if self._waits else work.one_by_one()

    def _signature(self, name: str, scope: Mapping[str, Any]) -> tuple[Signature | None, list[Fault]]:
        """What it takes and returns: its function's annotations say a part of it."""
        if isinstance(self._each, Node):
            cure = "Give a function; what needs open() is a class derived from Map"
            return None, [Fault("map", "its items are to be processed by a node", cure)]
        if self.mapped_graph is not None:
            faults = list(self._faults())
            mapped: Any = Mapped
            returns = Returns(data=[mapped[self._of, Any]])
            signature = Signature(self.process, self._of, None, None, returns, True, False, False)
            return (None if faults else signature), faults
        read, faults = read_signature(self._each, name, scope)
        faults = [*faults, *self._faults()]
        if read is None:
            return None, faults
        if read.state is not None or read.run_state not in (None, UNSAID):
            message, cure = "its function has a state, and items have none", "Write ctx: Context"
            faults.append(Fault("map", message, cure))
        if read.returns.actions or read.returns.ends or _returns_list(read, scope):
            message = "its function returns actions, a list or an end: items have no routes of their own"
            cure = "Return data, or None; the node behind decides by all results"
            faults.append(Fault("map", message, cure))
        item = self.item_type
        if item is not None and item != read.takes:
            message = f"its data is {type_name(self._of)}, but its function takes {type_name(read.takes)}"
            faults.append(Fault("map", message, f"Write def {self.__name__}(event: Event[{type_name(item)}], ...)"))
        if faults:
            return None, faults
        output: Any = functools.reduce(operator.or_, read.returns.data) if read.returns.data else None
        mapped = Mapped
        returns = Returns(data=[mapped[self._of, output]])
        return Signature(self.process, self._of, None, None, returns, self._waits, False, False), []

    def _is_list(self) -> bool:
        return getattr(hints.expand(self._of), "__origin__", None) is list

    def _faults(self) -> Iterator[Fault]:
        number: Any = self._concurrency
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            yield Fault("map", f"concurrency={number!r} is no number of items", "Write a whole number from 1")
        if self._items is None and not self._is_list():
            message = f"does not say what the items of {type_name(self._of)} are"
            yield Fault("map", message, "Write items=lambda data: data.lines, or of=list[...]")
        elif self._items is not None and not callable(self._items):
            message = f"items={self._items!r} can't be called"
            yield Fault("map", message, "Write items=lambda data: data.lines")


def _returns_list(read: Signature, scope: Mapping[str, Any]) -> bool:
    said = inspect.signature(read.process).return_annotation
    found = hints.alternatives(hints.evaluate(said, read.process, scope))
    return any(getattr(hints.expand(part), "__origin__", part) is list for part in found)


class _Work:
    """The items of one event."""

    def __init__(self, each: Callable[..., Any], event: Event[Any], ctx: Context[None, Any], items: list[Any]) -> None:
        self._each = each
        self._ctx = ctx
        self._data = event.data
        self._contexts = [self._context(event, index, item) for index, item in enumerate(items)]
        self._todo = iter(range(len(items)))
        self._results: list[Any] = [None] * len(items)
        self._failures: dict[int, Failure] = {}

    def one_by_one(self) -> Mapped[Any, Any]:
        """All items, one after the other."""
        for index in self._todo:
            try:
                self._results[index] = self._each(self._contexts[index]._event, self._contexts[index])
            except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises is a failure of its item
                self._failed(index, error)
        return self._done()

    async def side_by_side(self, concurrency: int) -> Mapped[Any, Any]:
        """All items, so many at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(self._results))):
                group.create_task(self._lane())
        return self._done()

    async def _lane(self) -> None:
        for index in self._todo:
            try:
                self._results[index] = await self._each(self._contexts[index]._event, self._contexts[index])
            except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises is a failure of its item
                self._failed(index, error)

    def _context(self, event: Event[Any], index: int, item: Any) -> Context[None, None]:
        ctx = self._ctx
        context: Context[None, None] = Context(ctx._workflow, ctx._node, ctx._settings)
        context._now_ms, context._hop, context._attempt = ctx._now_ms, ctx._hop, ctx._attempt
        context._run = Run(ctx._workflow, event.key, None)
        context.state, context._writing = None, ctx._writing
        context._event = msgspec.structs.replace(event, data=item, path=(*event.path, index))
        return context

    def _failed(self, index: int, error: BaseException) -> None:
        text = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
        self._failures[index] = Failure(self._ctx.settings.mask(text))
        self._contexts[index]._effects = None

    def _done(self) -> Mapped[Any, Any]:
        effects = [effect for context in self._contexts for effect in context._effects or ()]
        if effects:
            self._ctx._effects = [*(self._ctx._effects or ()), *effects]
        return Mapped(self._data, self._results, dict(sorted(self._failures.items())))
