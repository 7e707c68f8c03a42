"""Requests go into an inbox together where others are under way, in order, and each caller hears of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.actors.store_requests import BYTES_AT_ONCE, REMEMBERED, REQUESTS_AT_ONCE, Admission, Request
from headrace.gateway import appending
from headrace.gateway.appending import Appender, Place
from headrace.workflows.durability import FAST
from headrace.workflows.store import StoreFull, StoreUnavailable

HERE = Place("orders", 0, FAST, remembered=False)


class Store:
    """Takes requests in once it may."""

    address = "store:1"

    def __init__(self, *, fails: Sequence[Exception] = ()) -> None:
        self.steps: list[tuple[int, list[str]]] = []
        self.remembered: list[float] = []
        self.may = asyncio.Event()
        self._fails = list(fails)

    async def append_requests(
        self, workflow: str, partition: int, requests: Sequence[Request], *, durability: Any, remembered: float
    ) -> list[Admission]:
        del workflow, durability
        self.steps.append((partition, [each.id for each in requests]))
        self.remembered.append(remembered)
        await self.may.wait()
        if self._fails:
            raise self._fails.pop(0)
        return [Admission.OTHER if each.id == "other" else Admission.APPENDED for each in requests]


def request(id_: str, body: bytes = b"1") -> Request:
    return Request(id=id_, key="k", source="requests", body=body)


def appender(store: Store) -> Appender:
    return Appender(store, remembered=7.0)  # type: ignore[arg-type]


async def started(sender: Appender, *requests: Request, place: Place = HERE) -> list[asyncio.Task[Admission]]:
    """They come one after the other."""
    tasks = []
    for each in requests:
        tasks.append(asyncio.create_task(sender.append(place, each)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_go_together() -> None:
    store = Store()
    tasks = await started(appender(store), *(request(id_) for id_ in ("a", "other", "c")))

    assert store.steps == [(0, ["a"])]
    store.may.set()
    assert await asyncio.gather(*tasks) == [Admission.APPENDED, Admission.OTHER, Admission.APPENDED]
    assert store.steps == [(0, ["a"]), (0, ["other", "c"])]


async def test_other_places_are_not_waited_for() -> None:
    store = Store()
    sender = appender(store)
    await started(sender, request("a"))
    await started(sender, request("b"), place=Place("orders", 1, FAST, remembered=False))
    await started(sender, request("c"), place=Place("orders", 0, FAST, remembered=True))

    assert store.steps == [(0, ["a"]), (1, ["b"]), (0, ["c"])]
    assert store.remembered == [REMEMBERED, REMEMBERED, 7.0]
    await sender.close()


async def test_a_step_is_no_larger_than_the_store_takes_in_at_once() -> None:
    store = Store()
    large = b"1" * (BYTES_AT_ONCE // 2)
    tasks = await started(
        appender(store), request("a"), request("b", large), request("c", large), request("d", large),
        *(request(str(number)) for number in range(REQUESTS_AT_ONCE + 1)),
    )  # fmt: skip
    store.may.set()
    await asyncio.gather(*tasks)

    assert [ids[:2] for _, ids in store.steps[:2]] == [["a"], ["b", "c"]]
    assert [len(ids) for _, ids in store.steps[2:]] == [REQUESTS_AT_ONCE, 2]


async def test_a_lost_answer_is_asked_for_again_and_the_last_one_is_told_to_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appending, "_FIRST_PAUSE", 0.0)
    store = Store(fails=[StoreUnavailable("store:1", "gone")] * 4)
    tasks = await started(appender(store), request("a"), request("b"))
    store.may.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[0], StoreUnavailable)
    assert answers[1] is Admission.APPENDED
    assert [ids for _, ids in store.steps] == [["a"]] * 3 + [["b"]] * 2


async def test_each_caller_has_an_error_of_its_own() -> None:
    store = Store(fails=[StoreFull("the store", "memory")] * 2)
    tasks = await started(appender(store), request("a"), request("b"), request("c"))
    store.may.set()
    _, *answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(answer) for answer in answers] == [str(StoreFull("the store", "memory"))] * 2
    assert answers[0] is not answers[1]


async def test_a_caller_that_goes_away_takes_nothing_from_the_others() -> None:
    store = Store()
    first, second, third = await started(appender(store), request("a"), request("b"), request("c"))
    first.cancel()
    second.cancel()
    store.may.set()

    assert await third is Admission.APPENDED
    assert store.steps == [(0, ["a"]), (0, ["b", "c"])]


async def test_who_waits_at_the_end_is_told_that_it_is_not_known() -> None:
    store = Store()
    sender = appender(store)
    tasks = await started(sender, request("a"), request("b"))
    await sender.close()

    assert all(isinstance(each, StoreUnavailable) for each in await asyncio.gather(*tasks, return_exceptions=True))
