"""A worker's part in a pause: it pulls nothing new from paused sources, and gives paused nodes no events.

What other partitions send goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.feeds import Feeds
from headrace.actors.pauses import ALL
from headrace.actors.spec import NODE
from headrace.sources.feeding import OnClosed
from headrace.workflows.plan import SourcePlan


class Pausing:
    """Holds sources of one worker back. Used from the worker's loop only.

    Args:
        sources: All of the plan.
        feeds: What is pulled from.
        on_closed: Told what a paused source had to tell, once it goes on.
        wake: Lets all partitions look again.
        closed: Where it is said which nodes are paused.
    """

    def __init__(
        self,
        sources: Collection[SourcePlan],
        feeds: Feeds,
        on_closed: OnClosed,
        wake: Callable[[], None],
        closed: ClosedNodes | None = None,
    ) -> None:
        self._by_name = {source.name: source.index for source in sources}
        self._feeds = feeds
        self._on_closed = on_closed
        self._wake = wake
        self._closed: list[tuple[int, int]] = []
        self.names: tuple[str, ...] = ()
        """What is paused now, as it was asked for: see `Pause.name`."""
        self._nodes = closed or ClosedNodes()

    def pause(self, names: Collection[str]) -> None:
        """From now on these are paused, and no others; a name that the plan has not is kept, and does nothing."""
        everything = self._by_name.values()
        paused = frozenset(
            everything if ALL in names else (self._by_name[name] for name in names if name in self._by_name)
        )
        self.names = tuple(sorted(names))
        self._feeds.pause(paused)
        self._nodes.paused = frozenset(name.removeprefix(NODE) for name in names if name.startswith(NODE))
        told, self._closed = self._closed, []
        for partition, source in told:
            self.closed(partition, source)
        self._wake()

    def closed(self, partition: int, source: int) -> None:
        """A source is closed and read to its end: what follows from that waits while it is paused."""
        if source in self._feeds.paused:
            self._closed.append((partition, source))
        else:
            self._on_closed(partition, source)
