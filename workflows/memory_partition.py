"""What `MemoryStore` holds of a partition."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from headrace.workflows.commit import Callback, Commit, DeadLetter, Reply
from headrace.workflows.retention import CAPS, Kept, LettersKept, Retention, trimmed
from headrace.workflows.run_streams import RunStreams
from headrace.workflows.store import Chunk
from headrace.workflows.stream_entry import StreamEntry


@dataclass(slots=True)
class Partition:
    """All that is held of one partition."""

    fields: dict[str, str] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    outbox: list[Chunk] = field(default_factory=list)
    dead: list[Kept] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """By limit: dead letters that were dropped for it."""
    replies: dict[str, str] = field(default_factory=dict)
    run_streams: RunStreams = field(default_factory=RunStreams)
    callbacks: dict[str, Callback] = field(default_factory=dict)
    """By id; nobody sends them."""
    replies_until: dict[str, int] = field(default_factory=dict)
    streams: dict[str, list[StreamEntry]] = field(default_factory=dict)
    origins: dict[str, int] = field(default_factory=dict)
    parked: dict[str, bytes] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    appended: int = 0
    closed: set[str] = field(default_factory=set)

    def copied(self) -> Partition:
        """As it is now: values are replaced, never changed, so a shallow copy of each part is enough."""
        kept = replace(self, **{name: copy.copy(getattr(self, name)) for name in self.__slots__})
        kept.streams = {name: list(entries) for name, entries in self.streams.items()}
        return kept

    def answer(self, commit: Commit, now: int) -> list[Reply]:
        """Write down a commit's answers to requests. Returns those that are the first ones."""
        replies, farewell = list(commit.replies), commit.farewell
        if farewell is not None:
            waiting = [entry for entry in self.streams.get("inbox", ()) if entry.reply]
            replies += [Reply(row.event, row.reply or "", farewell.body, farewell.keep) for row in waiting]
        new: list[Reply] = []
        for reply in replies:
            if reply.request not in self.replies:
                self.replies[reply.request] = reply.body
                self.replies_until[reply.request] = now + reply.keep
                new.append(reply)
        return new

    def settle_times(self, commit: Commit) -> None:
        """What a commit says of what stands still, and of what falls due."""
        for ticket in commit.unparked:
            self.parked.pop(ticket, None)
        for ticket in (*commit.unparked, *commit.not_due):
            self.due.pop(ticket, None)
        self.parked.update(commit.parked)
        self.due.update(commit.due)
        for member in commit.no_timers:
            self.timers.pop(member, None)
        self.timers.update(commit.timers)

    def settle_streams(self, commit: Commit, now: int) -> None:
        """What a commit says of streams."""
        for key in commit.fresh:
            if key not in commit.runs:
                self.run_streams.forget(key)
                self.callbacks = {id_: row for id_, row in self.callbacks.items() if row.run != key}
        for place in commit.sealed:
            self.run_streams.seal(place)
        for place in commit.void:
            self.run_streams.cut(place)
        for key, number in commit.ended_runs.items():
            until = now + commit.ended[key] if key in commit.ended else None
            self.run_streams.end(key, number, self.runs[key]["status"].decode(), until)

    def expire(self, now: int) -> None:
        """Forget what has been kept for long enough."""
        for key in [key for key, kept in self.kept.items() if int(self.runs[key]["ended"]) + kept <= now]:
            del self.runs[key], self.kept[key]
        self.run_streams.expire(now)
        for request in [request for request, until in self.replies_until.items() if until <= now]:
            del self.replies[request], self.replies_until[request]

    def bury(self, letters: Sequence[DeadLetter], retention: Retention, now: int) -> None:
        """Add dead letters, and drop those that are over a limit."""
        for letter in letters:
            self.appended += 1
            self.dead.append(Kept(f"{self.appended}-0", letter, now, len(msgspec.msgpack.encode(letter))))
        self.dead, dropped = trimmed(self.dead, retention, now)
        self.dropped.update(dropped)

    @property
    def letters(self) -> LettersKept:
        """What there is of dead letters."""
        dropped: dict[str, int] = {cap: self.dropped[cap] for cap in CAPS}
        return LettersKept(count=len(self.dead), bytes=sum(row.size for row in self.dead), dropped=dropped)
