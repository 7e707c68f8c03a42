"""What a node can do besides returning something."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace import CodecError, Context, Event
from headrace.workflows.context import Replied, Run


def context() -> Context[None, None]:
    made = Context[None, None]("orders", "ask")
    made._event = Event("data", "o1", "inbox", 5)
    return made


def test_a_reply_is_collected_as_it_was_when_it_was_given() -> None:
    ctx = context()
    answer = {"status": "waiting"}

    ctx.reply(answer)
    answer["status"] = "changed later"

    assert ctx._effects == [Replied('{"status":"waiting"}')]


def test_a_reply_that_json_cannot_carry_is_refused_where_it_is_given() -> None:
    with pytest.raises(CodecError, match=r"JSON can't carry nan - at `\$.total`"):
        context().reply({"total": float("nan")})


def test_the_idempotency_key_names_event_node_and_hop() -> None:
    ctx = context()
    ctx._hop = 2

    assert ctx.idempotency_key == "inbox/5/ask/2"


def test_now_is_the_time_that_the_runner_set() -> None:
    ctx = context()
    ctx._now_ms = 1_500

    assert ctx.now == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_the_run_has_an_address_and_the_shared_state() -> None:
    ctx = context()

    assert (ctx.run.id, ctx.run.key) == ("orders/o1", "o1")
    assert ctx.run.state is None
    ctx._run = Run("orders", "o1", None)
    assert ctx.run is ctx._run
