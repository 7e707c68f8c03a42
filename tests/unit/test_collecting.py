"""How often the collector looks at a process that serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from headrace.collecting import collect_seldom
from headrace.gateway import serving
from headrace.gateway.settings import DEFAULTS


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    gc.set_threshold(*thresholds)
    if not frozen:
        gc.unfreeze()


def test_what_is_there_is_not_looked_at_again_and_what_comes_is_looked_at_seldom() -> None:
    frozen = gc.get_freeze_count()

    collect_seldom()

    assert gc.get_freeze_count() > frozen + 1_000
    assert gc.get_threshold()[0] >= 10_000


def test_a_process_of_the_gateway_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "configure_logs", lambda *_: None)

    serving._app("redis://127.0.0.1:1/0", DEFAULTS, None, "info", "auto")

    assert gc.get_threshold()[0] >= 10_000
