"""What the core of a partition asks of whoever drives it, and the sizes that it keeps to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from .calls import Hasten
from .dispatch import Dispatch
from .intake import EVENT_CAP
from .parking import Ticket
from .saving import Save


@dataclass(slots=True)
class Load:
    """Instruction: read these runs from the store; answer by `loaded`."""

    keys: list[str]


@dataclass(slots=True)
class Recall:
    """Instruction: read these events that stand still from the store; answer by `recalled`."""

    tickets: list[Ticket]


@dataclass(slots=True)
class Ring:
    """Instruction: ask the store for what is due until `before`, at most `limit`; answer by `rang`."""

    before: int
    """Milliseconds since 1970 UTC."""
    limit: int


@dataclass(slots=True)
class Tell:
    """Instruction: tell units this, beside the calls that they have; nothing is answered."""

    units: Collection[int]
    hasten: Hasten


Instruction: TypeAlias = Load | Recall | Ring | Dispatch | Save | Tell


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that keep one partition's memory bounded."""

    epochs_in_flight: int = 3
    held_runs: int = 100_000
    """Runs whose state is kept in memory."""
    event_cap: int = EVENT_CAP
    parked: int = 10_000
    """Events that may stand still; beyond it, no more are taken from sources until some have gone on."""
    parked_of_key: int = 1_000
    """The same of one key."""
    kept_of_run: int = 20_000
    """Messages of one source that are kept for one run, until it gets to a wait for them."""
    recall: int = 500
    """Queues of events that stood still, of which some go on together, at most."""
    together: int = 4
    """Events of one queue of those that go on together at first: of as many, one in four goes on, where three of ten
    attempts fail."""
    soon: int = 250
    """Milliseconds that an epoch of many events may last for those of its events that are tried again by then: from its
    first failure on, if nothing is before it; four times as many while others are."""
    soon_from: int = 64
    """Events that such an epoch has at least: fewer are no backlog, and others should not wait for some of them."""
    soon_tick: int = 10
    """Milliseconds: what is due within one of these goes on together, at its end."""
    waiting_soon: int = 8_000
    """Events of an epoch that wait so at the same time, beyond which they are parked."""
    patience: int = 1_000
    """Milliseconds that a run which people end waits for calls of its partition; those that take longer are given
    up."""
    firings: int = 1_000
    """Timers and time-outs that fall due together, at most."""
