"""The quota of an outbox: by outputs and by bytes, freed as entries are trimmed whole."""

from __future__ import annotations

import pytest

from headrace.actors import outbox_size
from headrace.actors.outbox_size import OutboxSize


def test_what_is_put_in_counts_until_its_entry_is_trimmed_whole() -> None:
    size = OutboxSize()
    size.add(1, 3, 3)
    size.add(4, 2, 20)

    size.trim(2)
    assert (size.outputs, size.bytes) == (5, 23)
    size.trim(3)
    assert (size.outputs, size.bytes) == (2, 20)
    size.trim(5)
    assert (size.outputs, size.bytes) == (0, 0)


def test_it_is_full_by_outputs_or_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_size, "QUOTA", 3)
    monkeypatch.setattr(outbox_size, "QUOTA_BYTES", 100)
    size = OutboxSize()

    size.add(1, 3, 3)
    assert not size.full
    size.add(4, 1, 1)
    assert size.full
    size.trim(4)
    assert not size.full
    size.add(5, 1, 101)
    assert size.full
