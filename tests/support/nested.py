"""Random workflows inside workflows, and an interpreter that takes one event after the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace import Complete, Context, Event, Failure, KafkaSink, KafkaSource, Reject, Terminate, Workflow
from headrace.workflows.plan import Plan
from model import Behaviour, Expected, Seen, Token, Way, random_retry

End = type[Complete] | type[Terminate]
Target = Any
"""A `Part` of the same level, a sink's number, or an end."""
Hands = tuple[int, ...]
"""By scope, from the outside: which passing of a door an event came of."""


@dataclass(eq=False)
class Part:
    """A node: one of the random ones, or a workflow."""

    name: str
    behaviour: Behaviour | None = None
    level: Level | None = None
    wait: str = ""
    """It is a wait: for what comes in by the door ("in"), or for a source of the outermost workflow ("more")."""
    takes: Any = Token
    routes: dict[Any, list[Target]] = field(default_factory=dict)
    """By action, `Token`, `Complete` or `Failure`: where it goes."""


@dataclass(eq=False)
class Level:
    """One workflow."""

    name: str
    parts: list[Part]
    entries: list[list[Target]]
    """By source: where it leads."""
    sinks: int
    shares: bool

    @property
    def wants_more(self) -> bool:
        """Some wait, of its own or deeper inside, is on a source of the outermost workflow."""
        return any(part.wait == "more" or (part.level is not None and part.level.wants_more) for part in self.parts)


def random_level(
    draw: random.Random, depth: int, *, sources: int = 1, ends: bool = True, retries: bool = False, waits: bool = False
) -> Level:
    """A workflow with others inside, at most `depth` deep."""
    count = draw.randint(1, 4)
    shares = draw.random() < 0.4
    parts: list[Part] = []
    loops = draw.random() < 0.3
    for index in range(count):
        if depth and draw.random() < (0.7 if index == 0 else 0.4):
            parts.append(Part(f"w{index}", level=random_level(draw, depth - 1, retries=retries, waits=waits)))
        elif waits and sources == 1 and draw.random() < 0.35:
            parts.append(Part(f"p{index}", wait=draw.choice(["in", "more"])))
        else:
            behaviour = Behaviour(
                index, draw.randint(1, 10**6), stateful=loops or draw.random() < 0.7, shares=shares,
                ends=ends and draw.random() < 0.6, classes=False, max_visits=15,
            )  # fmt: skip
            behaviour.ways = tuple(Way)
            behaviour.retry = random_retry(draw) if retries and draw.random() < 0.7 else None
            parts.append(Part(f"n{index}", behaviour))
    level = Level(f"flow{draw.randint(0, 10**9)}", parts, [], draw.randint(0, 1), shares)
    for index, part in enumerate(list(parts)):
        if part.level is not None:
            after = _Outcomes(draw, level, parts[0 if loops else index + 1 :])
            for outcome in _outcomes(part.level):
                after.add(part, outcome)
            if Failure not in part.routes and draw.random() < 0.4:
                after.add(part, Failure)
        else:
            following = parts[0 if loops else index + 1 : count]
            keys: list[Any] = [Token] if part.wait else [*Way, Token]
            part.routes = {key: _targets(draw, following, level.sinks, ends=ends) for key in keys}
    takers = [part for part in parts if part.takes is Token]
    level.entries = [draw.sample(takers, k=min(len(takers), draw.choice([1, 1, 2]))) for _ in range(sources)]
    if sources == 1 and draw.random() < 0.05:
        level.entries[0] = [Complete]
    return level


class _Outcomes:
    """Adds what takes the outcomes of a workflow: a node that makes a token of it, or nothing, or an end."""

    def __init__(self, draw: random.Random, level: Level, following: Sequence[Part]) -> None:
        self._draw = draw
        self._level = level
        self._following = [part for part in following if part.takes is Token]

    def add(self, part: Part, outcome: Any) -> None:
        if self._draw.random() < 0.2:
            part.routes[outcome] = self._draw.choice([[], [Complete], [Terminate]])
            return
        taker = Part(f"after{len(self._level.parts)}", takes=outcome)
        taker.routes = {Token: _targets(self._draw, self._following, self._level.sinks, ends=True)}
        self._level.parts.append(taker)
        part.routes[outcome] = [taker]


def _targets(draw: random.Random, following: Sequence[Part], sinks: int, *, ends: bool) -> list[Target]:
    def one() -> Target:
        if ends and draw.random() < 0.1:
            return draw.choice([Complete, Terminate])
        if not following or (sinks and draw.random() < 0.35):
            return 0 if sinks else None
        return draw.choice(following)

    chosen = dict.fromkeys(one() for _ in range(draw.choice([1, 1, 1, 2, 3])))
    return [target for target in chosen if target is not None]


def _outcomes(level: Level) -> list[Any]:
    """How it may end, as `headrace` sees it."""
    found: set[Any] = set()
    for part in level.parts:
        if part.behaviour is not None and part.behaviour.ends:
            found |= {Complete, Failure}
        found |= {Complete if end is Complete else Failure for targets in part.routes.values() for end in targets
                  if end in (Complete, Terminate)}  # fmt: skip
    if any(Complete in entry for entry in level.entries):
        found.add(Complete)
    return [outcome for outcome in (Complete, Failure) if outcome in found]


def token_of(data: Complete | Failure) -> Token:
    """What nodes make of an outcome: it depends on all of it."""
    text = msgspec.json.encode(data)
    return Token("-", sum(text) % 100, text[-2] % 3)


def workflow_of(level: Level, name: str = "model") -> Workflow:
    """The workflow, built as users do; a fan-out has its targets in the order of `routes`."""
    return _built(level, name, outermost=True)[0]


def _built(level: Level, name: str, *, outermost: bool = False) -> tuple[Workflow, Any]:
    """The same; and its source of what those inside wait for, if they do."""
    workflow = Workflow(name, state=Seen if level.shares else None)
    handles: dict[Any, Any] = {}
    count = 2 if outermost or level.wants_more else 1
    read = [workflow.source(KafkaSource(f"tokens{index}", Token, key="key")) for index in range(count)]
    if level.sinks:
        handles[0] = workflow.sink(KafkaSink("out", Token))
    for part in level.parts:
        if part.level is not None:
            inner, more = _built(part.level, part.level.name)
            sources = {more: read[1]} if part.level.wants_more else None
            handles[part] = workflow.node(inner, name=part.name, sources=sources)
        elif part.wait:
            handles[part] = workflow.wait(read[part.wait == "more"], name=part.name)
        else:
            retry = None if part.behaviour is None else part.behaviour.retry
            handles[part] = workflow.node(_function(part, level), name=part.name, retry=retry)
    for source, entry in zip(read, level.entries, strict=False):
        source.to(*(handles.get(target, target) for target in entry))
    for part in level.parts:
        for match, targets in part.routes.items():
            branch = handles[part] if match is Token else handles[part].on(match)
            branch.to(*([handles.get(target, target) for target in targets] or [None]))
    return workflow, read[-1]


def _function(part: Part, level: Level) -> Any:
    behaviour = part.behaviour
    if behaviour is None:

        def taken(event: Any, ctx: Any) -> Any:
            return token_of(event.data)

        taken.__annotations__ = {"event": Event[part.takes], "ctx": Context, "return": Token}
        return taken

    def process(event: Any, ctx: Any) -> Any:
        assert level.shares or ctx.run.state is None
        shared = ctx.run.state if level.shares else None
        return behaviour.decide(event.data, ctx.state if behaviour.stateful else None, shared, ctx.attempt)

    async def process_async(event: Any, ctx: Any) -> Any:
        return process(event, ctx)

    chosen: Any = process_async if behaviour.seed % 5 == 0 else process
    returns: Any = Way | Token | list[Token] | None
    context = Context[Seen if behaviour.stateful else None, Seen if level.shares else None]  # type: ignore[misc]
    chosen.__annotations__ = {
        "event": Event[Token], "ctx": context, "return": returns | Complete | Terminate if behaviour.ends else returns,
    }  # fmt: skip
    return chosen


@dataclass
class Item:
    """Something on its way: where to, and in whose hands."""

    level: Level
    way: str
    """Names of the workflows that it is inside of."""
    target: Target
    data: Any
    path: tuple[int, ...]
    hands: Hands = ()
    outer: tuple[tuple[Level, str, Part], ...] = ()
    """By scope, from the outside: the level that it is in, the way there, and the node."""


MOST_STEPS = 300


class Endless(Exception):
    """An event goes round for ever: what ends an inner run makes those inside forget that they had it."""


class NaiveNested:
    """Takes one event after the other through all levels, depth first."""

    def __init__(self, level: Level, plan: Plan) -> None:
        self.level = level
        self.result = Expected()
        self._sinks = {sink.name: sink.index for sink in plan.sinks}
        self._order = {row.name.removesuffix(":wait"): place for place, row in enumerate(plan.stands)}
        self._passed = 0
        self.stands: dict[tuple[str, str], Item] = {}
        """By key, and the way to an inner run: what has brought it to the wait at which it stands."""

    def feed(self, source: int, value: bytes | None) -> None:
        """One record of a source."""
        origin = f"tokens{source}/0"
        identity = f"{origin}/{self.result.processed[origin]}"
        self.result.processed[origin] += 1
        try:
            data = msgspec.json.decode(value or b"", type=Token)
        except msgspec.DecodeError:
            self.result.dead[""].append((identity, None, "tombstone" if value is None else "decode"))
            return
        if self.result.status.get(data.key, ("running", ""))[0] != "running":
            self._forget(data.key, "")
        self.result.status[data.key] = ("running", "")
        self._key, self._identity = data.key, identity
        self._stack = self._arrived(source, data)
        steps = 0
        while self._stack:
            steps += 1
            if steps > MOST_STEPS:
                raise Endless
            if self._step(self._stack.pop()):
                return

    def _arrived(self, source: int, data: Token) -> list[Item]:
        """Where an event of a source goes: on from the first wait that its run stands at for it, else in."""
        stood = {
            f"{item.way}{item.target.name}": item
            for (key, _), item in self.stands.items()
            if key == data.key and item.target.wait == "more"
        }
        if source == 0 or not stood:
            return self._fan_out(Item(self.level, "", None, data, ()), self.level.entries[source])
        item = stood[min(stood, key=lambda name: self._order[name])]
        del self.stands[data.key, item.way]
        hands = tuple(self._pass() for _ in item.outer)
        arrived = Item(item.level, item.way, None, data, (), hands, item.outer)
        return self._fan_out(arrived, item.target.routes[Token])

    def _pass(self) -> int:
        self._passed += 1
        return self._passed

    def _step(self, item: Item) -> bool:
        """One thing; True if the run has ended."""
        if item.target in (Complete, Terminate):
            return self._end(item, item.target, item.data)
        if item.target == 0:
            index = self._sinks[f"{item.way}out"]
            self.result.outputs[self._key, index].append((self._id(item.path), msgspec.json.encode(item.data)))
            return False
        part: Part = item.target
        if part.wait:
            self.stands[self._key, item.way] = item
            return False
        if part.level is None:
            return self._visit(item, part)
        way = f"{item.way}{part.name}/"
        inside = Item(
            part.level, way, None, item.data, item.path, (*item.hands, self._pass()),
            (*item.outer, (item.level, item.way, part)),
        )  # fmt: skip
        stood = self.stands.get((self._key, way))
        if stood is not None and stood.target.wait == "in":
            del self.stands[self._key, way]
            self._stack += self._fan_out(inside, stood.target.routes[Token])
        else:
            self._stack += self._fan_out(inside, part.level.entries[0])
        return False

    def _visit(self, item: Item, part: Part) -> bool:
        behaviour, name = part.behaviour, f"{item.way}{part.name}"
        if behaviour is None:
            self._stack += self._fan_out(item, part.routes[Token], token_of(item.data), (*item.path, 0))
            return False
        shared = f"node:{item.way[:-1]}" if item.way else "state"
        names = [f"node:{name}" if behaviour.stateful else None, shared if behaviour.shares else None]
        states = [self._state(name) for name in names]
        try:
            result = behaviour.decide(item.data, *states)
        except (ValueError, Reject) as error:
            return self._failed(item, name, error)
        for field_name, state in zip(names, states, strict=True):
            if field_name is not None:
                self.result.states[self._key, field_name] = msgspec.json.encode(state)
        following: list[Item] = []
        for branch, row in enumerate(result if isinstance(result, list) else [result]):
            path = (*item.path, branch)
            if isinstance(row, Complete | Terminate):
                value = row.result if isinstance(row, Complete) else row.reason
                following.append(_at(item, type(row), value, path))
            elif isinstance(row, Way):
                following += self._fan_out(item, part.routes[row])[::-1]
            elif row is not None:
                following += self._fan_out(item, part.routes[Token], row, path)[::-1]
        self._stack += following[::-1]
        return False

    def _failed(self, item: Item, name: str, error: Exception, attempts: int = 1) -> bool:
        reason = "reject" if isinstance(error, Reject) else "error"
        for depth in reversed(range(len(item.outer))):
            if Failure in item.outer[depth][2].routes:
                text = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
                came = msgspec.json.decode(msgspec.json.encode(item.data))
                self._leave(item, depth, Failure, Failure(text, reason, name, attempts, came))
                return False
        self.result.dead[self._key].append((self._id(item.path), name, reason))
        return False

    def _end(self, item: Item, end: End, value: Any) -> bool:
        text = msgspec.json.encode(value).decode()
        if not item.outer:
            self.result.status[self._key] = ("completed" if end is Complete else "terminated", text)
            return True
        plain = msgspec.json.decode(text)
        if end is Complete:
            self._leave(item, len(item.outer) - 1, Complete, Complete(plain))
        else:
            self._leave(item, len(item.outer) - 1, Failure, Failure(plain if isinstance(plain, str) else text))
        return False

    def _leave(self, item: Item, depth: int, outcome: Any, data: Any) -> None:
        """An inner run ends: what it has in hand is dropped, its states are gone, the outcome goes on."""
        level, way, part = item.outer[depth]
        self._stack = [row for row in self._stack if row.hands[depth : depth + 1] != item.hands[depth : depth + 1]]
        self._forget(self._key, f"{way}{part.name}")
        outside = Item(level, way, None, data, (*item.path, 0), item.hands[:depth], item.outer[:depth])
        following = self._fan_out(outside, part.routes.get(outcome, []))
        for row in following:
            if row.target in (Complete, Terminate):
                row.data = data.error if isinstance(data, Failure) else data.result
        self._stack += following

    def _forget(self, key: str, way: str) -> None:
        for name in [name for name in self.result.states if name[0] == key]:
            if not way or name[1] == f"node:{way}" or name[1].startswith(f"node:{way}/"):
                del self.result.states[name]
        for stood in [stood for stood in self.stands if stood[0] == key]:
            if not way or stood[1].startswith(f"{way}/"):
                del self.stands[stood]

    def _state(self, name: str | None) -> Seen | None:
        if name is None:
            return None
        blob = self.result.states.get((self._key, name))
        return Seen() if blob is None else msgspec.json.decode(blob, type=Seen)

    def _fan_out(self, item: Item, targets: list[Target], data: Any = None, path: Any = None) -> list[Item]:
        data = item.data if data is None else data
        path = item.path if path is None else path
        if len(targets) == 1:
            return [_at(item, targets[0], data, path)]
        return [_at(item, target, data, (*path, branch)) for branch, target in enumerate(targets)][::-1]

    def _id(self, path: tuple[int, ...]) -> str:
        return f"{self._identity}.{'.'.join(map(str, path))}" if path else self._identity


def _at(item: Item, target: Target, data: Any, path: tuple[int, ...]) -> Item:
    return Item(item.level, item.way, target, data, path, item.hands, item.outer)
