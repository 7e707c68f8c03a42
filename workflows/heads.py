"""Heads of partitions, as the store keeps them: fields of a hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .commit import Head

RESERVED_FIELDS = frozenset({
    "owner", "sequence", "term", "placement", "worker", "since", "torn", "torn_reason", "outbox", "deployment",
    "acquirer", "attempt", "touched", "falls", "released",
})  # fmt: skip
"""Fields of a head that are no counters."""


def head_of(owner: str, fields: Mapping[str, str], positions: Mapping[str, str]) -> Head:
    """A head from the text that the store keeps of it."""
    extra: dict[str, Any] = {name: value for name, value in fields.items() if name in RESERVED_FIELDS}
    return Head(
        owner=owner,
        sequence=int(fields.get("sequence", "0")),
        counters={name: int(value) for name, value in fields.items() if name not in RESERVED_FIELDS},
        outbox=int(fields.get("outbox", "0")),
        positions=dict(positions),
        extra=extra,
    )
