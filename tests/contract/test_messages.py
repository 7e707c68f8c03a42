"""Messages to waits (M), on the test kit and on the cluster."""

from __future__ import annotations

import pytest

from flows import messages
from flows.messages import Count, Text
from rigs import Rig

BURST = 10_000


def test_M01_waits_get_the_messages_of_their_names_in_order(rig: Rig) -> None:
    flow = rig.run(messages.two)
    rig.send(flow.orders, "go", key="ada")
    rig.until_waiting("ada")

    rig.send(flow.a, Text("m1"), key="ada")
    rig.send(flow.t, Text("m2"), key="ada")
    rig.send(flow.a, Text("m3"), key="ada")

    assert rig.sent(flow.said) == ["ada: m2", "ada: m1", "ada: m3"]
    assert rig.run_of("ada").status == "completed"


def test_M07_the_same_message_id_is_delivered_once(rig: Rig) -> None:
    flow = rig.run(messages.two)
    rig.send(flow.orders, "go", key="ada")
    rig.until_waiting("ada")

    rig.message(flow.t, b'{"text": "m1"}', key="ada", id="t1")
    for _ in range(3):
        rig.message(flow.a, b'{"text": "m2"}', key="ada", id="a1")
    rig.message(flow.a, b'{"text": "m3"}', key="ada", id="a2")

    assert rig.sent(flow.said) == ["ada: m1", "ada: m2", "ada: m3"]


def test_M14_a_message_that_can_not_be_decoded_is_a_dead_letter_and_the_next_is_delivered(rig: Rig) -> None:
    flow = rig.run(messages.two)
    rig.send(flow.orders, "go", key="ada")
    rig.until_waiting("ada")

    for number, body in enumerate((b'{"text": 5}', b'{"text"', b'{"text": "m1"}')):
        rig.message(flow.t, body, key="ada", id=f"t{number}")

    assert rig.sent(flow.said) == ["ada: m1"]
    assert [(letter.reason, letter.key, letter.source) for letter in rig.dead_letters()] == [("decode", "ada", "t")] * 2


@pytest.mark.actors
def test_M04_a_wait_of_a_second_is_over_without_a_message(rig: Rig) -> None:
    flow = rig.run(messages.short)
    rig.send(flow.orders, "go", key="ada")

    assert rig.sent(flow.said) == ["ada: nothing after 1 s"]
    assert rig.run_of("ada").status == "completed"


def test_M12_a_burst_of_ten_thousand_messages_of_one_sender_stays_in_order(rig: Rig) -> None:
    flow = rig.run(messages.row)
    rig.send(flow.orders, "go", key="ada")
    rig.until_waiting("ada")

    rig.send(flow.numbers, *map(Count, range(BURST)), key="ada")

    assert rig.run_of("ada").state(flow.node) == messages.Had(BURST, 0)
    assert rig.dead_letters() == []


@pytest.mark.actors
def test_M16_a_run_that_waits_ends_at_once_when_it_is_terminated(rig: Rig) -> None:
    flow = rig.run(messages.two)
    for key in ("ada", "bob"):
        rig.send(flow.orders, "go", key=key)
    rig.until_waiting("ada", "bob")

    rig.run_of("ada").terminate("enough")

    run = rig.run_of("ada")
    assert (run.status, run.result) == ("terminated", "enough")
    assert rig.run_of("bob").status == "running"
    rig.send(flow.t, Text("late"), key="ada")
    assert [letter.reason for letter in rig.dead_letters()] == ["no-run"]
    assert rig.sent(flow.said) == []
