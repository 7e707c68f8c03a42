"""A unit's nodes, prepared for running: every result class and action resolved to a step before the first event.

The table of exit codes is made the same way by whoever runs a unit and by the core that reads its
results, from the plan alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from .actions import Complete, Terminate
from .codec import Quick
from .deadline import within
from .ontimer import with_timers
from .plan import COMPLETE, SINK, TERMINATE, TIMED_OUT, Codec, NodePlan, Plan, ScopePlan, StateCodec, Target, UnitPlan

NOTHING: Final = 0
"""Nothing goes on."""
INNER: Final = 1
"""To one node of the same unit (`Step.node`)."""
EXIT: Final = 2
"""Out of the unit, by `Step.code`."""
MANY: Final = 3
"""Several targets, some of them inside: `Step.branches`, in order."""
END: Final = 4
"""The run ends, with the data as result or reason."""
LEAVE: Final = 5
"""The inner run of `Step.scope` ends; see `inner_runs`."""

_OUTCOMES: Final = {COMPLETE: "completed", TERMINATE: "terminated", TIMED_OUT: "timed out"}

NONE_KIND: Final = 0
ACTION_KIND: Final = 1
DATA_KIND: Final = 2
LIST_KIND: Final = 3
COMPLETE_KIND: Final = 4
TERMINATE_KIND: Final = 5


@dataclass(frozen=True, slots=True)
class Step:
    """Where something that a node returned goes next.

    Slots: read once per hop, in a quarter of a named tuple's time.
    """

    kind: int
    node: int = -1
    """Position of the next node in the unit; of an end, index of the node that ends the run."""
    code: int = 0
    outcome: str = ""
    branches: tuple[Step, ...] = ()
    sends: bool = False
    """Out of the unit, to one sink and nowhere else."""
    leaves: bool = False
    """It enters another unit of the same serial region: what is left of the event has to wait for that."""
    scope: int = -1
    marks: bool = False
    """It has one branch, whose number is -1: by that, joins inside tell what came in from what else had the same root.
    """


@dataclass(frozen=True, slots=True)
class Output:
    """How data of one runtime class is handled: its type, and where it goes."""

    type: int
    step: Step
    encode: Callable[[Any], bytes]
    immutable: bool
    decode: Callable[[bytes], Any]
    quick: Quick


@dataclass(frozen=True, slots=True)
class ScopeProgram:
    """A workflow that is a node, ready to run."""

    plan: ScopePlan
    slot: int
    """Place of its shared state among the unit's states; -1: it has none."""
    codec: StateCodec | None
    complete: Step
    failure: Step | None
    """None: the failure of a node inside does not end its inner runs."""
    timeout: Step


class NodeProgram:
    """One node, ready to run. Attributes are read once per event: kept flat."""

    __slots__ = (
        "actions", "decode", "encode", "ends", "failure", "index", "instance", "is_async", "is_batch",
        "kinds", "name", "new", "outputs", "plan", "process", "quick", "scope", "singles", "slot",
    )  # fmt: skip

    def __init__(self, plan: Plan, node: NodePlan, slot: int, steps: list[Step]) -> None:
        self.plan = node
        self.index = node.index
        self.name = node.name
        process: Callable[..., Any] = node.process if node.on_timer is None else with_timers(node)
        self.process = within(process, node.timeout) if node.timeout and node.is_async else process
        self.instance = node.instance
        self.is_async = node.is_async
        self.is_batch = node.is_batch
        self.slot = slot
        self.scope = node.scope
        self.ends = {
            COMPLETE_KIND: end_of(COMPLETE, node.scope, node.index),
            TERMINATE_KIND: end_of(TERMINATE, node.scope, node.index),
        }
        codec: StateCodec | None = node.state if slot >= 0 else None
        self.encode = codec.encode if codec else None
        self.quick = quick_of(codec) if codec else None
        self.decode = codec.decode if codec else None
        self.new = codec.new if codec else None
        self.actions: dict[int, Step] = {id(member): steps[route] for member, route in node.actions.items()}
        """By identity: hashing an enum member costs 150 ns, and there is one a call."""
        self.failure = None if node.failure is None else steps[node.failure.route]
        """Where a `Failure` goes; None: there is no route for it."""
        self.singles = {id(None): Step(NOTHING) if node.nothing is None else steps[node.nothing], **self.actions}
        """Steps of all results that are one object for ever, by identity."""
        self.kinds: dict[type, int] = {
            type(None): NONE_KIND, list: LIST_KIND, Complete: COMPLETE_KIND, Terminate: TERMINATE_KIND,
        }  # fmt: skip
        self.kinds.update({type(member): ACTION_KIND for member in node.actions})
        self.outputs: dict[type, Output] = {}
        for cls, number in node.types.items():
            route = node.outputs.get(cls, node.default)
            if route is None:
                continue
            data_type = plan.types[number]
            self.outputs[cls] = Output(
                number, steps[route], data_type.codec.encode, data_type.immutable, data_type.codec.decode,
                quick_of(data_type.codec),
            )  # fmt: skip

    def kind_of(self, cls: type) -> int:
        """What a result of this class means; remembered. Unknown classes are data, found by their bases."""
        kind = self.kinds.get(cls)
        if kind is None:
            kind = ACTION_KIND if issubclass(cls, Enum) and self.actions else DATA_KIND
            self.kinds[cls] = kind
        return kind

    def output_of(self, cls: type) -> Output | None:
        """How data of this class goes on: its own entry, else that of its nearest base; None: nowhere."""
        found = self.outputs.get(cls)
        if found is None:
            found = next((self.outputs[base] for base in cls.__mro__ if base in self.outputs), None)
            if found is not None:
                self.outputs[cls] = found
        return found


class UnitProgram:
    """The nodes of one unit and its table of exit codes."""

    def __init__(self, plan: Plan, unit: UnitPlan) -> None:
        self.plan = plan
        self.unit = unit
        self.codes: list[tuple[Target, ...]] = [()]
        """Exit code -> targets outside of the unit. Code 0 stands for none."""
        self._position = {node: position for position, node in enumerate(unit.nodes)}
        stateful = [node for node in unit.nodes if plan.nodes[node].state is not None]
        self.slots = {node: slot for slot, node in enumerate(stateful)}
        """Node index -> place of its state among the unit's states."""
        self.state_names = [node_field(plan.nodes[node].name) for node in stateful]
        self.former_names = [tuple(map(node_field, plan.nodes[node].renamed_from)) for node in stateful]
        """By state: where it lies in runs that have had no event since its node was renamed."""
        self.nodes: list[NodeProgram] = []
        self.leaves = False
        """Some of its ways lead out and back into it: what is left of an event has to wait there."""
        inner: list[set[int]] = []
        doors = {scope.door: scope.marks for scope in plan.scopes}
        for index in unit.nodes:
            node = plan.nodes[index]
            steps = [self.step(targets, node.scope, index) for targets in node.routes]
            marks = doors.get(index, -1)
            if marks >= 0:
                steps[marks] = Step(MANY, branches=(steps[marks],), marks=True)
            slot = -1 if index in doors else self.slots.get(index, -1)  # what a door keeps is not its own state
            self.nodes.append(NodeProgram(plan, node, slot, steps))
            parts = [part for step in steps for part in _ends_of(step)]
            inner.append({part.node for part in parts if part.kind == INNER})
            self.leaves = self.leaves or any(part.leaves for part in parts)
        self.scopes = [self._scope(scope) for scope in plan.scopes if scope.door in self._position]
        self.ways = _ways_of(inner)
        """Positions of the nodes, none before what leads to it, and by position how many nodes an event has passed with
        it; None: there is a way back to a node, or a longer and a shorter one to it."""

    def _scope(self, scope: ScopePlan) -> ScopeProgram:
        parent, door = scope.parent, scope.door
        failure = None if scope.failure is None else self.step(scope.failure, parent, door)
        return ScopeProgram(
            scope, self.slots.get(door, -1), self.plan.nodes[door].state,
            self.step(scope.complete, parent, door), failure, self.step(scope.timeout, parent, door),
        )  # fmt: skip

    def step(self, targets: tuple[Target, ...], scope: int, node: int) -> Step:
        """Where something of a node goes that takes a route to these targets, which was written inside of a scope."""
        if not targets:
            return Step(NOTHING)
        if all(target >= 0 and target not in self._position for target in targets):
            return self._exit(targets)
        if len(targets) == 1:
            return self._single(targets[0], scope, node)
        return Step(MANY, branches=tuple(self._single(target, scope, node) for target in targets))

    def _single(self, target: Target, scope: int, node: int) -> Step:
        if target in _OUTCOMES:
            return end_of(target, scope, node)
        if target in self._position:
            return Step(INNER, node=self._position[target])
        return self._exit((target,))

    def _exit(self, targets: tuple[Target, ...]) -> Step:
        if targets not in self.codes:
            self.codes.append(targets)
        region = self.plan.region_of[self.unit.index]
        leaves = any(
            0 <= target < SINK and self.plan.region_of[self.plan.unit_of[target]] == region for target in targets
        )
        return Step(EXIT, code=self.codes.index(targets), sends=is_sink(targets), leaves=leaves)


def end_of(target: Target, scope: int, node: int) -> Step:
    """The end of a run, or of an inner run of a scope, by this node."""
    return Step(END if scope < 0 else LEAVE, node, outcome=_OUTCOMES[target], scope=scope)


def _ends_of(step: Step) -> list[Step]:
    """What a step comes to, without fan-outs."""
    return [end for branch in step.branches for end in _ends_of(branch)] if step.branches else [step]


def node_field(name: str) -> str:
    """Field of a run's hash that holds the state of the node with this name."""
    return f"node:{name}"


def is_sink(targets: tuple[Target, ...]) -> bool:
    """Whether one sink is all that they are."""
    return len(targets) == 1 and targets[0] >= SINK


def quick_of(codec: Codec) -> Quick:
    """The quick form of a codec's `encode`; that itself where there is none."""
    return codec.quick or Quick(codec.encode)


def _ways_of(edges: Sequence[set[int]]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    before = {node: [other for other, targets in enumerate(edges) if node in targets] for node in range(len(edges))}
    try:
        order = tuple(TopologicalSorter(before).static_order())
    except CycleError:
        return None
    depth = [1] * len(edges)
    for node in order:
        depths = {depth[other] + 1 for other in before[node]}
        if len(depths) > 1:
            return None
        depth[node] = depths.pop() if depths else 1
    return order, tuple(depth)


def unit_programs(plan: Plan) -> list[UnitProgram]:
    """The programs of all units of a plan, by unit index."""
    return [UnitProgram(plan, unit) for unit in plan.units]
