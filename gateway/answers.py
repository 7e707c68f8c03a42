"""Answers to requests, as workers leave them in the store, and as callers get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from fastapi import Response

AnswerKind: TypeAlias = Literal["reply"]
"""How a request came to its answer: by `ctx.reply`."""


class Answer(msgspec.Struct, frozen=True):
    """What became of a request."""

    kind: AnswerKind
    body: bytes
    """JSON."""


def answer_of(blob: bytes) -> Answer:
    """An answer as the key `reply:<request>` has it."""
    return Answer("reply", blob)


def answer_response(answer: Answer, headers: Mapping[str, str]) -> Response:
    """What the caller gets who has waited."""
    return Response(answer.body, headers=dict(headers), media_type="application/json")
