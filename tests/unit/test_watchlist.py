"""Which lost workflows are brought back, and when: told the time, without processes."""

from __future__ import annotations

from headrace.actors.revival import Outcome, Report, Revival
from headrace.actors.watchlist import GRACE, SETTLE, Watchlist


def lost(now: float = 0.0) -> Watchlist:
    watchlist = Watchlist()
    assert watchlist.seen(["orders"], [], now) == ["orders"]
    return watchlist


def report(outcome: Outcome, reason: str = "") -> Report:
    return Report((Revival("orders", outcome, reason),))


def test_one_that_runs_is_left_alone() -> None:
    watchlist = Watchlist()

    watchlist.seen(["orders"], ["orders"], 0)

    assert watchlist.due(1000) == []
    assert watchlist.watched == ["orders"]


def test_ray_gets_the_time_to_restart_a_supervisor_by_itself() -> None:
    watchlist = lost()

    assert watchlist.due(GRACE - 0.1) == []
    assert watchlist.due(GRACE) == ["orders"]


def test_one_that_comes_back_by_itself_is_not_brought_back() -> None:
    watchlist = lost()

    watchlist.seen(["orders"], ["orders"], GRACE - 1)

    assert watchlist.due(GRACE) == []
    assert watchlist.lost == {}


def test_tries_that_fail_are_repeated_ever_more_slowly_and_named() -> None:
    watchlist = lost()
    now, waits = GRACE, []
    for _ in range(7):
        watchlist.tried(["orders"], Report(error="nobody answers"), now)
        wait = next(seconds for seconds in range(1, 100) if watchlist.due(now + seconds))
        waits.append(wait)
        now += wait

    assert waits == [2, 4, 8, 16, 30, 30, 30]
    assert watchlist.lost == {"orders": "nobody answers"}
    assert (watchlist.counters.attempts, watchlist.counters.failures) == (7, 7)


def test_one_that_was_brought_back_has_time_to_take_its_lease() -> None:
    watchlist = lost()

    watchlist.tried(["orders"], report("revived"), GRACE)

    assert watchlist.due(GRACE + SETTLE - 1) == []
    assert watchlist.due(GRACE + SETTLE) == ["orders"]
    assert watchlist.counters.revived == 1


def test_one_that_somebody_deploys_is_tried_again_soon() -> None:
    watchlist = lost()

    watchlist.tried(["orders"], report("busy", "orders is being changed"), GRACE)

    assert watchlist.due(GRACE + 2) == ["orders"]


def test_a_store_that_was_away_says_nothing_about_leases() -> None:
    watchlist = lost()

    watchlist.store_away()

    assert watchlist.due(GRACE) == []
    watchlist.seen(["orders"], [], GRACE + 1)
    assert watchlist.due(2 * GRACE) == []
    assert watchlist.due(2 * GRACE + 1) == ["orders"]


def test_one_that_was_stopped_or_removed_is_forgotten() -> None:
    watchlist = lost()

    watchlist.seen([], [], 1)

    assert watchlist.due(1000) == []
    assert watchlist.watched == []
