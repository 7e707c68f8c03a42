"""Which runs are meant by what was typed."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from headrace.actors.run_views import RunFilter, RunRow
from headrace.cli.choosing import filter_of
from headrace.cli.ending import terminate
from headrace.cli.exits import UsageError
from headrace.cli.screen import Screen
from headrace.cli.times import length
from headrace.settings import Loaded


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_length_of_time_is_read_as_it_is_typed(text: str, wanted: timedelta) -> None:
    assert length(text) == wanted


@pytest.mark.parametrize("text", ["", "7", "d", "-1h", "1.5h", "7w", "99999999999999999999d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        length(text)


def row(**fields: int | None) -> RunRow:
    return RunRow(workflow="orders", key="ada", partition=0, status="running", number=1, **fields)  # type: ignore[arg-type]


def test_a_run_is_older_by_its_beginning_and_one_that_has_none_is_left_alone() -> None:
    now = int(time.time() * 1000)
    wanted = filter_of(older_than="1h")

    assert wanted.fits(row(began=now - 3_700_000))
    assert not wanted.fits(row(began=now - 3_500_000))
    assert not wanted.fits(row(began=None))


def test_a_run_that_goes_on_has_not_ended_within_any_time() -> None:
    now = int(time.time() * 1000)
    wanted = filter_of(ended_within="1h")

    assert wanted.fits(row(ended=now - 3_500_000))
    assert not wanted.fits(row(ended=now - 3_700_000))
    assert not wanted.fits(row())
    assert filter_of() == RunFilter()


@pytest.mark.parametrize("targets", [["orders/ada", "chat/ada"], ["orders/ada", "orders"]])
def test_runs_of_several_workflows_or_of_one_and_all_of_it_are_not_ended_together(targets: list[str]) -> None:
    with pytest.raises(UsageError):
        terminate(targets, RunFilter(), Loaded, Screen(), reason=None, everything=False, yes=True)  # type: ignore[arg-type]
