"""What users may rely on, of the test kit and of a cluster alike: every case runs on both.

The numbers are those of the conformance cases. On the cluster the parts are real: Ray, Valkey, Kafka, and
processes of their own for senders.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows import channels, composed, reminded, sensors, sessions, talking, temperature, times, wrong
from headrace import WorkflowError
from rigs import Ended, Rig


def test_A01_a_node_terminates_and_what_was_not_processed_stays_readable(rig: Rig) -> None:
    flow = rig.prepare(channels.stop_at_three)
    rig.send(flow.numbers, 1, 2, 3, 4)

    rig.start()

    run = rig.run_of()
    assert (run.status, run.result) == ("terminated", "three")
    assert run.state(flow.take) == [1, 2, 3]
    assert rig.remainder(flow.numbers) == [4]


def test_A02_a_route_for_a_run_that_has_ended_is_refused(rig: Rig) -> None:
    assert_refused(rig, wrong.route_after_the_end, "classify", "a route for a run that has ended")


def test_A09_a_node_without_any_source_upstream_is_refused(rig: Rig) -> None:
    assert_refused(rig, wrong.node_without_source, "lonely", "no source reaches it")


def test_A13_a_route_to_an_unknown_node_is_refused(rig: Rig) -> None:
    assert_refused(rig, wrong.route_to_unknown, "classify", "action Heat.HIGH is routed to 'stranger'")


def test_A14_the_same_action_routed_twice_is_refused(rig: Rig) -> None:
    assert_refused(rig, wrong.routed_twice, "classify", "action Heat.HIGH is routed twice")


def test_A14_a_declared_fan_out_is_no_mistake(rig: Rig) -> None:
    rig.prepare(wrong.fan_out)


def test_A04_all_are_classified_in_order_up_to_the_critical_one(rig: Rig) -> None:
    flow = rig.run(temperature.temperature)

    rig.send(flow.readings, *readings(20, 21, 45))

    run = rig.run_of()
    assert (run.status, run.result) == ("terminated", "45 is critical")
    assert run.state(flow.classify).celsius == [20, 21, 45]


@pytest.mark.actors
def test_A06_one_alert_for_high_and_one_for_critical(rig: Rig) -> None:
    flow = rig.run(temperature.temperature)

    rig.send(flow.readings, *readings(20, 31, 45))

    assert rig.sent(flow.alerts) == [temperature.Alert("high", 31), temperature.Alert("critical", 45)]


def test_A08_bounds_belong_to_high_low_and_critical(rig: Rig) -> None:
    flow = rig.run(temperature.temperatures)
    expected = {30.0: "high", 10.0: "low", 40.0: "critical", 29.999: "normal", 10.001: "normal"}

    rig.send(flow.readings, *(temperature.Reading(f"s{celsius}", celsius) for celsius in expected))

    for celsius, level in expected.items():
        run = rig.run_of(f"s{celsius}")
        assert run.state(flow.classify).levels == [level]
        assert run.status == ("terminated" if level == "critical" else "running")


def test_A11_what_a_closed_source_holds_is_processed_in_order(rig: Rig) -> None:
    flow = rig.prepare(channels.stop_at_three)
    rig.send(flow.numbers, 7, 8, 9)
    rig.close(flow.numbers)

    rig.start()

    run = rig.run_of()
    assert run.status == "source closed"
    assert run.state(flow.take) == [7, 8, 9]
    assert rig.dead_letters() == []


@pytest.mark.actors
def test_A16_a_failing_event_leaves_nothing_but_a_dead_letter(rig: Rig) -> None:
    flow = rig.run(sensors.sensors)

    for celsius in (10, -300, 20, 2000):
        rig.send(flow.readings, sensors.Reading("s1", celsius))

    assert rig.run_of("s1").state(flow.mean) == sensors.Average(2, 15)
    assert rig.sent(flow.means) == [sensors.Reading("s1", 10), sensors.Reading("s1", 15)]
    failed, rejected = rig.dead_letters()
    assert (failed.key, failed.source, failed.node, failed.reason) == ("s1", "readings", "mean", "error")
    assert failed.error == "ValueError: -300.0 is below absolute zero"
    assert failed.traceback is not None
    assert "sensors.py" in failed.traceback
    assert (rejected.reason, rejected.error, rejected.traceback) == ("reject", "no such heat", None)


@pytest.mark.actors
def test_dead_letters_go_back_to_where_they_stopped_and_go_on_in_order(rig: Rig) -> None:
    flow = rig.run(sensors.gated)
    keys = ("ada", "bob")
    for key in keys:
        for word in ("one", "two", "three", "open", "four"):
            rig.send(flow.words, word, key=key)
    stopped = rig.dead_letters()

    assert rig.replay() == 6

    assert rig.dead_letters() == []
    for key in keys:
        assert rig.run_of(key).state(flow.node) == 5, "what came before is not done again"
    assert sorted(rig.sent(flow.passed)) == sorted(["FOUR 5", "ONE 1", "TWO 2", "THREE 3"] * 2)
    assert {(letter.node, letter.type) for letter in stopped} == {("gate", "str")}
    assert rig.replay() == 0


@pytest.mark.actors
def test_F07_a_node_that_never_answers_is_given_up_and_others_go_on(rig: Rig) -> None:
    flow = rig.run(sensors.waiting)
    for key in ("ada", "bob", "cid"):
        for word in ("one", "stuck" if key == "bob" else "two", "three"):
            rig.send(flow.words, word, key=key)

    (letter,) = rig.dead_letters()

    assert (letter.key, letter.node, letter.reason) == ("bob", "patient", "timeout")
    answers = ["one 1"] * 3 + ["two 2"] * 2 + ["three 3"] * 2 + ["three 2"]
    assert sorted(rig.sent(flow.passed)) == sorted(answers)
    assert [rig.run_of(key).state(flow.node) for key in ("ada", "bob", "cid")] == [3, 2, 3]


@pytest.mark.actors
def test_A16_a_node_that_fails_is_tried_again_and_later_events_of_its_key_wait_behind(rig: Rig) -> None:
    flow = rig.run(sensors.trying)
    for key in ("ada", "bob", "cid"):
        for word in ("one", {"ada": "two", "bob": "flaky", "cid": "broken"}[key], "three"):
            rig.send(flow.words, word, key=key)

    (letter,) = rig.dead_letters()

    assert (letter.key, letter.reason, letter.attempts) == ("cid", "error", 3)
    sent = rig.sent(flow.passed)
    assert {key: [row for row in sent if row.startswith(key)] for key in ("ada", "bob", "cid")} == {
        "ada": ["ada one 1", "ada two 2", "ada three 3"],
        "bob": ["bob one 1", "bob flaky 2", "bob three 3"],
        "cid": ["cid one 1", "cid three 2"],
    }
    assert [rig.run_of(key).state(flow.node) for key in ("ada", "bob", "cid")] == [3, 3, 2]


def test_A22_the_third_event_for_a_channel_of_two_waits_until_one_is_taken(rig: Rig) -> None:
    flow = rig.prepare(channels.narrow)
    rig.send(flow.numbers, 10, 11)
    sender = rig.senders(flow.numbers, [12])
    sender.wait_until_blocked()

    rig.start()

    assert sender.ends() == [Ended(1)]
    assert rig.run_of().state(flow.take) == [10, 11, 12]


def test_A24_senders_that_wait_when_the_workflow_ends_are_told(rig: Rig) -> None:
    flow = rig.prepare(channels.narrow)
    rig.send(flow.numbers, 3, 10)
    senders = rig.senders(flow.numbers, [11], [12], [13])
    senders.wait_until_blocked()

    rig.start()

    assert senders.ends() == [Ended(0, "SourceClosed")] * 3
    assert rig.run_of().status == "terminated"
    assert rig.remainder(flow.numbers) == [10]


def test_A24_senders_are_told_when_somebody_ends_the_workflow(rig: Rig) -> None:
    flow = rig.run(channels.narrow)
    rig.send(flow.numbers, 10)

    rig.run_of().terminate("closed for today")

    assert rig.senders(flow.numbers, [11]).ends() == [Ended(0, "SourceClosed")]
    run = rig.run_of()
    assert (run.status, run.result, run.state(flow.take)) == ("terminated", "closed for today", [10])


@pytest.mark.actors
def test_B31_a_run_that_waits_is_ended_with_a_reason_and_its_key_begins_anew(rig: Rig) -> None:
    flow = rig.run(reminded.reminded)
    rig.send(flow.readings, reminded.Reading("ada", 1), reminded.Reading("bob", 2))

    rig.run_of("ada").terminate("out of order")

    ended = rig.run_of("ada")
    assert (ended.status, ended.result, ended.state(flow.remind)) == ("terminated", "out of order", [1])
    rig.send(flow.readings, reminded.Reading("ada", 3), reminded.Reading("bob", 4))
    assert rig.run_of("ada").number > ended.number
    assert [rig.run_of(key).state(flow.remind) for key in ("ada", "bob")] == [[3], [2, 4]]
    rig.run_of("bob").delete()
    rig.send(flow.readings, reminded.Reading("bob", 5))
    assert rig.run_of("bob").state(flow.remind) == [5]
    assert sorted(reading.celsius for reading in rig.sent(flow.sent)) == [1, 2, 3, 4, 5]


def test_B32_a_node_is_executed_beside_its_run_and_keeps_only_what_it_is_told_to_keep(rig: Rig) -> None:
    flow = rig.run(reminded.reminded)
    rig.send(flow.readings, reminded.Reading("ada", 1))

    tried = [rig.run_of("ada").execute(flow.remind, reminded.Reading("ada", 7)) for _ in range(3)]

    assert len({str(each) for each in tried}) == 1
    assert rig.run_of("ada").state(flow.remind) == [1]
    rig.run_of("ada").execute(flow.remind, reminded.Reading("ada", 8), commit=True)
    assert rig.run_of("ada").state(flow.remind) == [1, 8]
    rig.send(flow.readings, reminded.Reading("ada", 2))
    assert rig.run_of("ada").state(flow.remind) == [1, 8, 2]


def test_A25_the_order_of_each_sender_is_kept_and_each_event_comes_once(rig: Rig) -> None:
    flow = rig.run(channels.lines)
    names = ["ada", "bob", "cy"]

    senders = rig.senders(flow.lines, *[[channels.Line(name, number) for number in range(1000)] for name in names])

    assert senders.ends() == [Ended(1000)] * 3
    for name in names:
        assert rig.run_of(name).state(flow.keep) == channels.Journal(count=1000, next=1000)


@pytest.mark.actors
def test_A26_history_mean_and_alerts_equal_an_offline_computation_after_every_event(rig: Rig) -> None:
    flow = rig.run(sessions.shared)
    history: list[float] = []
    alerts: list[float] = []
    mean = 0.0

    for celsius in (20.0, 21.5, 30.0, 18.25, 40.0, -3.0, 25.0, 33.3, 12.0, 26.1):
        history.append(celsius)
        mean += (celsius - mean) / len(history)
        if celsius > mean + 5:
            alerts.append(celsius)
        rig.send(flow.readings, sessions.Reading("s1", celsius))
        assert rig.run_of("s1").shared == sessions.Record(history, mean, alerts)

    assert alerts == [30.0, 40.0, 33.3]


@pytest.mark.actors
def test_A28_a_run_ends_by_what_any_node_returns_and_its_key_begins_another(rig: Rig) -> None:
    flow = rig.run(sessions.ends)
    expected = {
        "terminate at first": ("terminated", "no more"),
        "complete at first": ("completed", {"steps": 2}),
        "terminate at second": ("terminated", "enough"),
        "complete at second": ("completed", "done"),
        "complete by route": ("completed", {"id": "complete by route", "step": "complete by route"}),
    }

    for step in expected:
        rig.send(flow.orders, sessions.Order(step, "begin"), sessions.Order(step, step))

    numbers = {}
    for step, (status, result) in expected.items():
        run = rig.run_of(step)
        assert (run.status, run.result) == (status, result)
        assert run.state(flow.first) == ["begin", step]
        numbers[step] = run.number
    rig.send(flow.orders, *[sessions.Order(step, "again") for step in expected])
    for step in expected:
        run = rig.run_of(step)
        assert (run.status, run.result, run.state(flow.second)) == ("running", None, ["again"])
        assert run.number > numbers[step]


@pytest.mark.actors
def test_A30_two_nodes_see_the_same_events_in_order(rig: Rig) -> None:
    flow = rig.run(sessions.fan)
    texts = [f"{number}" for number in range(20)]

    rig.send(flow.words, *[sessions.Word(author, text) for text in texts for author in ("ada", "bob")])

    for author in ("ada", "bob"):
        run = rig.run_of(author)
        assert run.state(flow.left) == texts
        assert run.state(flow.right) == texts
        marked = [mark + text for text in texts for mark in ("l:", "r:")]
        assert run.state(flow.joined) == marked
        assert [word.text for word in rig.sent(flow.out) if word.author == author] == marked


BROKEN = {
    "no JSON": (b'{"sensor": "s1", ', "decode"),
    "another type": (b'{"sensor": "s1", "celsius": "warm"}', "decode"),
    "no key": (b'{"celsius": 3}', "decode"),
    "empty key": (b'{"sensor": "", "celsius": 3}', "key"),
    "5 MB": (b'{"sensor": "s1", "celsius": 1, "note": "' + b"x" * (5 << 20) + b'"}', "size"),
    "empty": (b"", "decode"),
    "tombstone": (None, "tombstone"),
}


@pytest.mark.actors
def test_F06_what_is_no_event_is_a_dead_letter_and_nothing_else_is_affected(rig: Rig) -> None:
    flow = rig.prepare(sensors.sensors)
    for value, _ in BROKEN.values():
        rig.send(flow.readings, sensors.Reading("s1", 10), sensors.Reading("s2", 5))
        rig.send_raw(flow.readings, value, key="s1")
    rig.send_raw(flow.texts, b'"no key"', key=None)
    rig.send(flow.texts, "fine", key="ada")

    rig.start()

    assert rig.run_of("s1").state(flow.mean) == sensors.Average(len(BROKEN), 10)
    assert rig.run_of("s2").state(flow.mean) == sensors.Average(len(BROKEN), 5)
    assert rig.run_of("ada").state(flow.remember) == ["fine"]
    assert len(rig.sent(flow.means)) == 2 * len(BROKEN)
    letters = rig.dead_letters()
    by_source = {
        source: sorted(letter.reason for letter in letters if letter.source == source)
        for source in ("readings", "texts")
    }
    assert by_source == {"readings": sorted(reason for _, reason in BROKEN.values()), "texts": ["key"]}
    assert all(letter.error and letter.id for letter in letters)
    assert {letter.data for letter in letters} >= {value for value, _ in BROKEN.values()}


@pytest.mark.actors
def test_a_request_is_answered_and_counted_once(rig: Rig) -> None:
    flow = rig.run(sensors.sensors)

    answers = [rig.request(flow.asks, sensors.Reading("s1", 1), key="s1") for _ in range(3)]

    assert answers == [{"sensor": "s1", "asked": asked} for asked in (1, 2, 3)]
    assert rig.run_of("s1").state(flow.answer) == sensors.Average(count=3)


@pytest.mark.actors
def test_a_batch_node_refuses_single_events_and_a_failing_batch_goes_singly(rig: Rig) -> None:
    flow = rig.prepare(sessions.batches)
    authors = [f"a{number}" for number in range(6)]
    texts = ["one", "bad", "two", "poison", "three"]
    rig.send(flow.words, *[sessions.Word(author, text) for text in texts for author in authors])

    rig.start()

    for author in authors:
        state = rig.run_of(author).state(flow.score)
        assert state.count == 3
        assert max(state.batches) <= 4
        assert [word.text for word in rig.sent(flow.out) if word.author == author] == ["one", "two", "three"]
    reasons = sorted((letter.key, letter.reason, letter.error) for letter in rig.dead_letters())
    assert reasons == sorted(
        row
        for author in authors
        for row in ((author, "reject", "a bad word"), (author, "error", "RuntimeError: the model has crashed"))
    )


def assert_refused(rig: Rig, make: Callable[[str], wrong.Wrong], subject: str, message: str) -> None:
    """It can't be built: one problem, with its name, line and cure."""
    with pytest.raises(WorkflowError) as refused:
        rig.prepare(make)

    [problem] = refused.value.problems
    assert problem.subject == subject
    assert message in problem.message
    assert "wrong.py:" in problem.where
    assert problem.cure


def readings(*celsius: float) -> list[temperature.Reading]:
    return [temperature.Reading("s1", value) for value in celsius]


@pytest.mark.actors
def test_timers_and_idle_times_fall_due_once_for_each_run(rig: Rig) -> None:
    flow = rig.run(times.watched)
    for key in ("ada", "bob", "cid"):
        rig.send(flow.words, "one", *(("off",) if key == "bob" else ("two",)), key=key)

    sent = rig.sent(flow.said)

    assert {key: [row for row in sent if row.startswith(key)] for key in ("ada", "bob", "cid")} == {
        "ada": ["ada one", "ada two", "ada quiet after 2", "ada idle for 0.6"],
        "bob": ["bob one", "bob off", "bob idle for 0.6"],
        "cid": ["cid one", "cid two", "cid quiet after 2", "cid idle for 0.6"],
    }
    assert rig.dead_letters() == []
    assert [rig.run_of(key).state(flow.watch) for key in ("ada", "bob", "cid")] == [2, 2, 2]


@pytest.mark.actors
def test_M10_a_run_waits_for_messages_of_clients_and_nodes_or_until_it_is_over(rig: Rig) -> None:
    flow = rig.run(times.approved)
    for key in ("ada", "bob", "cid"):
        rig.send(flow.orders, "tea", key=key)
    rig.until_waiting("ada", "bob", "cid")
    rig.send(flow.approvals, times.Approval("dan"), key="ada")
    rig.send(flow.orders, "approve bob", key="eve")

    results = [rig.run_of(key).result for key in ("ada", "bob", "cid")]

    assert results == ["ada by dan", "bob by eve", "cid by nobody"]
    assert [rig.run_of(key).status for key in ("ada", "bob", "cid", "eve")] == ["completed"] * 3 + ["running"]
    assert rig.dead_letters() == []


@pytest.mark.actors
def test_A18_a_workflow_times_out_without_events(rig: Rig) -> None:
    flow = rig.run(times.lone)
    rig.settle()

    assert rig.run_of().status == "timed out"
    assert rig.remainder(flow.numbers) == []


@pytest.mark.actors
def test_A_adapters_a_nested_workflow_returns_complete_or_its_error(rig: Rig) -> None:
    flow = rig.run(composed.shop)

    rig.send(flow.orders, *(composed.Order("ada", cents) for cents in (1, 27, 3, 4, 200, 13, 5)))

    assert rig.sent(flow.lines) == [
        composed.Line("ada", text)
        for text in ("paid 1 cents, 27 cents, 3 cents", "200 is too much", "ValueError: unlucky")
    ]
    run = rig.run_of("ada")
    assert run.status == "running"
    assert run.state(flow.pay) == composed.Basket([5])
    assert run.state("pay/charge") == {"count": 1}
    assert not rig.dead_letters()


@pytest.mark.actors
def test_A_adapters_one_event_driven_node_as_a_step_three_deep_returns_its_action_or_its_timeout(rig: Rig) -> None:
    flow = rig.run(composed.desk)
    rig.send(flow.batches, composed.Batch("ada", [1, 13, 2]), composed.Batch("bob", [4]), composed.Batch("cid", [5]))
    rig.until_waiting("ada", "bob", "cid")
    rig.send(flow.approvals, composed.Approval("dan"), key="ada")
    rig.send(flow.approvals, composed.Approval("nobody"), key="bob")
    rig.settle()
    rig.send(flow.approvals, composed.Approval("dan"), key="cid")
    rig.send(flow.batches, composed.Batch("cid", [6]))
    rig.settle()

    said: dict[str, list[str]] = {}
    for line in rig.sent(flow.lines):
        said.setdefault(line.customer, []).append(line.text)
    assert said == {
        "ada": ["1 cents, ValueError: unlucky, 2 cents"], "bob": ["nobody approves"],
        "cid": ['{"after":"PT8S"}', "6 cents"],
    }  # fmt: skip
    assert [rig.run_of(key).waits_at for key in ("ada", "bob", "cid")] == [None] * 3
    assert not rig.dead_letters()


@pytest.mark.actors
def test_S12_a_turn_that_is_tried_again_is_answered_once_with_what_its_last_attempt_wrote(rig: Rig) -> None:
    flow = rig.run(talking.talking)

    first = rig.request(flow.said, talking.Said("s1", "hello you"), key="s1")
    second = rig.request(flow.said, talking.Said("s1", "again and again"), key="s1")
    quiet = rig.run_of("s1")

    assert (first, second) == ({"words": 2, "attempt": 1}, {"words": 3, "attempt": 3})
    assert quiet.streams == {"tokens": ["hello", "you", "again", "and", "again"]}
    assert [entry.kind for entry in quiet.entries("tokens")].count("reset") == 2
    assert (quiet.values, quiet.version("turns")) == ({"turns": 2, "last": "again and again"}, 2)


@pytest.mark.actors
def test_E01_a_run_that_ends_answers_with_its_result_and_keeps_its_values_and_streams(rig: Rig) -> None:
    flow = rig.run(talking.talking)

    result = rig.request(flow.said, talking.Said("s1", "bye null"), key="s1")

    run = rig.run_of("s1")
    assert (result, run.status) == ({"turns": 1}, "completed")
    assert (run.values, run.streams) == ({"turns": 1, "last": "bye null"}, {"tokens": ["bye", "null"]})
    assert run.entries("tokens")[-1].kind == "end"
