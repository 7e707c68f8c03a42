"""What callers write in addresses and headers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.answers import answer_response
from headrace.gateway.keys import decode_key, encode_key
from headrace.gateway.preferences import DEFAULT_WAIT, preference_of
from headrace.gateway.problems import ProblemError, status_of
from headrace.workflows.envelope import RequestAnswer, encode, raw
from headrace.workflows.key_format import KeyFormatUnknown, RestoreUnfinished


@given(st.text(min_size=1))
def test_any_key_comes_back_from_its_address(key: str) -> None:
    text = encode_key(key)

    assert decode_key(text) == key
    assert all(character.isascii() and (character.isalnum() or character in "._~-") for character in text)


@pytest.mark.parametrize("text", ["", "~", "a/b", "~!", "~_w", "ü"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64url|one character"):
        decode_key(text)


@pytest.mark.parametrize(
    ("headers", "wait", "applied"),
    [
        ([], DEFAULT_WAIT, None),
        (["wait=3"], 3.0, "wait=3"),
        (["Wait=3; foo=1", "handling=lenient"], 3.0, "wait=3"),
        (["wait=0"], 0.0, "wait=0"),
        (["wait=100"], 30.0, "wait=30"),
        (["wait=soon"], DEFAULT_WAIT, None),
        (["wait=5, respond-async"], 0.0, "respond-async"),
        (["wait=5, wait=7"], 5.0, "wait=5"),
    ],
)
def test_the_callers_preference_counts_up_to_the_cap(headers: list[str], wait: float, applied: str | None) -> None:
    preference = preference_of(headers)

    assert (preference.wait, preference.applied) == (wait, applied)


@pytest.mark.parametrize("error", [KeyFormatUnknown("orders", 2, "9.0"), RestoreUnfinished("orders", "ada")])
def test_a_workflow_whose_keys_cannot_be_read_is_unavailable(error: Exception) -> None:
    assert status_of(error) == 503


def answer_to(**parts: Any) -> Response:
    return answer_response(
        encode(RequestAnswer(**parts)).encode(), "/v1/workflows/w/runs/a", {"Headrace-Durability": "fast"}
    )


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ({"kind": "reply", "value": raw('{"n":1}')}, {"n": 1}),
        ({"kind": "reply", "value": raw("null")}, None),
        ({"kind": "waiting", "wait": "approval", "value": raw('"view"')}, "view"),
        ({"kind": "waiting", "wait": "approval"}, {"status": "waiting", "wait": "approval"}),
        ({"kind": "ended", "outcome": "completed", "value": raw("7")}, 7),
        ({"kind": "done"}, {"status": "done"}),
    ],
)
def test_a_caller_gets_what_its_request_was_answered(parts: dict[str, Any], body: Any) -> None:
    response = answer_to(**parts)

    assert (response.status_code, msgspec.json.decode(response.body)) == (200, body)
    assert response.headers["headrace-durability"] == "fast"


@pytest.mark.parametrize(
    ("parts", "status", "extra"),
    [
        (
            {"kind": "failed", "node": "charge", "reason": "error", "error": "OSError: no", "attempts": 3},
            422,
            {"node": "charge", "reason": "error", "attempts": 3},
        ),
        ({"kind": "failed", "reason": "late", "error": "too late"}, 409, {}),
        (
            {"kind": "ended", "outcome": "terminated", "value": raw('"by hand"')},
            409,
            {"run_status": "terminated", "reason": "by hand"},
        ),
    ],
)
def test_a_caller_whose_request_came_to_nothing_is_told_why(
    parts: dict[str, Any], status: int, extra: dict[str, Any]
) -> None:
    with pytest.raises(ProblemError) as raised:
        answer_to(**parts)

    assert raised.value.status == status
    assert raised.value.extra.items() >= {**extra, "run": "/v1/workflows/w/runs/a"}.items()
