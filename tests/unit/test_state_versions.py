"""States over versions of a workflow: migrations, renamed and removed nodes, and what is refused before it starts."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from headrace import Context, Event, KafkaSink, KafkaSource, Node, Workflow
from headrace.testing import Harness
from headrace.testing.problems import HarnessError
from headrace.workflows.codec import Quick
from headrace.workflows.errors import CodecError
from headrace.workflows.state_review import StateReview, StatesLost, forgotten_renames, renames_of
from headrace.workflows.state_versions import StateUnread, split_version, version_after, versioned_codec


class Sum(msgspec.Struct):
    n: int = 0


class Total(msgspec.Struct):
    total: int = 0


class Mean(msgspec.Struct):
    total: int = 0
    count: int = 0


def to_total(old: dict[str, Any]) -> dict[str, Any]:
    return {"total": old["n"]}


def to_mean(old: dict[str, Any]) -> dict[str, Any]:
    old["count"] = 1 if old["total"] else 0
    return old


class Adding(Node[int, Sum, int]):
    def process(self, event: Event[int], ctx: Context[Sum]) -> int:
        ctx.state.n += event.data
        return ctx.state.n


class Totalling(Node[int, Total, int]):
    def process(self, event: Event[int], ctx: Context[Total]) -> int:
        ctx.state.total += event.data
        return ctx.state.total


class Averaging(Node[int, Mean, int]):
    def process(self, event: Event[int], ctx: Context[Mean]) -> int:
        ctx.state.total += event.data
        ctx.state.count += 1
        return ctx.state.total // ctx.state.count


class Version:
    """One version of the workflow: a node between a topic and another; beside it, if named, another one."""

    def __init__(
        self, node: Node[int, Any, int] | None = None, *, fuse: Any = None, beside: str = "", **options: Any
    ) -> None:
        self.workflow = Workflow("sums", fuse=fuse)
        self.numbers = self.workflow.source(KafkaSource("numbers", int))
        self.out = self.workflow.sink(KafkaSink("out", int))
        self.node = self.workflow.node(node or Adding(), **options)
        self.node.to(self.out)
        if not beside:
            self.numbers.to(self.node)
            return
        self.other = self.workflow.node(Adding(), name=beside)
        self.other.to(None)
        self.numbers.to(self.node, self.other)


def before(*numbers: int, keys: str = "a", **options: Any) -> tuple[Version, Harness]:
    version = Version(**{"name": "add", **options})
    with Harness(version.workflow) as harness:
        for key in keys:
            for number in numbers:
                harness.send(version.numbers, number, key=key)
    return version, harness


def fields(harness: Harness, key: str = "a") -> dict[str, str]:
    states = {name: value.decode() for name, value in harness.runs[key]._fields.items()}
    return {name: value for name, value in states.items() if name.startswith("node:") or name == "state"}


# -- versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [None, "all"])
def test_a_migrated_state_is_used_and_written_with_its_version_by_the_next_event(fuse: Any) -> None:
    _, old = before(3, 4, keys="ab")
    new = Version(Totalling(), name="add", migrations={1: to_total}, fuse=fuse)

    with Harness(new.workflow, on=old) as harness:
        assert harness.runs["a"].state(new.node) == Total(7)
        harness.send(new.numbers, 1, key="a")

        assert harness.sent(new.out) == [8]
        assert fields(harness, "a") == {"node:add": 'v2 {"total":8}'}
        assert fields(harness, "b") == {"node:add": '{"n":7}'}  # no event: as it was
    assert fields(old, "a") == {"node:add": '{"n":7}'}


def test_migrations_are_a_chain_and_each_run_begins_where_it_is() -> None:
    _, first = before(3, keys="ab")
    second = Version(Totalling(), name="add", migrations={1: to_total})
    with Harness(second.workflow, on=first) as harness:
        harness.send(second.numbers, 1, key="b")
    third = Version(Averaging(), name="add", migrations={1: to_total, 2: to_mean})

    with Harness(third.workflow, on=harness) as last:
        for key in "ab":
            last.send(third.numbers, 5, key=key)

        assert [fields(last, key)["node:add"] for key in "ab"] == [
            'v3 {"total":8,"count":2}', 'v3 {"total":9,"count":2}',
        ]  # fmt: skip


def test_a_state_of_version_1_has_no_mark() -> None:
    _, old = before(3)

    assert fields(old) == {"node:add": '{"n":3}'}
    assert version_after(None) == 1


def test_a_failed_event_leaves_a_migrated_state_as_it_was_stored() -> None:
    class Failing(Totalling):
        def process(self, event: Event[int], ctx: Context[Total]) -> int:
            ctx.state.total = 99
            raise KeyError(event.data)

    _, old = before(3)
    new = Version(Failing(), name="add", migrations={1: to_total})

    with Harness(new.workflow, on=old) as harness:
        harness.send(new.numbers, 1, key="a")

        assert [letter.reason for letter in harness.dead_letters] == ["error"]
        assert fields(harness) == {"node:add": '{"n":3}'}


def test_the_state_that_a_run_shares_is_migrated_too() -> None:
    def version(state: type, **options: Any) -> tuple[Workflow, Any]:
        def add(event: Event[int], ctx: Context[None, Any]) -> None:
            field = "n" if isinstance(ctx.run.state, Sum) else "total"
            setattr(ctx.run.state, field, getattr(ctx.run.state, field) + event.data)

        workflow = Workflow("shared", state=state, **options)
        numbers = workflow.source(KafkaSource("numbers", int))
        numbers.to(workflow.node(add))
        return workflow, numbers

    first, numbers = version(Sum)
    with Harness(first) as old:
        old.send(numbers, 3, key="a")
    second, numbers = version(Total, migrations={1: to_total})

    with Harness(second, on=old) as harness:
        harness.send(numbers, 4, key="a")

        assert fields(harness) == {"state": 'v2 {"total":7}'}
        assert harness.runs["a"].shared == Total(7)
    with pytest.raises(StatesLost, match="the shared state of run 'a' does not fit: it is of version 2") as refused:
        Harness(first, on=harness)
    assert str(refused.value).endswith("--drop-state @run")


def test_values_go_through_json_as_stored_ones_do() -> None:
    codec = versioned_codec(dict[int, list[float]], {1: lambda old: {key: [item] for key, item in old.items()}})

    assert codec.decode(b'{"7":0.5}') == {7: [0.5]}
    assert codec.encode({7: [0.5]}) == b'v2 {"7":[0.5]}'
    assert codec.decode(codec.encode({7: [0.5]})) == {7: [0.5]}
    with pytest.raises(CodecError, match=r"nan - at `\$\[7\]\[0\]`"):
        codec.encode({7: [float("nan")]})


def test_the_quick_form_writes_the_version_too() -> None:
    quick = versioned_codec(Total, {1: to_total}).quick

    assert isinstance(quick, Quick)
    assert quick.encode(Total(3)) == b'v2 {"total":3}'


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b'v3 {"total":1}', "it is of version 3, and this code knows 2: a newer version"),
        (b'{"total":1}', r"migration from version 1 to 2, to_total, raised KeyError: 'n' \(line \d+ of test_state"),
        (b'{"n":"x"}', r"migrated from version 1: Expected `int`, got `str` - at `\$\.total`"),
        (b'v2 {"total":"x"}', r"Expected `int`, got `str` - at `\$\.total`"),
        (b"vast", "no version"),
        (b"{", "Input data was truncated"),
    ],
)
def test_what_can_t_be_read_says_why(blob: bytes, message: str) -> None:
    with pytest.raises(StateUnread, match=message):
        versioned_codec(Total, {1: to_total}).decode(blob)


def test_a_state_older_than_the_migrations_is_not_read() -> None:
    with pytest.raises(StateUnread, match=r"it is of version 1, and there is no migration from that"):
        versioned_codec(Mean, {2: to_mean}).decode(b'{"n":1}')


def test_a_migration_without_return_is_asked_about_it() -> None:
    def lazy(old: dict[str, Any]) -> None:
        old["total"] = old.pop("n")

    with pytest.raises(StateUnread, match="does a migration lack its return"):
        versioned_codec(Total, {1: lazy}).decode(b'{"n":1}')


def test_a_version_lies_before_the_text() -> None:
    assert split_version(b'v12 {"a":1}') == (12, b'{"a":1}')
    assert split_version(b'{"a":1}') == (1, b'{"a":1}')


# -- refused before it starts ------------------------------------------------------------------------------------------


def test_an_older_version_is_not_started_on_the_states_of_a_newer() -> None:
    version, old = before(3)
    new = Version(Totalling(), name="add", migrations={1: to_total})
    with Harness(new.workflow, on=old) as harness:
        harness.send(new.numbers, 1, key="a")

    with pytest.raises(StatesLost, match="the state of add of run 'a' does not fit: it is of version 2, and this code"):
        Harness(version.workflow, on=harness)


def test_a_migration_that_raises_or_does_not_fit_is_refused_with_every_kind_once() -> None:
    def picky(old: dict[str, Any]) -> dict[str, Any]:
        if old["n"] == 3:
            raise RuntimeError("three")
        return {"total": None}

    _, old = before(3, keys="ab")
    again = Version(name="add")
    with Harness(again.workflow, on=old) as more:
        more.send(again.numbers, 1, key="b")
        more.send(again.numbers, 3, key="c")
    new = Version(Totalling(), name="add", migrations={1: picky})

    with pytest.raises(StatesLost) as refused:
        Harness(new.workflow, on=more)

    by_count = sorted(refused.value.misfits, key=lambda row: row.count)
    assert [(row.count, row.field) for row in by_count] == [(1, "node:add"), (2, "node:add")]
    assert "of run 'b' does not fit: migrated from version 1: Expected `int`, got `null`" in str(refused.value)
    assert "(and of 1 more run) does not fit: its migration from version 1 to 2" in str(refused.value)
    assert "raised RuntimeError: three" in str(refused.value)


def test_states_of_a_node_that_is_gone_are_not_lost_unasked() -> None:
    _, old = before(3, keys="ab")
    new = Version(name="sum_up")

    with pytest.raises(StatesLost, match="add had states, in 2 runs, and is gone") as refused:
        Harness(new.workflow, on=old)
    assert str(refused.value).endswith("--drop-state add")
    with pytest.raises(StatesLost):
        Harness(new.workflow, on=old, drop_state=["other"])
    with Harness(new.workflow, on=old, drop_state=["add"]) as harness:
        assert fields(harness) == {}
        harness.send(new.numbers, 1, key="a")
        assert harness.sent(new.out) == [1]


def test_states_of_runs_that_have_ended_hinder_nobody() -> None:
    review = StateReview(Version(name="other").workflow.compile())

    review.look("a", {"status": b"completed", "number": b"1", "node:add": b"{}"})

    assert (review.runs, review.lost()) == (0, None)


# -- renamed nodes -----------------------------------------------------------------------------------------------------


def test_a_renamed_node_takes_its_states_over_with_the_next_event_of_each_run() -> None:
    _, old = before(3, keys="ab")
    new = Version(name="sum_up", renamed_from="add")

    with Harness(new.workflow, on=old) as harness:
        assert harness.runs["a"].state(new.node) == Sum(3)
        harness.send(new.numbers, 1, key="a")

        assert harness.sent(new.out) == [4]
        assert fields(harness, "a") == {"node:add": "", "node:sum_up": '{"n":4}'}
        assert fields(harness, "b") == {"node:add": '{"n":3}'}


def test_a_crash_does_not_take_a_state_over_twice() -> None:
    _, old = before(3)
    new = Version(name="sum_up", renamed_from="add")

    with Harness(new.workflow, on=old) as harness:
        harness.crash_at("before:commit")
        harness.send(new.numbers, 1, key="a")
        harness.crash_at("after:commit")
        harness.send(new.numbers, 1, key="a")

        assert harness.crashes == 2
        assert fields(harness) == {"node:add": "", "node:sum_up": '{"n":5}'}


def test_a_node_renamed_twice_finds_its_states_wherever_they_lie() -> None:
    _, first = before(3, keys="ab")
    second = Version(name="sum_up", renamed_from="add")
    with Harness(second.workflow, on=first) as harness:
        harness.send(second.numbers, 1, key="b")
    third = Version(name="tally", renamed_from=("sum_up", "add"))

    with Harness(third.workflow, on=harness) as last:
        for key in "ab":
            last.send(third.numbers, 5, key=key)

        assert [last.runs[key].state(third.node) for key in "ab"] == [Sum(8), Sum(9)]


def test_a_later_node_with_the_old_name_begins_anew_and_the_renamed_one_keeps_all_its_states() -> None:
    _, first = before(3, keys="ab")
    second = Version(name="sum_up", renamed_from="add")
    with Harness(second.workflow, on=first) as harness:
        harness.send(second.numbers, 1, key="b")
    third = Version(name="sum_up", beside="add")  # it says nothing of its old name any more

    with Harness(third.workflow, on=harness) as last:
        assert fields(last, "a") == {"node:sum_up": '{"n":3}'}  # moved before it started
        assert fields(last, "b") == {"node:sum_up": '{"n":4}'}
        for key in "ab":
            last.send(third.numbers, 1, key=key)
        assert [(last.runs[key].state(third.node), last.runs[key].state(third.other)) for key in "ab"] == [
            (Sum(4), Sum(1)), (Sum(5), Sum(1)),
        ]  # fmt: skip


def test_a_state_under_both_names_is_not_lost_unasked() -> None:
    first = Version(name="add", beside="sum_up")
    with Harness(first.workflow) as old:
        old.send(first.numbers, 3, key="a")
    new = Version(name="sum_up", renamed_from="add")

    with pytest.raises(StatesLost, match="add had states, in 1 run, and sum_up, which it became, has its own there"):
        Harness(new.workflow, on=old)


def test_a_name_and_a_form_may_change_at_once() -> None:
    _, old = before(3)
    new = Version(Totalling(), name="sum_up", renamed_from="add", migrations={1: to_total})

    with Harness(new.workflow, on=old) as harness:
        harness.send(new.numbers, 1, key="a")

        assert fields(harness) == {"node:add": "", "node:sum_up": 'v2 {"total":4}'}


def test_renames_that_a_version_does_not_repeat_are_known_from_the_one_before() -> None:
    second = Version(name="sum_up", renamed_from="add").workflow.compile()
    third = Version(name="tally", renamed_from="sum_up").workflow.compile()

    assert renames_of(second) == {"node:add": "node:sum_up"}
    assert forgotten_renames(renames_of(second), third) == {"node:add": "node:sum_up"}
    assert forgotten_renames(renames_of(second), second) == {}


def test_a_state_moved_half_is_moved_again_and_none_twice() -> None:
    plan = Version(name="sum_up").workflow.compile()
    review = StateReview(plan, {"node:add": "node:sum_up"})

    todo = review.ready("a", {"node:add": b'{"n":3}'}, ())
    half = review.ready("a", {"node:add": b'{"n":3}', "node:sum_up": b'{"n":3}'}, ["add"])
    done = review.ready("a", {"node:sum_up": b'{"n":3}'}, ())

    assert (todo.moves, todo.marks) == ({"node:add": "node:sum_up"}, [])
    assert (half.moves, half.marks + half.dropped) == ({}, ["node:add"])
    assert done == ([], {}, [], {})


def test_dead_letters_of_a_renamed_node_go_back_to_it() -> None:
    class Failing(Adding):
        def process(self, event: Event[int], ctx: Context[Sum]) -> int:
            raise ValueError("not yet")

    _, old = before(3, node=Failing())
    new = Version(name="sum_up", renamed_from="add")

    with Harness(new.workflow, on=old) as harness:
        assert harness.replay() == 1

        assert harness.sent(new.out) == [3]
        assert harness.dead_letters == []


# -- while it runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [None, "all"])
def test_events_of_a_run_whose_state_can_t_be_read_are_dead_letters_and_others_go_on(fuse: Any) -> None:
    broken: set[int] = set()

    def moody(old: dict[str, Any]) -> dict[str, Any]:
        if old["n"] in broken:
            raise RuntimeError("no")
        return to_total(old)

    _, one = before(3)
    again = Version(name="add")
    with Harness(again.workflow, on=one) as old:
        old.send(again.numbers, 5, key="b")
    new = Version(Totalling(), name="add", migrations={1: moody}, fuse=fuse)

    with Harness(new.workflow, on=old) as harness:
        broken.add(3)
        with harness.batch():
            for key in "abba":
                harness.send(new.numbers, 1, key=key)

        assert [(letter.key, letter.reason, letter.node) for letter in harness.dead_letters] == [
            ("a", "unread-state", "add")
        ] * 2
        assert "the state of add can't be read by this version: its migration from" in harness.dead_letters[0].error
        assert harness.sent(new.out) == [6, 7]
        assert fields(harness) == {"node:add": '{"n":3}'}  # as it was
    broken.clear()
    with Harness(new.workflow, on=harness) as mended:
        assert mended.replay() == 2
        assert mended.runs["a"].state(new.node) == Total(5)


# -- what a workflow says ----------------------------------------------------------------------------------------------


async def waiting(old: Any) -> Any:
    return old


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"renamed_from": "add"}, "renamed_from is the name that it has"),
        ({"renamed_from": "second"}, r"renamed_from is 'second', but that node is still there, at .*test_state"),
        ({"renamed_from": "taken"}, "renamed_from is 'taken', and so is that of"),
        ({"renamed_from": 7}, "renamed_from=7 is no name"),
        ({"renamed_from": ("old", 7)}, "names 7, which is no name"),
        ({"migrations": {}}, "migrations={} are none"),
        ({"migrations": {0: to_total}}, r"migrations are from \[0\], which are not all versions"),
        (
            {"migrations": {1: to_total, 3: to_mean}},
            r"lead from version 2 nowhere.* Add what is missing: \{2: \.\.\.\}",
        ),
        ({"migrations": {1: "to_total"}}, "from version 1 is 'to_total', which can't be called"),
        ({"migrations": {1: waiting}}, "from version 1 is async"),
        ({"migrations": {1: lambda: None}}, "does not take one argument"),
    ],
)
def test_what_can_t_be_meant_is_found_at_build(options: dict[str, Any], message: str) -> None:
    version = Version(name="add", **options)
    second = version.workflow.node(Adding(), name="second", renamed_from="taken")
    second.to(None)

    problems = version.workflow.check()

    assert [problem.code for problem in problems if problem.code in ("renamed-from", "migrations")]
    assert re.search(message, "\n".join(map(str, problems)))


def test_migrations_need_a_state() -> None:
    def show(event: Event[int], ctx: Context) -> None: ...

    workflow = Workflow("sums", migrations={1: to_total})
    workflow.source(KafkaSource("numbers", int)).to(workflow.node(show, migrations={1: to_total}))

    assert [(problem.subject, problem.message) for problem in workflow.check()] == [
        ("sums", "has migrations, but no state"), ("show", "has migrations, but no state"),
    ]  # fmt: skip


# -- the harness -------------------------------------------------------------------------------------------------------


def test_a_harness_on_another_goes_on_in_time_sources_and_dead_letters() -> None:
    version, old = before(3)
    late = Version(name="add")

    with Harness(late.workflow, on=old) as harness:
        assert harness.now == old.now
        assert harness.remainder(late.numbers) == []
        assert harness.sent(late.out) == []
        harness.send(late.numbers, 2, key="a")
        assert harness.sent(late.out) == [5]
    assert old.runs["a"].state(version.node) == Sum(3)


def test_a_harness_goes_on_only_where_it_can() -> None:
    version, old = before(3)

    with pytest.raises(HarnessError, match="since its start, not 7"):
        Harness(version.workflow, on=old, partitions=7)
    with pytest.raises(HarnessError, match="harness of workflow sums"):
        Harness(_small("others"), on=old)


def _small(name: str) -> Workflow:
    def show(event: Event[int], ctx: Context) -> None: ...

    workflow = Workflow(name)
    workflow.source(KafkaSource("numbers", int)).to(workflow.node(show))
    return workflow
