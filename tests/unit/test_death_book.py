"""Deaths that other machines must know of: noted in the store once processes die one after the other, not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from deaths import VERSION, Died, Words, call_of, run, unit_of
from headrace import Event
from headrace.actors import death_book
from headrace.actors.death_book import CAREFUL, DeathBook
from headrace.actors.falls import WELL, Falls
from headrace.actors.host_progress import HostProgress
from headrace.actors.store import Store
from headrace.workflows.calls import Call, CallResult
from headrace.workflows.commit import Answer, Head
from headrace.workflows.runner import UnitRunner
from headrace.workflows.store import StoreUnavailable

KEY = "hr:{words/0}:deaths"


def acquired(redis_url: str) -> str:
    """Token of a new owner."""

    async def acquire() -> str:
        async with Store(redis_url, "words", connections=1) as store:
            return (await store.acquire(0, term=1, placement=1, worker="w")).owner

    return asyncio.run(acquire())


@pytest.fixture
def owner(redis_url: str) -> str:
    return acquired(redis_url)


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class Machines:
    """One role, on another machine after each death."""

    def __init__(self, folder: Path, url: str, words: Words, kind: str) -> None:
        self._folder = folder
        self._url = url
        self._plan = unit_of(words, kind).compile()
        self.deaths = 0

    def next(self, version: str = VERSION) -> UnitRunner:
        folder = self._folder / f"machine-{self.deaths}"
        progress = HostProgress(folder, "node/0/0", 1, version, book=DeathBook(self._url, "words", version))
        return UnitRunner(self._plan, 0, progress=progress)

    def until_answered(self, call: Call) -> CallResult:
        for self.deaths in range(10):
            call.falls = self.deaths
            try:
                return run(self.next(), call)
            except Died:
                continue
        raise AssertionError("no process survives it")


@pytest.mark.parametrize("kind", ["waves", "async", "batch"])
def test_G10_an_event_that_ends_a_process_on_each_machine_is_given_up_and_no_other_is(
    tmp_path: Path, redis_url: str, owner: str, server: Any, kind: str
) -> None:
    machines = Machines(tmp_path, redis_url, Words(), kind)

    result = machines.until_answered(call_of(owner=owner))

    (failed,) = result.failed
    assert (failed.index, failed.reason) == (3, "poison")
    assert machines.deaths == CAREFUL + 2
    assert result.states == [[b'["one","two"]'], [b'["one"]'], [b'["one","two"]']]
    assert [int(count) for count in server.hvals(KEY)] == [2], "the others have passed"


def test_nothing_is_written_while_all_is_well(tmp_path: Path, redis_url: str, owner: str, server: Any) -> None:
    words = Words()
    words.deadly = None
    call = call_of(owner=owner)
    call.falls = CAREFUL - 1

    run(Machines(tmp_path, redis_url, words, "waves").next(), call)

    assert not server.exists(KEY)


def test_an_event_that_was_there_by_chance_passes_and_is_forgotten(
    tmp_path: Path, redis_url: str, owner: str, server: Any
) -> None:
    words = Words()
    machines = Machines(tmp_path, redis_url, words, "waves")
    call = call_of(owner=owner)
    call.falls = CAREFUL
    with pytest.raises(Died):
        run(machines.next(), call)
    assert list(server.hvals(KEY)) == ["1"]
    words.deadly = None
    machines.deaths = 1

    result = run(machines.next(), call)

    assert result.failed == []
    assert not server.exists(KEY)


def test_another_version_of_the_code_begins_anew(tmp_path: Path, redis_url: str, owner: str) -> None:
    words = Words()
    machines = Machines(tmp_path, redis_url, words, "waves")
    machines.until_answered(call_of(owner=owner))
    words.deadly = None
    machines.deaths += 1

    result = run(machines.next("v2"), call_of(2, owner=owner))

    assert result.failed == []


def test_who_lost_the_partition_notes_nothing(tmp_path: Path, redis_url: str, owner: str, server: Any) -> None:
    words = Words()
    words.deadly = None
    call = call_of(owner="another")
    call.falls = CAREFUL

    result = run(Machines(tmp_path, redis_url, words, "waves").next(), call)

    assert result.failed == []
    assert not server.exists(KEY)


def test_events_go_on_without_the_store(tmp_path: Path) -> None:
    words = Words()
    words.deadly = None
    call = call_of()
    call.falls = CAREFUL

    result = run(Machines(tmp_path, "redis://127.0.0.1:1/0", words, "waves").next(), call)

    assert (result.failed, len(words.had)) == ([], 6)


class Interrupted(Words):
    """While a node has the deadly event, something happens to the store; nobody dies."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens

    def take(self, events: Sequence[Event[str]]) -> list[str]:
        if any((event.key, event.data) == self.deadly for event in events):
            self._happens()
        return [event.data for event in events]


def test_an_event_that_its_node_has_while_the_store_is_away_has_ended_nobody(
    tmp_path: Path, redis_url: str, owner: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_away() -> None:
        monkeypatch.setattr(death_book, "_NOTE", Away())

    runner = Machines(tmp_path, redis_url, Interrupted(go_away), "waves").next()
    for number in (1, 2, 3, 4):
        call = call_of(number, owner=owner)
        call.falls = CAREFUL
        result = run(runner, call)
        assert result.failed == []
        assert [int(count) for count in server.hvals(KEY)] == [1]
        monkeypatch.undo()

    call = call_of(5, owner=owner, words=["one"])
    call.falls = CAREFUL
    run(runner, call)
    assert not server.exists(KEY)


def test_an_event_whose_partition_gets_another_owner_while_a_node_has_it_has_ended_nobody(
    tmp_path: Path, redis_url: str, owner: str, server: Any
) -> None:
    owners = [owner]

    def roll_back() -> None:
        owners.append(acquired(redis_url))

    runner = Machines(tmp_path, redis_url, Interrupted(roll_back), "waves").next()
    for number in (1, 2, 3, 4):
        call = call_of(number, owner=owners[-1])
        call.falls = CAREFUL
        assert run(runner, call).failed == []
        assert not server.exists(KEY)


class Away:
    """A script that no store hears."""

    def write_at_once(self, *asked: Any) -> Any:
        raise redis.ConnectionError(str(asked))


class Calm:
    """A store that is told when all is well."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.away = False

    async def calm(self, partition: int, owner: str, *, released: bool) -> Answer:
        if self.away:
            raise StoreUnavailable("here", "away")
        self.told.append(released)
        return Answer.APPLIED


def head_of(falls: int) -> Head:
    return Head("o", 0, {}, 0, {}, extra={"falls": str(falls)})


async def test_after_a_while_calls_are_made_as_ever() -> None:
    store, now = Calm(), [0.0]
    falls = Falls(0, store, lambda: now[0])
    falls.begin(head_of(3))
    call = call_of()
    falls.tell(call)
    assert call.falls == 3

    await falls.look("o")
    assert store.told == []
    now[0] += WELL + 1
    await falls.look("o")
    await falls.look("o")

    assert store.told == [False]
    later = call_of(2)
    falls.tell(later)
    assert later.falls == 0


async def test_a_call_that_was_lost_with_its_process_says_so_whoever_owns_the_partition() -> None:
    falls = Falls(0, Calm())
    falls.begin(head_of(0))
    call = call_of()
    call.falls = 2

    falls.tell(call)

    assert call.falls == 2


async def test_giving_up_in_order_does_not_wait_for_the_store() -> None:
    store = Calm()
    store.away = True

    await Falls(0, store).released("o")
