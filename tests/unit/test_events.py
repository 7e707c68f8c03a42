"""Events: identity, time, headers; and that nobody changes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace import Event


def test_the_id_of_a_sources_event_is_its_place_in_the_log() -> None:
    assert Event("data", "s1", "readings/3", 17).id == "readings/3/17"


def test_what_a_node_emits_has_the_parents_id_and_its_path() -> None:
    assert Event("data", "s1", "readings/3", 17, (0, 2)).id == "readings/3/17.0.2"


def test_an_id_that_the_sender_chose_is_used_as_it_is() -> None:
    assert Event("data", "s1", "", "order-7").id == "order-7"
    assert Event("data", "s1", "", "order-7", (1,)).id == "order-7.1"


def test_time_is_aware_and_headers_are_text() -> None:
    event = Event("data", "s1", "readings/3", 17, (), 1_500, (("trace", b"abc"), ("bytes", b"\xff")))

    assert event.time == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert event.headers == {"trace": "abc", "bytes": "\ufffd"}


def test_an_event_cannot_be_changed() -> None:
    event = Event("data", "s1", "readings/3", 17)

    with pytest.raises(AttributeError):
        event.key = "s2"  # type: ignore[misc]


def test_events_can_be_matched_by_their_data() -> None:
    match Event(3, "s1", "readings/3", 17):
        case Event(data=int(number), key="s1"):
            assert number == 3
        case _:
            pytest.fail("no match")
