"""What a node takes, keeps and returns, as its annotations say."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar, get_args, get_origin

from headrace.workflows import hints
from headrace.workflows.codec import type_name
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.nodes import BatchNode, Node
from headrace.workflows.returns import Fault, FaultError, Returns, read_returns


class _Unsaid(Enum):
    UNSAID = "unsaid"


UNSAID: Final = _Unsaid.UNSAID
"""The annotation leaves it open: `Context` without parameters."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A node's annotations, read."""

    process: Callable[..., Any]
    takes: Any
    """Type of its events' data."""
    state: Any
    """Type of its state; None: it has none."""
    run_state: Any
    """Type it expects of the run's state; None: it does not use it; `UNSAID`: anything."""
    returns: Returns
    is_async: bool
    is_batch: bool
    sets_timers: bool


def read_signature(user: Any, name: str, scope: Mapping[str, Any]) -> tuple[Signature | None, list[Fault]]:
    """Read the annotations of a node.

    Args:
        user: An instance of `Node` or `BatchNode`, or a function.
        name: Name of the node, for messages.
        scope: Local names where the node is added, for annotations that are strings.

    Returns:
        The signature, and [] or None, and everything that keeps it from being read.
    """
    own = getattr(user, "_signature", None) if isinstance(user, Node) else None
    if own is not None:  # it makes its own of what it was given
        found: tuple[Signature | None, list[Fault]] = own(name, scope)
        return found
    reader = _Reader(user, name, scope)
    try:
        signature = reader.read()
    except FaultError as error:
        reader.faults.append(error.fault)
        return None, reader.faults
    return (None if reader.faults else signature), reader.faults


class _Reader:
    def __init__(self, user: Any, name: str, scope: Mapping[str, Any]) -> None:
        self.user = user
        self.name = name
        self.scope = scope
        self.faults: list[Fault] = []
        self.is_batch = isinstance(user, BatchNode)
        self.base = BatchNode if self.is_batch else Node if isinstance(user, Node) else None
        self.variables: dict[Any, Any] = {}
        self.generics: list[Any] = [UNSAID, UNSAID, UNSAID]

    def read(self) -> Signature | None:
        process = self._process()
        parameters = self._parameters(process)
        if self.base is not None:
            self._read_generics(process)
        takes = self._takes(process, parameters[0])
        state, run_state = self._states(process, parameters[1])
        returns, awaited = self._returns(process)
        if takes is None or returns is None:
            return None
        sets_timers = isinstance(self.user, Node) and type(self.user).on_timer is not Node.on_timer
        is_async = awaited or inspect.iscoroutinefunction(hints.underlying(process))
        if sets_timers:
            self._read_on_timer(returns, is_async=is_async)
        return Signature(
            process=process,
            takes=takes,
            state=state,
            run_state=run_state,
            returns=returns,
            is_async=is_async,
            is_batch=self.is_batch,
            sets_timers=sets_timers,
        )

    def _process(self) -> Callable[..., Any]:
        user: Any = self.user
        cls: Any = type(user)
        if isinstance(user, type) and issubclass(user, (Node, BatchNode)):
            raise FaultError("class", "is a class, not an instance of it", f"Write: workflow.node({user.__name__}())")
        if self.base is not None:
            if cls.process in (Node.process, BatchNode.process):
                raise FaultError("process", "has no process method", "Add: def process(self, event, ctx): ...")
            return user.process  # type: ignore[no-any-return]
        if not callable(user) or isinstance(user, type):
            raise FaultError(
                "node",
                f"{type(user).__name__} is no node",
                "Give a function, or an instance of a subclass of Node or BatchNode",
            )
        return user  # type: ignore[no-any-return]

    def _parameters(self, process: Callable[..., Any]) -> list[inspect.Parameter]:
        pair = "(events, ctxs)" if self.is_batch else "(event, ctx)"
        try:
            signature = inspect.signature(process)
            signature.bind(None, None)
        except (TypeError, ValueError) as error:
            raise FaultError(
                "signature", f"can't be called with {pair}: {error}", f"Let it take two arguments: {pair}"
            ) from error
        self._return = signature.return_annotation
        found = signature.parameters.values()
        given = [parameter for parameter in found if parameter.kind is not parameter.KEYWORD_ONLY]
        return given[:2] if len(given) > 1 else [given[0], given[0]]

    def _read_generics(self, process: Callable[..., Any]) -> None:
        assert self.base is not None
        cls = type(self.user)
        self.variables = hints.variables_of(cls, hints.underlying(process))
        for index, argument in enumerate(hints.base_arguments(cls, self.base)):
            if not isinstance(argument, TypeVar):
                self.generics[index] = argument

    def _evaluated(self, process: Callable[..., Any], annotation: Any, what: str, *, needed: bool = True) -> Any:
        """The annotation as an object, or `UNSAID`; what can't be evaluated is a fault if it is needed."""
        if annotation is inspect.Parameter.empty:
            return UNSAID
        try:
            found = hints.evaluate(annotation, process, self.scope)
        except Exception as error:  # noqa: BLE001  the user's own text is evaluated: anything may come
            if not needed:
                return UNSAID
            message = f"the annotation of {what}, {annotation!r}, can't be evaluated: {type(error).__name__}: {error}"
            cure = "Define the types it names at module level, before the node is added"
            self.faults.append(Fault("annotation", message, cure))
            return UNSAID
        return hints.substitute(found, self.variables)

    def _takes(self, process: Callable[..., Any], parameter: inspect.Parameter) -> Any:
        """Data type of the events: what the class says in its brackets, else the annotation of `event`."""
        if self.generics[0] is not UNSAID:
            return self.generics[0]
        said = self._inside(self._evaluated(process, parameter.annotation, parameter.name))
        if get_origin(said) is Event:
            return get_args(said)[0]
        if not any(fault.code == "annotation" for fault in self.faults):
            if self.base is not None:
                cure = f"Write: class {type(self.user).__name__}({self.base.__name__}[Reading]), with your type"
            else:
                cure = f"Write: def {self.name}(event: Event[Reading], ctx: Context), with your type"
            self.faults.append(Fault("event-type", "does not say which data its events have", cure))
        return None

    def _states(self, process: Callable[..., Any], parameter: inspect.Parameter) -> tuple[Any, Any]:
        """Types of the node's state and of the run's: from the annotation of `ctx` and the class's brackets."""
        needed = self.generics[1] is UNSAID
        said = self._inside(self._evaluated(process, parameter.annotation, parameter.name, needed=needed))
        own: Any = UNSAID
        run: Any = UNSAID
        if get_origin(said) is Context:
            arguments = [*get_args(said), UNSAID]
            own, run = arguments[0], arguments[1]
        elif said is not Context and self.base is None and not self.faults:
            cure = "Write: ctx: Context, or ctx: Context[Counter] with the type of its state"
            self.faults.append(Fault("context", "does not say what its second argument is", cure))
        generic = self.generics[1]
        if own is not UNSAID and generic is not UNSAID and _none(own) != _none(generic):
            self.faults.append(
                Fault(
                    "state",
                    f"its class says state {type_name(generic)}, its ctx says {type_name(own)}",
                    "Write the same type in both places",
                )
            )
        state = generic if own is UNSAID else own
        if run is Any or isinstance(run, TypeVar):
            run = UNSAID
        return _none(None if state is UNSAID else state), _none(run)

    def _inside(self, annotation: Any) -> Any:
        """Of a batch node's `Sequence[Event[...]]` what is in it."""
        annotation = hints.expand(annotation) if annotation is not UNSAID else annotation
        if self.is_batch and get_args(annotation) and get_origin(annotation) not in (Event, Context):
            return get_args(annotation)[0]
        return annotation

    def _returns(self, process: Callable[..., Any]) -> tuple[Returns | None, bool]:
        said = self._evaluated(process, self._return, "the return value")
        awaited = False
        if said is not UNSAID:
            said = hints.expand(said)
            if get_origin(said) in (Awaitable, Coroutine):
                said, awaited = get_args(said)[-1], True
            if self.is_batch and get_args(hints.expand(said)):
                said = get_args(hints.expand(said))[0]
        elif self.generics[2] is not UNSAID and not self.faults:
            said = self.generics[2]
        if said is UNSAID:
            if not any(fault.code == "annotation" for fault in self.faults):
                cure = "Add a return annotation: -> Alert, -> Heat, or -> None if nothing goes on"
                self.faults.append(Fault("return-type", "does not say what it returns", cure))
            return None, awaited
        returns, faults = read_returns(said, batch=self.is_batch)
        self.faults.extend(faults)
        return returns, awaited

    def _read_on_timer(self, returns: Returns, *, is_async: bool) -> None:
        """What `on_timer` may return besides what `process` does: goes to `returns`."""
        on_timer = self.user.on_timer
        try:
            signature = inspect.signature(on_timer)
            signature.bind(None, None)
        except (TypeError, ValueError) as error:
            message = f"on_timer can't be called with (timer, ctx): {error}"
            self.faults.append(Fault("on-timer", message, "Let it take two arguments: (timer, ctx)"))
            return
        said = self._evaluated(on_timer, signature.return_annotation, "what on_timer returns", needed=False)
        awaited = False
        if said is not UNSAID:
            said = hints.expand(said)
            if get_origin(said) in (Awaitable, Coroutine):
                said, awaited = get_args(said)[-1], True
            own, faults = read_returns(said)
            self.faults.extend(faults)
            if own.actions:
                message = "on_timer returns an action, but there is no event that could go on by it"
                self.faults.append(Fault("on-timer", message, "Return data, and route it: .on(Alert).to(...)"))
            returns.ends = returns.ends or own.ends
            returns.data.extend(data for data in own.data if data not in returns.data)
        if is_async != (awaited or inspect.iscoroutinefunction(hints.underlying(on_timer))):
            message = "one of process and on_timer is async, the other is not"
            self.faults.append(Fault("on-timer", message, "Make both async, or neither"))


def _none(said: Any) -> Any:
    return None if said is type(None) else said
