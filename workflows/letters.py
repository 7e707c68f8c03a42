"""Dead letters on their way out: as messages of sinks; and those of messages that a sink refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from .commit import STRAY, DeadLetter, Output
from .plan import Plan
from .records import Reentry

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT: Final = 200
"""Characters of an error that a message has room for in any case."""


class DeadLetterMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter as sinks get it: data of `workflow.dead_letters.to(sink)`.

    Examples:
        >>> from headrace import DeadLetterMessage, KafkaSink, Workflow
        >>> workflow = Workflow("orders")
        >>> workflow.dead_letters.to(workflow.sink(KafkaSink("orders-dead", DeadLetterMessage)))
    """

    workflow: str
    id: str
    """Of the event. One that is sent back and stops again has it again; `time` is another one then."""
    key: str = ""
    """Of its run, if it is known."""
    source: str = ""
    """By which it came; of a message that could not leave, its sink."""
    node: str | None = None
    """Where it stopped; None: before the first node, or on its way out."""
    reason: str
    """A stable word: `decode`, `error`, `reject` ..."""
    error: str = ""
    traceback: str | None = None
    attempts: int = 1
    time: datetime
    """When it stopped (UTC)."""
    event_time: datetime | None = None
    """When it happened (UTC), if it is known."""
    type: str | None = None
    """Name of the class of its data."""
    data: Any = None
    """What came where it stopped, if that is JSON."""
    data_base64: bytes | None = None
    """The same, if it is not JSON."""
    data_left_out: int = 0
    """Bytes of the data, which are not here as the message would be larger than its sink takes. The store has them."""
    headers: dict[str, str] = {}
    """Those that came, as text."""


def texts_of(letter: DeadLetter, workflow: str) -> Iterator[bytes]:
    """A letter as JSON text of a `DeadLetterMessage`: whole, without its data, and without all that may be large."""
    message = DeadLetterMessage(
        workflow=workflow, id=letter.id, key=letter.key, source=letter.source, node=letter.node, reason=letter.reason,
        error=letter.error, traceback=letter.traceback, attempts=letter.attempts, time=_moment(letter.time) or _EPOCH,
        event_time=_moment(letter.event_time), type=letter.type,
        headers={name: value.decode(errors="replace") for name, value in letter.headers},
    )  # fmt: skip
    encode, replace = msgspec.json.encode, msgspec.structs.replace
    yield encode(_with_data(message, letter.data))
    smaller = replace(message, data_left_out=len(letter.data or b""))
    yield encode(smaller)
    yield encode(replace(smaller, headers={}, traceback=None, error=letter.error[:_SHORT]))


def _with_data(message: DeadLetterMessage, data: bytes | None) -> DeadLetterMessage:
    if data is None:
        return message
    if is_json(data):
        return msgspec.structs.replace(message, data=msgspec.Raw(data))
    return msgspec.structs.replace(message, data_base64=data)


def is_json(data: bytes) -> bool:
    """Whether it can stand in JSON as it is."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _moment(milliseconds: int) -> datetime | None:
    """None: there is no such time; a record may say anything."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds) if milliseconds > 0 else None
    except OverflowError:
        return None


def of_refused(plan: Plan, output: Output, error: str, now: int) -> DeadLetter:
    """The dead letter of a message that its sink will never take.

    Args:
        plan: The workflow.
        output: The message.
        error: What the sink said.
        now: Milliseconds since 1970 UTC.
    """
    sink = "" if output.sink == STRAY else plan.sinks[output.sink].name
    return DeadLetter(
        id=output.id, key=output.key, source=sink, node=None, reason="sink", error=error, time=now,
        event_time=output.time, data=output.data, headers=output.headers,
        reentry=Reentry(sink=sink, packed=True) if sink else None,
    )  # fmt: skip
