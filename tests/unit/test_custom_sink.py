"""Sinks of a user's own: what is sent again and what is not, what is refused, and what holds up nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from headrace import Context, CustomSink, Event, KafkaSource, Message, Reject, Workflow, Writer
from headrace.sources.custom_outlet import CustomOutlet, CustomSinkFailed
from headrace.sources.outlet import Portion
from headrace.testing import Harness
from headrace.workflows.commit import Output
from headrace.workflows.plan import SinkPlan

Script = Callable[[Sequence[Message[int]]], Any]


class Scripted(CustomSink[int]):
    """Answers what a test's function gives."""

    batch = 2

    def __init__(self, script: Script) -> None:
        super().__init__(int, name="scripted")
        self.script = script
        self.opened = self.closed = 0

    def open(self) -> Writer[int]:
        self.opened += 1
        return ScriptedWriter(self)


class ScriptedWriter(Writer[int]):
    def __init__(self, sink: Scripted) -> None:
        self.sink = sink

    def send(self, messages: Sequence[Message[int]]) -> Any:
        return self.sink.script(messages)

    def close(self) -> None:
        self.sink.closed += 1


def outlet_of(sink: CustomSink[int]) -> CustomOutlet:
    return CustomOutlet(SinkPlan(0, sink.name, sink, 0))


def portions(*numbers: int) -> dict[int, Portion]:
    outputs = [Output(0, f"id{number}", "k", 0, str(number).encode()) for number in numbers]
    return {3: Portion(outputs, len(outputs))}


async def test_messages_come_in_order_in_batches_and_are_taken() -> None:
    seen: list[list[int]] = []
    outlet = outlet_of(Scripted(lambda messages: seen.append([message.data for message in messages])))

    assert await outlet.send(portions(1, 2, 3)) == []
    await outlet.close()

    assert seen == [[1, 2], [3]]


async def test_after_a_failure_only_what_was_not_written_is_sent_again_by_a_new_writer() -> None:
    seen: list[int] = []
    failures = [None, OSError("cable")]

    def script(messages: Sequence[Message[int]]) -> None:
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure
        seen.extend(message.data for message in messages)

    sink = Scripted(script)
    outlet = outlet_of(sink)

    with pytest.raises(CustomSinkFailed, match="sink scripted: OSError: cable"):
        await outlet.send(portions(1, 2, 3))
    assert (sink.opened, sink.closed) == (1, 1)
    assert await outlet.send(portions(1, 2, 3, 4)) == []
    assert await outlet.send(portions(1)) == []
    await outlet.close()

    assert seen == [1, 2, 3, 4, 1]
    assert sink.opened == 2


async def test_what_is_refused_for_good_is_told_also_when_a_later_batch_failed_first() -> None:
    failures = [False, True]

    async def script(messages: Sequence[Message[int]]) -> list[Reject | None]:
        await asyncio.sleep(0)
        if messages[0].data == 3 and failures.pop():
            raise OSError("cable")
        return [Reject("odd one") if message.data == 1 else None for message in messages]

    outlet = outlet_of(Scripted(script))

    with pytest.raises(CustomSinkFailed):
        await outlet.send(portions(1, 2, 3))
    refused = await outlet.send(portions(1, 2, 3))
    await outlet.close()

    assert [(row.output.id, row.error) for row in refused] == [("id1", "odd one")]


async def test_a_send_that_does_not_answer_has_failed() -> None:
    release = threading.Event()
    sink = Scripted(lambda messages: release.wait(20) and None)
    sink.timeout = timedelta(seconds=0.05)
    outlet = outlet_of(sink)

    with pytest.raises(CustomSinkFailed, match=r"no answer for 0:00:00.05"):
        await asyncio.wait_for(outlet.send(portions(1)), 10)

    release.set()


@pytest.mark.parametrize("answer", [[], [None, None], ["taken"]])
async def test_an_answer_that_says_nothing_is_a_failure(answer: Any) -> None:
    outlet = outlet_of(Scripted(lambda messages: answer))

    with pytest.raises(CustomSinkFailed, match="Give None, or one None or Reject for each message"):
        await outlet.send(portions(1))


async def test_what_can_not_be_a_message_is_refused_and_the_rest_is_written() -> None:
    seen: list[int] = []
    outlet = outlet_of(Scripted(lambda messages: seen.extend(message.data for message in messages)))
    bad = [Output(0, "a", "k", 0, b'"text"'), Output(0, "b", "k", 0, None)]

    refused = await outlet.send({0: Portion([*bad, *portions(5)[3].outputs], 3)})
    await outlet.close()

    assert seen == [5]
    assert [(row.output.id, row.error[:20]) for row in refused] == [
        ("a", "Expected `int`, got "),
        ("b", "it is a tombstone, a"),
    ]


class Connecting(CustomSink[int]):
    async def open(self) -> Writer[int]:
        await asyncio.sleep(0)
        return Fine()


class Fine(Writer[int]):
    async def send(self, messages: Sequence[Message[int]]) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.sleep(0)


async def test_everything_may_be_async() -> None:
    outlet = outlet_of(Connecting(int, name="fine"))

    assert await outlet.send(portions(1)) == []
    await outlet.close()


def double(event: Event[int], ctx: Context) -> int:
    return event.data * 2


def test_the_test_kit_shows_what_would_be_written() -> None:
    workflow = Workflow("own")
    source = workflow.source(KafkaSource("numbers", int))
    doubling = workflow.node(double)
    sink = workflow.sink(Scripted(lambda messages: None))
    source.to(doubling)
    doubling.to(sink)

    def refuse(data: int) -> None:
        if data > 10:
            raise Reject("too much")

    with Harness(workflow, replace={sink: refuse}) as harness:
        harness.send(source, 4, key="k")
        harness.send(source, 6, key="k")

        assert harness.sent(sink) == [8]
        assert [letter.reason for letter in harness.dead_letters] == ["sink"]
