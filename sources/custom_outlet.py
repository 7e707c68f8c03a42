"""Carries the outputs of a worker to a sink of a user's own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from headrace.sources.custom_sink import CustomSink, Message, Writer
from headrace.sources.outlet import Portion, Refused
from headrace.sources.own_thread import OwnThread
from headrace.workflows.actions import Reject
from headrace.workflows.codec import json_codec
from headrace.workflows.commit import Output
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import CodecError, HeadraceError
from headrace.workflows.plan import SinkPlan

_log = structlog.get_logger(__name__)

_CLOSE_WITHIN: Final = 2.0


class CustomSinkFailed(HeadraceError):
    """A sink of a user's own could not write now.

    Attributes:
        sink: Its name.
        what: What its code raised.
    """

    def __init__(self, sink: str, what: str) -> None:
        self.sink = sink
        self.what = what
        super().__init__(f"sink {sink}: {what}. Headrace opens it and sends again until it works")

    def __reduce__(self) -> tuple[type[CustomSinkFailed], tuple[str, str]]:
        return CustomSinkFailed, (self.sink, self.what)


class CustomOutlet:
    """The `Outlet` to one sink of a user's own; each output arrives at least once, with its id."""

    transactional = False

    def __init__(self, plan: SinkPlan) -> None:
        self._sink: CustomSink[Any] = plan.sink
        self.name = f"sink {plan.name}"
        self._plan = plan
        self._decode = json_codec(self._sink.type).decode
        self._thread: OwnThread | None = None
        self._writer: Writer[Any] | None = None
        self._answers: dict[str, str | None] = {}
        """Outputs that are done, of a round which has failed since: id -> why it was refused, or None."""

    async def open(self) -> None:
        """See `Outlet`; it connects at the first `send`."""
        _log.info("sink_delivery", sink=self._plan.name, delivery="at-least-once", of=type(self._sink).__name__)

    async def begin(self, partition: int, last: int) -> int:
        """See `Outlet`: the sink does not tell what it has."""
        del partition, last
        return 0

    async def drop(self, partition: int) -> None:
        """See `Outlet`; nothing is held for a partition."""

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        """Hand all of them to the user's writer, in batches; see `Outlet`."""
        outputs = [output for portion in portions.values() for output in portion.outputs]
        waiting = [output for output in outputs if output.id not in self._answers]
        try:
            for first in range(0, len(waiting), self._sink.batch):
                await self._send(waiting[first : first + self._sink.batch])
        except Exception as error:
            await self.close()
            what = f"no answer for {self._sink.timeout}" if isinstance(error, TimeoutError) else _text(error)
            raise CustomSinkFailed(self._plan.name, what) from error
        answers, self._answers = self._answers, {}
        return [Refused(output, why) for output in outputs if (why := answers[output.id]) is not None]

    async def _send(self, outputs: Sequence[Output]) -> None:
        messages: list[Message[Any]] = []
        for output in outputs:
            try:
                messages.append(_message(output, self._decode))
            except (CodecError, msgspec.MsgspecError) as error:
                self._answers[output.id] = str(error)
        if not messages:
            return
        if self._thread is None:
            self._thread = OwnThread(f"headrace-{self.name}")
        async with asyncio.timeout(self._sink.timeout.total_seconds()):
            writer = self._writer
            if writer is None:
                writer = self._writer = await self._thread.call(self._opened)
            with effect(Effect.RELAY_SEND):
                answers = await self._thread.call(writer.send, messages)
        self._take(messages, answers)

    async def _opened(self) -> Writer[Any]:
        opened = self._sink.open()
        writer = await opened if inspect.isawaitable(opened) else opened
        if not isinstance(writer, Writer):
            raise TypeError(f"open() gave back {writer!r}. Give an object of a class derived from Writer")
        return writer

    def _take(self, messages: Sequence[Message[Any]], answers: Any) -> None:
        if answers is None:
            answers = [None] * len(messages)
        if len(answers) != len(messages) or not all(isinstance(answer, Reject | None) for answer in answers):
            raise TypeError(f"send() gave back {answers!r}. Give None, or one None or Reject for each message")
        for message, answer in zip(messages, answers, strict=True):
            self._answers[message.id] = None if answer is None else answer.reason

    async def close(self) -> None:
        """Have the user's code let go of what is open; idempotent."""
        thread, self._thread = self._thread, None
        writer, self._writer = self._writer, None
        if thread is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                if writer is not None:
                    await thread.call(writer.close)
        except Exception as error:  # noqa: BLE001  user code: whatever it raises
            _log.warning("sink_not_closed", sink=self._plan.name, reason=_text(error))
        thread.stop()


def _message(output: Output, decode: Any) -> Message[Any]:
    if output.data is None:
        raise CodecError("it is a tombstone, and only Kafka's topics take those")
    headers = {name: value.decode("utf-8", "replace") for name, value in output.headers}
    return Message(decode(output.data), output.id, output.key, datetime.fromtimestamp(output.time / 1000, UTC), headers)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
