"""Positions as they are kept, and problems as they are told."""

from __future__ import annotations

import pytest

from headrace.sources.kafka_log import offset_of, position_of, topic_id_of
from headrace.sources.problems import Problems


@pytest.mark.parametrize("topic_id", [None, "ddef02e1-6d88-4a5a-a1da-d8f3c5874c29"])
def test_a_position_keeps_offset_and_topic_id(topic_id: str | None) -> None:
    position = position_of(1734, topic_id)

    assert offset_of(position) == 1734
    assert topic_id_of(position) == topic_id


def test_a_position_without_an_id_is_a_plain_number() -> None:
    assert position_of(1734, None) == "1734"


def test_problems_of_one_word_are_told_together_and_taken_back_one_by_one() -> None:
    told: list[tuple[str, str]] = []
    problems = Problems(lambda word, sentence: told.append((word, sentence)))

    assert problems.tell("topic_missing", "a", "No a.")
    assert problems.tell("topic_missing", "b", "No b.")
    assert not problems.tell("topic_missing", "b", "No b."), "said already"
    problems.forget("a")
    problems.forget("a")
    problems.solved("topic_missing", "b")

    assert told == [
        ("topic_missing", "No a."),
        ("topic_missing", "No a. No b."),
        ("topic_missing", "No b."),
        ("topic_missing", ""),
    ]
    assert problems.standing("topic_missing") == {}
