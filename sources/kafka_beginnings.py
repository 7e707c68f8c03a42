"""Where reading of a log begins, and what becomes of one that no longer has what is to be read next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from headrace.sources.kafka_extent import LogExtent
from headrace.sources.kafka_log import Gap, Log
from headrace.sources.problems import Problems
from headrace.workflows.plan import SourcePlan

logger = structlog.get_logger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Start: TypeAlias = Literal["earliest", "latest"] | datetime


class Begins(Protocol):
    """The part of a Kafka source's settings that says where to begin."""

    @property
    def start(self) -> Start:
        """Where to begin when the store has no position."""
        ...

    @property
    def on_gap(self) -> Literal["fail", "earliest", "latest"]:
        """What to do when records were lost before they were read."""
        ...


class Beginnings:
    """Decides for each log, once its extent is known.

    Args:
        sources: Plans of the sources, by index; their settings are `Begins`.
        problems: Told of gaps and lost logs.
        on_ready: Called with a partition for which a position was decided.
    """

    def __init__(self, sources: Mapping[int, SourcePlan], problems: Problems, on_ready: Callable[[int], None]) -> None:
        self._sources = sources
        self._problems = problems
        self._on_ready = on_ready
        self.gaps: list[Gap] = []
        """What was lost before it could be read, in the order it was found out."""

    def time_of(self, log: Log) -> int | None:
        """Milliseconds since 1970 UTC: the log begins with the first record from then on; None: no time decides."""
        start = self._settings(log).start
        if log.from_start or _wanted(log) is not None or not isinstance(start, datetime):
            return None
        return -((_EPOCH - start) // timedelta(milliseconds=1))  # the first whole millisecond from then on

    def resolve(self, log: Log, extent: LogExtent, at: int | None) -> None:
        """Where a log without a position begins, or what to do about one that the log does not reach.

        Args:
            log: Not to be fetched before.
            extent: What the broker has of it.
            at: First offset from `time_of` on; None where that is None, or the log has nothing so late.
        """
        log.high_watermark = extent.high
        wanted = _wanted(log)
        if wanted is None:
            self._begin(log, extent, at)
        elif wanted < extent.first:
            self._gap(log, wanted, extent)
        elif wanted > extent.high:
            self.lost(
                log,
                f"{log.origin} ends at offset {extent.high}, but its state is as of offset {wanted}: the broker has"
                " lost records (or the topic was made again). Restore the topic, or remove the workflow's state with"
                " it.",
            )
        else:
            log.fetch_offset = wanted

    def lost(self, log: Log, sentence: str) -> None:
        """The log is not the one that its state is of: it stands still."""
        log.stopped = True
        log.pieces.clear()
        logger.error("log_lost", origin=log.origin, reason=sentence)
        self._problems.tell("log_lost", log.origin, sentence)

    def vanished(self, log: Log) -> None:
        """Its topic is gone: named, unless all it had was read, or may be missed."""
        if log.caught_up or self._settings(log).on_gap != "fail":
            if log.readable:
                logger.warning("topic_gone", topic=log.topic, origin=log.origin, position=log.position)
                log.fetch_offset = None
            return
        sentence = (
            f"The topic {log.topic!r} is gone, and {log.origin} may not have been read to its end (it was read to"
            f" offset {log.position}). Bring it back; or give the source on_gap='earliest' if that may be missed."
        )
        if self._problems.tell("topic_gone", log.origin, sentence):
            logger.warning("topic_gone", topic=log.topic, origin=log.origin, position=log.position)

    def _begin(self, log: Log, extent: LogExtent, at: int | None) -> None:
        start = self._settings(log).start
        if log.from_start or start == "earliest":
            log.start_at(extent.first)
            return
        # What was decided here depends on when it was: it is kept before anything comes.
        log.start_at(extent.stable if at is None else min(max(at, extent.first), extent.stable))
        log.announce = True
        self._on_ready(log.owner)

    def _gap(self, log: Log, wanted: int, extent: LogExtent) -> None:
        action = self._settings(log).on_gap
        after = max(extent.stable, extent.first) if action == "latest" else extent.first
        gap = Gap(log.origin, wanted, after, action)
        self.gaps.append(gap)
        if action == "fail":
            log.stopped = True
            sentence = f"{gap} It stands still; choose on_gap='earliest' or 'latest' to go on without them."
        else:
            log.fetch_offset = after
            log.gap = gap
            self._on_ready(log.owner)
            sentence = f"{gap} Reading goes on at offset {after}."
        logger.warning("gap", origin=gap.origin, first=gap.first, after=gap.after, action=action)
        self._problems.tell("gap", log.origin, sentence)

    def _settings(self, log: Log) -> Begins:
        settings: Begins = self._sources[log.source].source
        return settings


def _wanted(log: Log) -> int | None:
    """The offset that is to be fetched next, if it is known."""
    return log.pieces[-1].end if log.pieces else log.position
