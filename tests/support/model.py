"""Random graphs, and an interpreter that takes one event after the other: what the core is held against."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from headrace.workflows.actions import Action, Complete, Failure, Reject, Terminate
from headrace.workflows.codec import json_codec, state_codec
from headrace.workflows.commit import DeadLetter
from headrace.workflows.plan import (
    COMPLETE,
    SINK,
    TERMINATE,
    DataType,
    FailurePlan,
    NodePlan,
    Plan,
    SinkPlan,
    SourcePlan,
    UnitPlan,
)  # fmt: skip
from headrace.workflows.regions import regions_of
from headrace.workflows.retry import Exponential, Linear, Retry


class Token(msgspec.Struct, frozen=True):
    """Data that may be shared; `ttl` bounds how often it is emitted again."""

    key: str
    value: int
    ttl: int


class Note(msgspec.Struct):
    """Data that may not be shared: a node changes the one that it got."""

    key: str
    value: int
    ttl: int


class Seen(msgspec.Struct):
    """State of a node: every visit changes what it does next, so that a wrong order shows."""

    count: int = 0
    mix: int = 7
    last: list[int] = []


class Way(Action):
    """Actions of the random nodes."""

    A = "a"
    B = "b"
    C = "c"


@dataclass
class Behaviour:
    """What a random node does: a pure function of its number, the data and the state (of the run, too)."""

    number: int
    seed: int
    stateful: bool
    shares: bool
    ends: bool
    classes: bool
    max_visits: int = 40
    retry: Retry | None = None
    ways: tuple[Way, ...] = ()

    def decide(self, data: Any, state: Seen | None, shared: Seen | None, attempt: int = 1) -> Any:
        """The result of one visit; changes the states (and mutable data) first, even when it then fails."""
        data = _told(data)
        mix = self.seed * 1_000_003 + data.value * 7_919 + data.ttl
        visits = 0
        for part in (state, shared):
            if part is not None:
                mix = mix * 31 + part.mix
                part.count += 1
                part.mix = (part.mix * 1_103_515_245 + data.value + 12_345) % 1_000_003
                part.last = [*part.last[-3:], data.value]
                visits = max(visits, part.count)
        if isinstance(data, Note):
            data.value += 1
        draw = random.Random(mix)
        if visits > self.max_visits:
            return None
        roll = draw.random()
        if self.retry is not None and random.Random(f"{mix}/{attempt}").random() < 0.3:
            raise OSError(f"node {self.number} can't do {data.value} now")
        if roll < 0.06:
            raise ValueError(f"node {self.number} does not like {data.value}")
        if roll < 0.09:
            raise Reject(f"rejected {data.value}")
        if roll < 0.16:
            return None
        if self.ends and roll < 0.24:
            return Complete({"by": self.number}) if draw.random() < 0.5 else Terminate(f"by {self.number}")
        if roll < 0.38 and data.ttl > 0:
            parts = [self._emit(data, draw) for _ in range(draw.randint(0, 2))]
            if self.ends and draw.random() < 0.2:
                parts.append(Complete(data.value))
            return parts
        if roll < 0.62 and data.ttl > 0:
            return self._emit(data, draw)
        return draw.choice(self.ways)

    def says(self, data: Any) -> Any:
        """What it replies, if it does: by the data alone."""
        told = _told(data)
        mix = told.value * 7_919 + told.ttl + self.seed
        return {"by": self.number, "value": told.value} if mix % 6 == 0 else None

    def publishes(self, data: Any) -> tuple[str, Any] | None:
        """The value that it sets, if it does: by the data alone."""
        told = _told(data)
        mix = told.value * 7_919 + told.ttl + self.seed
        return (f"v{mix % 2}", [self.number, told.value]) if mix % 5 == 0 else None

    def _emit(self, data: Any, draw: random.Random) -> Any:
        cls = Note if self.classes and draw.random() < 0.4 else Token
        return cls(data.key, draw.randint(0, 99), data.ttl - 1)


def _told(failure: Any) -> Any:
    """What a node makes of a failure: all of it counts, so that a wrong part shows. Other data is as it is."""
    if not isinstance(failure, Failure):
        return failure
    value, data = len(failure.error) + len(failure.reason) + 10 * failure.attempts, failure.data
    while "error" in data:  # a failure at a failure
        value, data = value + 1000 + len(data["error"]), data["data"]
    return Token(data["key"], (value + data["value"]) % 10_007, data["ttl"])


@dataclass
class Graph:
    """A random graph, as both interpreters need it."""

    plan: Plan
    behaviours: list[Behaviour]


TYPES = (
    DataType(0, Token, json_codec(Token), immutable=True),
    DataType(1, Note, json_codec(Note), immutable=False),
    DataType(2, Failure, json_codec(Failure), immutable=False),
)


def random_retry(draw: random.Random) -> Retry:
    """A policy of few attempts, of times that don't meet."""
    first = timedelta(milliseconds=draw.choice([1000, 10_000, 100_000]))
    backoff = Linear(first, first) if draw.random() < 0.5 else Exponential(first)
    return Retry(draw.randint(2, 4), on=(OSError,), backoff=backoff, jitter=draw.choice([0.0, 0.5]))


def random_graph(
    draw: random.Random, *, fuse: str | None = None, keyed: bool | None = None, retries: bool = False,
    failures: bool = False, trees: bool = False,
) -> Graph:  # fmt: skip
    """A graph of 1 to 6 nodes: chains, fan-out, fan-in, loops; some with ends, shared state, async nodes.

    Some are in layers of plain nodes, each leading to the next: what a unit takes in waves. In trees, each node and
    sink has its events from one place: what comes of a key's events is the same whenever they go on.
    """
    count = draw.randint(1, 6)
    sinks = count if trees else draw.randint(1, 2)
    layered = not trees and draw.random() < 0.2
    plain = layered or (trees and draw.random() < 0.5)
    loops = not (layered or trees) and draw.random() < 0.5
    ends = not (layered or trees) and draw.random() < 0.3
    shares = not (layered or trees) and draw.random() < 0.2
    layers = sorted(draw.randrange(3) for _ in range(count)) if layered else []
    parents = [draw.randint(-1, index - 1) for index in range(count)] if trees else []
    keyed = draw.random() < 0.85 if keyed is None else keyed
    nodes, behaviours, routes_of = [], [], []
    for index in range(count):
        behaviour = Behaviour(
            index, draw.randint(1, 10**6), stateful=draw.random() < 0.7, shares=shares,
            ends=ends and draw.random() < 0.6, classes=draw.random() < 0.5,
            retry=random_retry(draw) if retries and draw.random() < 0.7 else None,
        )  # fmt: skip
        if loops and not behaviour.stateful and not shares:
            behaviour.stateful = True  # else it could go round for ever
        following: Sequence[int] = range(0 if loops else index + 1, count)
        if trees:
            following = [child for child, parent in enumerate(parents) if parent == index]
        if layered:
            following = range(bisect_right(layers, layers[index]), bisect_right(layers, layers[index] + 1))
        into = [index] if trees else range(sinks)
        routes = [_targets(draw, following, into, ends=ends) for _ in range(5)]
        behaviour.ways = tuple(Way)
        failure: FailurePlan | None = None
        if failures and draw.random() < 0.7:
            failure = FailurePlan(len(routes), 2)
            routes.append(_targets(draw, following, into, ends=ends))
        nodes.append(_node(draw, index, behaviour, routes, failure, plain=plain))
        behaviours.append(behaviour)
        routes_of.append(routes)
    units, unit_of = _units(draw, count, fuse)
    serial = shares or any(node.may_end for node in nodes)
    edges: dict[int, set[int]] = defaultdict(set)
    for index, routes in enumerate(routes_of):
        for target in (target for targets in routes for target in targets):
            if 0 <= target < SINK and unit_of[target] != unit_of[index]:
                edges[unit_of[index]].add(unit_of[target])
    regions, region_of = regions_of(edges, len(units), whole=serial)
    first: Sequence[int] = range(bisect_right(layers, layers[0]) if layered else count)
    if trees:
        first = [index for index, parent in enumerate(parents) if parent < 0]
    entries = [tuple(draw.sample(first, k=min(len(first), draw.choice([1, 1, 1, 2])))) for _ in range(2)]
    plan = Plan(
        name="model", keyed=keyed, partitions=1, types=TYPES,
        sources=tuple(SourcePlan(i, f"tokens{i}", None, 0, "key", entry) for i, entry in enumerate(entries)),
        nodes=tuple(nodes),
        sinks=tuple(SinkPlan(i, f"sink{i}", None, 0) for i in range(sinks)), units=units, unit_of=unit_of,
        regions=regions, region_of=region_of, run_state=state_codec(Seen) if shares else None,
        serial=serial, hop_limit=10_000,
    )  # fmt: skip
    return Graph(plan, behaviours)


def _targets(draw: random.Random, following: Sequence[int], sinks: Sequence[int], *, ends: bool) -> tuple[int, ...]:
    def one() -> int:
        if ends and draw.random() < 0.07:
            return draw.choice([COMPLETE, TERMINATE])
        if not following or draw.random() < 0.35:
            return SINK + draw.choice(sinks)
        return draw.choice(following)

    return tuple(dict.fromkeys(one() for _ in range(draw.choice([0, 1, 1, 1, 2, 3]))))


def _node(
    draw: random.Random, index: int, behaviour: Behaviour, routes: Sequence[tuple[int, ...]],
    failure: FailurePlan | None, *, plain: bool,
) -> NodePlan:  # fmt: skip
    is_async = not plain and draw.random() < 0.2

    def process(event: Any, ctx: Any) -> Any:
        shared = ctx.run.state if behaviour.shares else None
        if (said := behaviour.says(event.data)) is not None:
            ctx.reply(said)
        if (value := behaviour.publishes(event.data)) is not None:
            ctx.set_value(*value)
        return behaviour.decide(event.data, ctx.state if behaviour.stateful else None, shared, ctx.attempt)

    async def process_async(event: Any, ctx: Any) -> Any:
        return process(event, ctx)

    def process_batch(events: Any, ctxs: Any) -> Any:
        results: list[Any] = []
        for event, ctx in zip(events, ctxs, strict=True):
            try:
                results.append(process(event, ctx))
            except Reject as reject:
                results.append(reject)
        return results

    is_batch = not (plain or is_async or behaviour.retry) and draw.random() < 0.2

    ends = behaviour.ends or any(target < 0 for targets in routes for target in targets)
    return NodePlan(
        index=index, name=f"n{index}", instance=None,
        process=process_batch if is_batch else process_async if is_async else process,
        is_async=is_async, is_batch=is_batch, batch_size=draw.choice([0, 1, 3]),
        state=state_codec(Seen) if behaviour.stateful else None,
        routes=tuple(routes), actions={Way.A: 0, Way.B: 1, Way.C: 2}, outputs={Note: 3}, default=4,
        types={Token: 0, Note: 1}, may_end=ends, replicas=1, retry=behaviour.retry, failure=failure, takes=0,
    )  # fmt: skip


def _units(draw: random.Random, count: int, fuse: str | None) -> tuple[tuple[UnitPlan, ...], tuple[int, ...]]:
    fuse = fuse or draw.choice(["none", "none", "some", "all", "worker"])
    if fuse in ("all", "worker"):
        return (UnitPlan(0, tuple(range(count)), fuse == "worker", 1),), (0,) * count
    groups: list[list[int]] = []
    for node in range(count):
        if groups and fuse == "some" and draw.random() < 0.5:
            draw.choice(groups).append(node)
        else:
            groups.append([node])
    unit_of = [0] * count
    for index, group in enumerate(groups):
        for node in group:
            unit_of[node] = index
    units = tuple(UnitPlan(i, tuple(group), False, draw.choice([1, 1, 2, 3])) for i, group in enumerate(groups))
    return units, tuple(unit_of)


def random_log(draw: random.Random) -> list[tuple[int, bytes | None]]:
    """5 to 80 records of two sources and a few keys; some are no tokens at all."""
    keys = [f"k{number}" for number in range(draw.randint(1, 6))]
    log: list[tuple[int, bytes | None]] = []
    source = 0
    for _ in range(draw.randint(5, 80)):
        if draw.random() < 0.2:
            source = 1 - source
        if draw.random() < 0.02:
            value: bytes | None = draw.choice([None, b"{", b"", b'{"key": 3}'])
        else:
            value = msgspec.json.encode(Token(draw.choice(keys), draw.randint(0, 99), draw.randint(0, 3)))
        log.append((source, value))
    return log


@dataclass
class Expected:
    """What one event at a time leads to."""

    states: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """(run key, field) -> JSON text."""
    status: dict[str, tuple[str, str]] = field(default_factory=dict)
    outputs: dict[tuple[str, int], list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))
    """(key, sink) -> ids and data, in order."""
    dead: dict[str, list[tuple[str, str | None, str]]] = field(default_factory=lambda: defaultdict(list))
    """Key -> (id, node, reason)."""
    processed: Counter[str] = field(default_factory=Counter)
    """Origin -> records."""
    answers: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Request -> kind, value, outcome, node, reason: each record is a request, by the id of its event."""


class Naive:
    """Takes one event after the other through the whole graph, depth first; nothing is batched."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.plan = graph.plan
        self.result = Expected()
        self.ended = False
        self.said: dict[str, tuple[Any, ...]] = {}
        """What may answer the request of the event that is processed now: the first of each kind."""

    def feed(self, source: int, value: bytes | None, partition: int = 0) -> None:
        """One record of a source, in a topic partition."""
        if self.ended:
            return
        origin = f"tokens{source}/{partition}"
        offset = self.result.processed[origin]
        self.result.processed[origin] += 1
        identity = f"{origin}/{offset}"
        try:
            data = msgspec.json.decode(value or b"", type=Token)
        except msgspec.DecodeError:
            reason = "tombstone" if value is None else "decode"
            self.result.dead[""].append((identity, None, reason))
            self._answer(identity, ("failed", None, "", "", reason))
            return
        key = data.key if self.plan.keyed else ""
        self._enter(key, identity, self._fan_out(data, identity, (), self.plan.sources[source].targets))
        self._settled(identity)

    def _settled(self, identity: str) -> None:
        """An event of a request has gone as far as it can for now."""
        for kind in ("reply", "ended", "failed"):
            if kind in self.said:
                self._answer(identity, self.said[kind])
        if not self.stands(identity):
            self._answer(identity, ("done", None, "", "", ""))
        self.said = {}

    def _answer(self, identity: str, answer: tuple[Any, ...]) -> None:
        self.result.answers.setdefault(identity, answer)

    def stands(self, identity: str) -> bool:
        """Something of a request stands still: here nothing does."""
        return False

    def replay(self, letter: DeadLetter) -> None:
        """A dead letter goes back to where it stopped."""
        self.result.dead[letter.key].remove((letter.id, letter.node, letter.reason))
        if letter.reentry is None:  # it was no event, and is none now
            self.result.dead[letter.key].append((letter.id, letter.node, letter.reason))
            return
        node = next(row.index for row in self.plan.nodes if row.name == letter.node)
        types: dict[str, Any] = {"Note": Note, "Failure": Failure}
        data = msgspec.json.decode(letter.data or b"", type=types.get(letter.reentry.type, Token))
        self._enter(letter.key, letter.id, [(node, data, ())])
        self.said = {}  # nobody waits for an answer any more

    def _enter(self, key: str, identity: str, stack: list[Any]) -> None:
        if self.result.status.get(key, ("running", ""))[0] != "running":
            for name in [name for name in self.result.states if name[0] == key]:
                del self.result.states[name]
        self.result.status[key] = ("running", "")
        while stack:
            target, data, path = stack.pop()
            if target >= SINK:
                self.result.outputs[key, target - SINK].append((_id(identity, path), msgspec.json.encode(data)))
            elif target < 0:
                self._end(key, "completed" if target == COMPLETE else "terminated", data)
                return
            else:
                following = self._visit(key, identity, target, data, path)
                if following is None:
                    return
                stack += following

    def _visit(self, key: str, identity: str, node: int, data: Any, path: tuple[int, ...]) -> list[Any] | None:
        """What is left to do after one visit, the last first; None: the run has ended."""
        behaviour = self.graph.behaviours[node]
        names = [(key, f"node:n{node}") if behaviour.stateful else None, (key, "state") if behaviour.shares else None]
        states = [self._state(name) for name in names]
        copy = msgspec.json.decode(msgspec.json.encode(data), type=type(data))
        try:
            result = behaviour.decide(copy, *states)
        except (ValueError, Reject) as error:
            return self._failed(error, key, identity, node, data, path)
        for name, state in zip(names, states, strict=True):
            if name is not None:
                self.result.states[name] = msgspec.json.encode(state)
        self._says(behaviour, data, key)
        return self._following(result, node, data, identity, path)

    def _says(self, behaviour: Behaviour, data: Any, key: str) -> None:
        said = behaviour.says(data)
        if said is not None:
            self.said.setdefault("reply", ("reply", said, "", "", ""))
        published = behaviour.publishes(data)
        if published is not None:
            name, value = key, f"value:{published[0]}"
            version = int(self.result.states.get((name, value), b"0").partition(b" ")[0]) + 1
            self.result.states[name, value] = b"%d %s" % (version, msgspec.json.encode(published[1]))

    def _failed(
        self, error: Exception, key: str, identity: str, node: int, data: Any, path: tuple[int, ...], attempts: int = 1
    ) -> list[Any]:
        """A node has failed for good: what is left to do, the last first."""
        plan = self.plan.nodes[node]
        reason = "reject" if isinstance(error, Reject) else "error"
        if plan.failure is None:
            self.result.dead[key].append((_id(identity, path), plan.name, reason))
            self.said.setdefault("failed", ("failed", None, "", plan.name, reason))
            return []
        text = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
        came = msgspec.json.decode(msgspec.json.encode(data))
        failure = Failure(text, reason, plan.name, attempts, came)
        return self._fan_out(failure, identity, (*path, 0), plan.routes[plan.failure.route])

    def _following(self, result: Any, node: int, data: Any, identity: str, path: tuple[int, ...]) -> list[Any]:
        """What a result leads to, the last first."""
        plan = self.plan.nodes[node]
        following: list[Any] = []
        for branch, part in enumerate(result if isinstance(result, list) else [result]):
            if isinstance(part, Complete | Terminate):
                value = part.result if isinstance(part, Complete) else part.reason
                following.append((COMPLETE if isinstance(part, Complete) else TERMINATE, value, path))
            elif isinstance(part, Way):
                following += self._fan_out(data, identity, path, plan.routes[plan.actions[part]])[::-1]
            elif part is not None:
                route = 3 if isinstance(part, Note) else 4
                following += self._fan_out(part, identity, (*path, branch), plan.routes[route])[::-1]
        return following[::-1]

    def _state(self, name: tuple[str, str] | None) -> Seen | None:
        if name is None:
            return None
        blob = self.result.states.get(name)
        return Seen() if blob is None else msgspec.json.decode(blob, type=Seen)

    @staticmethod
    def _fan_out(data: Any, identity: str, path: tuple[int, ...], targets: tuple[int, ...]) -> list[Any]:
        if len(targets) == 1:
            return [(targets[0], data, path)]
        return [(target, data, (*path, branch)) for branch, target in enumerate(targets)][::-1]

    def _end(self, key: str, outcome: str, value: Any) -> None:
        self.result.status[key] = (outcome, msgspec.json.encode(value).decode())
        self.said["ended"] = ("ended", msgspec.to_builtins(value), outcome, "", "")
        if not self.plan.keyed:
            self.ended = True


def _id(identity: str, path: tuple[int, ...]) -> str:
    return f"{identity}.{'.'.join(map(str, path))}" if path else identity
