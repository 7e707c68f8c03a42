"""Levels as people write them, and that they survive the ways they travel."""

from __future__ import annotations

import pickle

import pytest

from headrace.workflows.durability import Durability, DurabilityUnchosen, UnknownDurability
from headrace.workflows.store import NotDurable, StoreUnavailable


@pytest.mark.parametrize("text", ["fast", "fsync", "replicas", "replicas:2"])
def test_a_level_is_written_as_it_is_read(text: str) -> None:
    assert str(Durability.parse(text)) == text


@pytest.mark.parametrize("text", ["", "FSYNC", "fsync:1", "replicas:0", "replicas:", "faster"])
def test_what_is_no_level_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UnknownDurability, match="fast, fsync, replicas"):
        Durability.parse(text)


@pytest.mark.parametrize(
    "error",
    [
        UnknownDurability("fats"),
        NotDurable("localhost:6379", "0 of 1 replicas", "replicas"),
        DurabilityUnchosen("localhost:6379", "it is old", "Renew it."),
    ],
)
def test_errors_cross_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_whoever_asks_again_while_the_store_is_away_asks_again_while_it_is_not_durable() -> None:
    assert issubclass(NotDurable, StoreUnavailable)
    assert NotDurable.word != StoreUnavailable.word
