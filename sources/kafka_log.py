"""One topic partition as a worker reads it: where it is, what has arrived, and why it stands still."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from headrace.sources.kafka_batches import Columns, CorruptBatch, FetchedBatches
from headrace.workflows.records import Records

FETCH_BELOW: Final = 2 << 20
"""Bytes left in the buffer under which the next fetch goes out (it brings 4 MiB at most)."""


def position_of(offset: int, topic_id: str | None) -> str:
    """A position as it is kept with the states: `1734`, or `1734@<topic id>` where the broker gives ids.

    The id tells a topic that was deleted and made again from the one that was read: offsets alone would
    be followed into another log.
    """
    return str(offset) if topic_id is None else f"{offset}@{topic_id}"


def offset_of(position: str) -> int:
    """The offset of a position made by `position_of`."""
    return int(position.partition("@")[0])


def topic_id_of(position: str) -> str | None:
    """The topic id of a position made by `position_of`."""
    return position.partition("@")[2] or None


_FRESH_ANSWERS: Final = 2
"""After so many the request behind the last one was sent later than the count began."""


class Predecessor:
    """A log that has to be handed over, to the end it has now, before another one begins."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._answers = log.answers + _FRESH_ANSWERS
        self._end: int | None = None

    @property
    def done(self) -> bool:
        """It has been handed over so far (or is not read here any more)."""
        log = self._log
        if self._end is None and log.answers >= self._answers:
            self._end = log.high_watermark
        return log.dropped or (self._end is not None and (log.position or 0) >= self._end)


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that a log lost before they were read."""

    origin: str
    first: int
    """First offset that is missing."""
    after: int
    """Offset after the last one that is missing (`on_gap="latest"`: that was passed over)."""
    action: str
    """`fail`, `earliest` or `latest`."""

    def __str__(self) -> str:
        return f"{self.origin} has lost offsets {self.first} to {self.after - 1} before they were read (retention)."


@dataclass(slots=True, eq=False)
class Log:
    """State of one topic partition; made new at each assignment, so an answer to an older one finds nothing."""

    source: int
    origin: str
    topic: str
    number: int
    """Of the topic partition."""
    owner: int
    """The partition of the workflow that it feeds."""
    topic_id: str | None
    leader: int
    fetch_offset: int | None = None
    """Where the next fetch begins; None: still to be found out."""
    position: int | None = None
    """Offset after what was handed over."""
    high_watermark: int = -1
    """End of the log for readers, when the broker last told; -1: not known yet."""
    pieces: deque[FetchedBatches] = field(default_factory=deque)
    dropped: bool = False
    """No longer read here: what still arrives for it is thrown away."""
    stopped: bool = False
    """Stands still for a reason that is named, until it is assigned again."""
    from_start: bool = False
    """Joined a topic that is being read already: begins at its start, whatever the source says."""
    behind: list[Predecessor] = field(default_factory=list)
    """What must have been handed over of other logs before this one may be fetched."""
    answers: int = 0
    """Fetches of it that were answered."""
    announce: bool = False
    """Its position was decided here (end of the log), and must be kept before anything comes."""
    gap: Gap | None = None
    """What it has lost from `position` on: told in a dead letter, in the commit that goes on behind it."""
    not_before: float = 0.0
    """On the loop's clock: fetched no earlier, after an error."""
    beyond_since: float | None = None
    """On the loop's clock: since when the broker says that the log ends before our position."""
    identity: str = field(init=False)
    """What ids of its events begin with: `readings/3@<topic id>`. A topic made again gives other ids."""

    def __post_init__(self) -> None:
        self.identity = self.origin if self.topic_id is None else f"{self.origin}@{self.topic_id}"

    @property
    def remaining(self) -> int:
        """Bytes in the buffer that are still to be handed over, about."""
        return sum(piece.remaining for piece in self.pieces)

    @property
    def begun(self) -> bool:
        """Nothing has to be read elsewhere first."""
        if self.behind:
            self.behind = [older for older in self.behind if not older.done]
        return not self.behind

    @property
    def has_room(self) -> bool:
        """Its buffer is low enough for the next fetch."""
        return self.remaining < FETCH_BELOW

    @property
    def readable(self) -> bool:
        """To be fetched, as far as this log itself is concerned."""
        return not (self.dropped or self.stopped) and self.fetch_offset is not None and self.begun

    @property
    def caught_up(self) -> bool:
        """Everything that the broker had, when it last told, has been handed over."""
        return 0 <= self.high_watermark <= (self.position or 0)

    def start_at(self, offset: int) -> None:
        """Read on from `offset`; what is in the buffer goes."""
        self.pieces.clear()
        self.fetch_offset = self.position = offset
        self.beyond_since = None

    def arrived(self, piece: FetchedBatches) -> None:
        """A fetch brought something; the next one goes on behind it."""
        self.pieces.append(piece)
        self.fetch_offset = piece.end

    def pull(self, limit: int) -> tuple[Records | None, CorruptBatch | None]:
        """At most `limit` records; with an error, what came before it is good and the rest of the buffer is gone."""
        if self._at_gap:
            return self._lost(), None
        columns = Columns()
        corrupt: CorruptBatch | None = None
        pieces = self.pieces
        while pieces and len(columns.offsets) < limit and not self._at_gap:
            piece = pieces[0]
            try:
                piece.take(columns, limit - len(columns.offsets))
            except CorruptBatch as error:
                corrupt = error
                self.start_at(piece.position)
                break
            self.position = piece.position
            if not piece.done:
                break
            pieces.popleft()
        if not columns.offsets and not self.announce:
            return None, corrupt
        self.announce = False
        records = Records(
            source=self.source,
            origin=self.origin,
            offsets=columns.offsets,
            times=columns.times,
            keys=columns.keys,
            values=columns.values,
            after=position_of(self.position or 0, self.topic_id),
            headers=columns.headers(),
            topic=self.topic,
            log=self.identity,
        )
        return records, corrupt

    @property
    def has_news(self) -> bool:
        """There is something to pull."""
        return bool(self.pieces) or self.announce or self._at_gap

    @property
    def _at_gap(self) -> bool:
        return self.gap is not None and self.position == self.gap.first

    def _lost(self) -> Records:
        """One record that stands for all that are missing."""
        gap, self.gap = self.gap, None
        assert gap is not None, "asked for at one only"
        self.position = gap.after
        return Records(
            source=self.source, origin=self.origin, offsets=[gap.first], times=[0], keys=[None], values=[None],
            after=position_of(gap.after, self.topic_id), topic=self.topic, log=self.identity,
            faults={0: str(gap)}, gaps=frozenset({0}),
        )  # fmt: skip
