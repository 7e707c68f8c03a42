"""What a request is answered with, as it lies in the store: a kind, and what belongs to it."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

AnswerKind: TypeAlias = Literal["reply", "waiting", "ended", "failed", "done", "executed"]
"""`reply`: a node has replied. `waiting`: the run stands at a wait now. `ended`: the run has. `failed`: an event of the
request could not be processed, and is not tried again. `done`: all is processed, and nobody had anything to say.
`executed`: a node had it out of line."""


class RequestAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one answer to a request: JSON text in the store, decoded by the gateway."""

    kind: AnswerKind
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON: the reply; with `waiting` too, if there is one; with `ended` the run's result, or why it ended; with
    `executed` a `Returned`."""
    wait: str = ""
    """With `waiting`: name of the wait."""
    wait_id: str = ""
    """With `waiting`: which time the run stands there; a message may claim it, see `wait_claims`."""
    outcome: str = ""
    """With `ended`: `completed`, `terminated`, `timed out`, `source closed`, or `deleted`: nothing of it is kept."""
    node: str = ""
    """With `failed`: name of the node that failed; "": it was none."""
    reason: str = ""
    """With `failed`: of the dead letter, or `late` for an event that came too late and was dropped."""
    error: str = ""
    """With `failed`: what the dead letter says."""
    attempts: int = 0
    """With `failed`: how often the node has tried it."""

    @property
    def has_value(self) -> bool:
        """Whether there is one; it may be null."""
        return self.value is not msgspec.UNSET

    @property
    def data(self) -> Any:
        """The value, decoded; None if there is none."""
        return None if self.value is msgspec.UNSET else msgspec.json.decode(self.value)


_encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(RequestAnswer).decode
DONE: Final = RequestAnswer(kind="done")


def encode(answer: RequestAnswer, run: str = "") -> str:
    """As the store has it.

    Args:
        answer: To a request.
        run: Key of the request's run, by which the answer is found if that is to be forgotten; "": it tells nothing.
    """
    text = _encode(answer).decode()
    return f'{text[:-1]},"run":{_encode(run).decode()}}}' if run else text


class _OfRun(msgspec.Struct):
    run: str = ""


_decode_run: Final = msgspec.json.Decoder(_OfRun).decode


def run_of(blob: bytes) -> str:
    """Key of the run whose request has this answer; "": it tells nothing of one.

    Examples:
        >>> run_of(encode(DONE, "ada").encode())
        'ada'
    """
    return _decode_run(blob).run


def raw(text: str) -> msgspec.Raw:
    """JSON text as a value."""
    return msgspec.Raw(text.encode())
