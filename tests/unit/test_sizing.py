"""How many events an epoch gets: by what they cost, and by what they leave to commit."""

from __future__ import annotations

import pytest

from headrace.actors.sizing import HURRIED, HURRIED_COMMIT, LEAST, MOST, Sizing
from headrace.workflows.calls import CallResult
from headrace.workflows.commit import Commit
from headrace.workflows.saving import Save


def call(events: int, seconds: float) -> CallResult:
    return CallResult(partition=0, unit=0, replica=0, number=1, owner="o", codes=bytes(events), seconds=seconds)


def save(events: int, runs: int) -> Save:
    return Save(Commit(1, runs={f"k{number}": ["status", "running"] for number in range(runs)}), 1, events)


def test_runs_that_have_all_begun_and_have_no_state_no_longer_make_epochs_small() -> None:
    sizing = Sizing()
    for _ in range(20):
        sizing.learn_commit(save(1_000, runs=1_000))
    at_first = sizing.limit

    for _ in range(20):
        sizing.learn_commit(save(1_000, runs=0))

    assert (at_first, sizing.limit) == (1_011, MOST)


def test_while_requests_come_an_epoch_may_last_a_quarter_and_write_half() -> None:
    for events, seconds, runs, share in ((1_000, 0.012, 0, HURRIED), (1_000, 0.0001, 1_000, HURRIED_COMMIT)):
        sizing = Sizing()
        for _ in range(40):
            sizing.learn(call(events, seconds))
            sizing.learn_commit(save(events, runs))
        before = sizing.limit

        sizing.hurry()

        assert sizing.limit == pytest.approx(before * share, rel=0.01)


def test_calls_of_a_few_events_that_are_tried_again_do_not_make_epochs_small() -> None:
    sizing = Sizing()
    for _ in range(100):
        sizing.learn(call(5_000, seconds=0.010))
        for _ in range(10):  # each event costs five times as much, as a call costs something whatever it brings
            sizing.learn(call(50, seconds=0.0005))

    assert sizing.limit > MOST // 2


def test_one_event_that_takes_long_makes_them_small() -> None:
    sizing = Sizing()
    for _ in range(20):
        sizing.learn(call(5_000, seconds=0.010))

    for _ in range(20):
        sizing.learn(call(1, seconds=0.020))

    assert sizing.limit < 100


def test_a_slow_first_call_is_forgotten_soon_by_a_unit_that_gets_few_of_the_events() -> None:
    sizing = Sizing()
    sizing.learn(call(20, seconds=0.040))
    at_first = sizing.limit

    for _ in range(40):
        sizing.learn(call(20, seconds=0.0001))

    assert (at_first, sizing.limit > 20 * at_first) == (LEAST, True)
