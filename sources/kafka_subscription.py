"""Which source reads which topic: by its name, or by a pattern that topics which appear later may match, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from headrace.sources.kafka_metadata import Topic
from headrace.sources.problems import Problems
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import SourcePlan

logger = structlog.get_logger(__name__)

_NOBODYS = ("__", "headrace.")
"""How names of topics begin that no pattern matches: those of Kafka, of other tools, and our own."""


class ReadsTopic(Protocol):
    """The part of a Kafka source's settings that says what it reads."""

    @property
    def topic(self) -> str | re.Pattern[str]:
        """A topic's name in the cluster, or what names of topics must match as a whole."""
        ...


def reads(source: ReadsTopic, topic: str) -> bool:
    """Whether a source reads the topic of this name."""
    if isinstance(source.topic, str):
        return source.topic == topic
    return source.topic.fullmatch(topic) is not None and not topic.startswith(_NOBODYS)


def origin_of(plan: SourcePlan, topic: str, number: int) -> str:
    """Name of a log in positions and event ids: unique in the workflow, and the same for ever."""
    settings: ReadsTopic = plan.source
    return f"{plan.name}/{number}" if isinstance(settings.topic, str) else f"{plan.name}/{topic}/{number}"


def begun_mark(plan: SourcePlan) -> str:
    """Origin of the position that says: this source has begun here, so topics that appear are new."""
    return f"{plan.name}/*"


class Subscription:
    """The topics of all Kafka sources of one cluster.

    Args:
        sources: Their plans.
        problems: Told of topics that are missing, or claimed twice.

    Raises:
        HeadraceError: Two of the sources read the same topic.
    """

    def __init__(self, sources: Sequence[SourcePlan], problems: Problems) -> None:
        self._problems = problems
        self._named: dict[str, SourcePlan] = {}
        self._patterns: list[SourcePlan] = []
        for plan in sources:
            settings: ReadsTopic = plan.source
            if not isinstance(settings.topic, str):
                self._patterns.append(plan)
            elif settings.topic in self._named:
                raise HeadraceError(
                    f"two sources read the topic {settings.topic!r}: make it one source, with a route to each"
                )
            else:
                self._named[settings.topic] = plan

    @property
    def names(self) -> set[str]:
        """Topics that are read by name."""
        return set(self._named)

    @property
    def has_patterns(self) -> bool:
        """Topics that appear must be looked for."""
        return bool(self._patterns)

    def match(self, topics: Mapping[str, Topic]) -> list[tuple[Topic, SourcePlan]]:
        """Topics that exist, with the source that reads each; names what is missing or claimed twice."""
        found = [(topics[name], plan) for name, plan in self._named.items() if name in topics]
        self._tell_missing((name for name in self._named if name not in topics), topics)
        matched = dict.fromkeys((plan.index for plan in self._patterns), 0)
        for name in sorted(topics):
            if topics[name].internal:
                continue
            claims = [plan for plan in self._patterns if reads(plan.source, name)]
            for plan in claims:
                matched[plan.index] += 1
            if name in self._named:
                claims.append(self._named[name])
            if len(claims) > 1:
                self._tell_twice(name, claims)
                found = [pair for pair in found if pair[0].name != name]
            elif claims and name not in self._named:
                found.append((topics[name], claims[0]))
        for plan in self._patterns:
            self._tell_unmatched(plan, matched[plan.index])
        return found

    def plans(self) -> Sequence[SourcePlan]:
        """All sources."""
        return [*self._named.values(), *self._patterns]

    def patterns(self) -> Sequence[SourcePlan]:
        """Sources that read what matches."""
        return self._patterns

    def _tell_missing(self, missing: Iterable[str], topics: Mapping[str, Topic]) -> None:
        for name in topics.keys() & self._named.keys():
            self._problems.solved("topic_missing", name)
        for name in missing:
            sentence = f"The topic {name!r} does not exist. Headrace waits for it; create it, or correct the name."
            if self._problems.tell("topic_missing", name, sentence):
                logger.warning("topic_missing", topic=name)

    def _tell_unmatched(self, plan: SourcePlan, matched: int) -> None:
        if matched:
            self._problems.solved("topic_missing", f"pattern of {plan.name}")
            return
        pattern: re.Pattern[str] = plan.source.topic
        sentence = (
            f"No topic matches {pattern.pattern!r} of {plan.name}. Headrace looks again every few seconds; create one, "
            "or correct the pattern (it must match the whole name)."
        )
        if self._problems.tell("topic_missing", f"pattern of {plan.name}", sentence):
            logger.warning("topic_missing", source=plan.name, pattern=pattern.pattern)

    def _tell_twice(self, name: str, claims: Sequence[SourcePlan]) -> None:
        names = " and ".join(sorted(plan.name for plan in claims))
        sentence = (
            f"The topic {name!r} is read by {names}: so by none of them. Change a pattern so that it matches one of "
            "them only, and route that source to all that need it."
        )
        if self._problems.tell("topic_twice", name, sentence):
            logger.error("topic_twice", topic=name, sources=names)
