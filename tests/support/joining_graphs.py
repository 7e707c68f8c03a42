"""Random workflows with a join, and what each event comes to at it, told by walking its ways one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec

from headrace import Action, Context, Event, Failure, Joined, KafkaSink, Linear, RequestSource, Retry, Workflow

NOTHING = "nothing came of it"


class Token(msgspec.Struct, frozen=True):
    key: str
    value: int


class Meeting(msgspec.Struct, frozen=True):
    """What a join gave, in a form that tests compare."""

    values: list[int | None]
    failed: dict[str, str]
    error: str = ""
    """Of a `Failure`."""


class Seen(msgspec.Struct):
    count: int = 0


class Way(Action):
    A = "a"
    B = "b"


@dataclass
class Place:
    """A node of a random graph: what it does hangs on the value alone."""

    name: str
    seed: int
    kind: str
    """`map`, `choose` (an action), `mend` (takes failures)."""
    handle: Any = None
    routes: dict[Any, list[Place]] = field(default_factory=dict)
    branch: int | None = None
    """It is this branch of the join."""

    def does(self, value: int) -> str:
        """`none`, `fail`, `flaky`, or `go`."""
        roll = random.Random(f"{self.seed}/{value}").random()
        return "none" if roll < 0.1 else "fail" if roll < 0.25 else "flaky" if roll < 0.4 else "go"

    def result(self, value: int) -> Any:
        if self.kind == "choose":
            return Way.A if (value + self.seed) % 2 else Way.B
        return (value * 31 + self.seed) % 1_000

    def process(self) -> Callable[..., Any]:
        def run(token: Token, ctx: Any) -> Any:
            does = self.does(token.value)
            if does == "fail":
                raise ValueError(f"{self.name} at {token.value}")
            if does == "flaky" and ctx.attempt < 3:
                raise OSError("not now")
            if does == "none":
                return None
            result = self.result(token.value)
            return result if isinstance(result, Way) else Token(token.key, result)

        def choose(event: Event[Token], ctx: Context) -> Way | None:
            way: Way | None = run(event.data, ctx)
            return way

        def change(event: Event[Token], ctx: Context[Seen]) -> Token | None:
            ctx.state.count += 1
            token: Token | None = run(event.data, ctx)
            return token

        async def wait(event: Event[Token], ctx: Context) -> Token | None:
            token: Token | None = run(event.data, ctx)
            return token

        def mend(event: Event[Failure], ctx: Context) -> Token | None:
            token: Token | None = run(event.data.read(Token), ctx)
            return token

        if self.kind == "map":
            return wait if self.seed % 4 == 0 else change
        return choose if self.kind == "choose" else mend


@dataclass
class Forked:
    """A random graph, from its source to its join."""

    workflow: Workflow
    source: Any
    sink: Any
    joined: Any
    first: list[Place]
    branches: list[Place]
    need: int | None

    def expected(self, token: Token) -> list[int | str]:
        """By branch: what it gives, or why it fails."""
        given: dict[int, int | str] = {}
        for place in self.first:
            self._walk(place, token, given)
        return [given.get(index, NOTHING) for index in range(len(self.branches))]

    def _walk(self, place: Place, token: Token, given: dict[int, int | str], came: str = NOTHING) -> None:
        """`came`: why a failure came here, if one did: that is told where it is dropped."""
        does, covered = place.does(token.value), covers(place)
        following: list[Place] = []
        why, after = came, token
        if does == "fail":
            why = f"ValueError: {place.name} at {token.value}"
            following = place.routes.get(Failure, [])
        elif does != "none":
            result = place.result(token.value)
            if isinstance(result, Way):
                following = place.routes[result]
            else:
                after = Token(token.key, result)
                if place.branch is not None:
                    given[place.branch] = after.value
                    return
                following = place.routes[None]
                why = NOTHING
        for lost in covered - set().union(*map(covers, following)):
            given[lost] = why
        for following_place in following:
            self._walk(following_place, after, given, why if does == "fail" else NOTHING)


def covers(place: Place) -> set[int]:
    """Branches that it may lead to."""
    if place.branch is not None:
        return {place.branch}
    return set().union(*(covers(target) for targets in place.routes.values() for target in targets))


def tell(event: Event[Joined[Any] | Failure], ctx: Context) -> Meeting:
    """What has met, for the test."""
    if isinstance(event.data, Failure):
        return Meeting([], event.data.data["failed"], event.data.error)
    results = [None if token is None else token.value for token in event.data.results]
    return Meeting(results, event.data.failed)


def random_fork(draw: random.Random) -> Forked:
    """A source, ways that part and may meet, and a join of 2 to 4 branches."""
    state = Seen if draw.random() < 0.2 else None
    workflow = Workflow("meet", state=state, fuse=draw.choice([None, None, "all"]))
    source = workflow.source(RequestSource(Token, key="key"))
    count = draw.randint(2, 4)
    retry = Retry(4, on=(OSError,), backoff=Linear(timedelta(seconds=1)), jitter=0)

    def place(kind: str) -> Place:
        made = Place(f"n{len(places)}", draw.randint(1, 10**6), kind)
        made.handle = workflow.node(made.process(), name=made.name, retry=retry)
        places.append(made)
        return made

    def grow(ports: Sequence[int], depth: int) -> list[Place]:
        """Places that cover all of these branches, each once."""
        if depth == 0:
            return [branches[port] for port in ports]
        rest, found = draw.sample(ports, k=len(ports)), list[Place]()
        while rest:
            size = draw.randint(1, len(rest))
            group, rest = rest[:size], rest[size:]
            if draw.random() < 0.3:
                found += [branches[port] for port in group]
                continue
            made = place(draw.choice(["map", "map", "choose"]))
            if made.kind == "map":
                made.routes[None] = grow(group, depth - 1)
            else:
                made.routes[Way.A] = grow(group, depth - 1)
                made.routes[Way.B] = grow(draw.sample(group, k=draw.randint(0, len(group))), depth - 1)
            if draw.random() < 0.3:
                mending = place("mend")
                mending.routes[None] = grow(draw.sample(group, k=draw.randint(1, len(group))), depth - 1)
                made.routes[Failure] = [mending]
            found.append(made)
        return found

    places: list[Place] = []
    branches = [place("map") for _ in range(count)]
    for index, branch in enumerate(branches):
        branch.branch = index
    first = grow(range(count), draw.randint(0, 2))
    source.to(*(target.handle for target in first))
    need = draw.choice([None, None, *range(1, count + 1)])
    joined: Any = workflow.join(*(branch.handle for branch in branches), when="all" if need is None else need)
    for made in places:
        for match, targets in made.routes.items():
            handles = [target.handle for target in targets] or [None]
            start = made.handle if match is None else made.handle.on(match)
            start.to(*handles)
    sink = workflow.sink(KafkaSink("meetings", Meeting))

    telling = workflow.node(tell)
    joined.to(telling)
    joined.on(Failure).to(telling)
    telling.to(sink)
    if draw.random() < 0.3:
        workflow.fuse(joined, *draw.sample([made.handle for made in places], k=1), telling)
    return Forked(workflow, source, sink, joined, first, branches, need)


def split(event: Event[Token], ctx: Context) -> list[Token]:
    """Several events that have one root."""
    return parts_of(event.data)


def parts_of(token: Token) -> list[Token]:
    """What `split` makes of it."""
    return [Token(token.key, token.value + part) for part in range(1 + token.value % 3)]


def put_inside(forked: Forked, depth: int, name: str = "in") -> Forked:
    """The same as a node of another workflow, and so on; the outermost one splits its events."""
    workflow = Workflow("outer" + name)
    source = workflow.source(RequestSource(Token, key="key"))
    node = workflow.node(forked.workflow, name=name)
    if depth == 1:
        splitting = workflow.node(split)
        source.to(splitting)
        splitting.to(node)
    else:
        source.to(node)
    sink, joined = (f"{name}/{getattr(part, 'name', part)}" for part in (forked.sink, forked.joined))
    outer = replace(forked, workflow=workflow, source=source, sink=sink, joined=joined)
    return outer if depth == 1 else put_inside(outer, depth - 1, name + "n")


def right(forked: Forked, token: Token, meeting: Meeting) -> bool:
    """Whether a join may give this for the event."""
    rows = forked.expected(token)
    names = [branch.name for branch in forked.branches]
    failed = {name: row for name, row in zip(names, rows, strict=True) if isinstance(row, str)}
    values = [None if isinstance(row, str) else row for row in rows]
    if forked.need is None:
        return meeting == Meeting(values, failed)
    if len(rows) - len(failed) < forked.need:
        told = set(meeting.failed.items())
        return bool(meeting.error) and told <= set(failed.items()) and len(told) > len(rows) - forked.need
    there = [value for value in meeting.values if value is not None]
    fits = all(one in (None, other) for one, other in zip(meeting.values, values, strict=True))
    return (
        not meeting.error and fits and len(there) == forked.need and set(meeting.failed.items()) <= set(failed.items())
    )
