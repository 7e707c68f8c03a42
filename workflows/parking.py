"""Events that stand still, durably: each before its node, those of a key in a queue behind the first.

An event stands still because its node failed and is to try again later, or because one of its key does so before the
same node. In a serial workflow, which has one event of a run in the graph at a time, all later events of the run
stand behind it, before their first node. The store keeps them; what is held here is who stands where, in which order,
and when the first of each queue is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import heappop, heappush, nsmallest
from itertools import chain, takewhile
from typing import Final, TypeAlias

import msgspec

from .records import Headers

PARKED: Final = "parked"
"""What records of parked events have in place of an origin; and the counter of a head with the last ticket's number."""
RETRY: Final = "retry"
"""Why one stands still: its node failed, and tries again when it is due."""
BEHIND: Final = "behind"
"""It stands behind one of its key."""
EARLY: Final = "early"
"""It is a message for a wait that its run has not reached."""
_KEPT: Final = "@"
"""What stands in place of the node of a message that is kept begins with it; the source's name follows."""


class Ticket(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A place in a queue. Compared, they give the order of their queue."""

    major: int
    """Number of the event that stood first; kept by what came of it, which stays ahead of those behind it."""
    minor: int
    """Number of its own."""
    node: str
    """Before which it stands; "": before where its source leads."""
    key: str
    asked: tuple[str, str] | None = None
    """Of a request that is to be answered: its id, and the channel of who waits for the answer."""

    @property
    def field(self) -> str:
        """What the store knows it by."""
        place = (self.major, self.minor, self.node, self.key)
        return msgspec.json.encode(place if self.asked is None else (*place, self.asked)).decode()


class Parked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that stands still, with all that is needed to go on with it."""

    id: str
    key: str
    source: str
    time: int
    """When the event happened: milliseconds since 1970 UTC."""
    data: bytes | None
    """JSON."""
    type: str = ""
    """What the data is; "": it is of its source's type."""
    headers: Headers = ()
    original: bytes | None = None
    """The value as it came, where that is not what `data` has."""
    visits: int = 0
    """Nodes that it had been through, with the one that it stands before."""
    request: str = ""
    reply: str = ""
    """Of a request: its id, and the channel of who waits for the answer."""
    reason: str = RETRY
    attempts: int = 0
    """How often its node has tried it."""
    error: str = ""
    """By which the last attempt failed."""
    since: int = 0
    """When it first stood still: milliseconds since 1970 UTC."""
    due: int = 0
    """When the next attempt is to be: milliseconds since 1970 UTC; 0: when it is the first of its queue."""
    depth: int = 0
    """As `Reentry` has it."""
    run: int = 0
    """Of a message that is kept: the number of the run that it came for."""
    timer: str = ""
    """What fell due and has not begun, see `timers.Due`; whether it still counts, shows when it goes on."""
    enters: str = ""
    """Name of the node that it goes back to, of a dead letter that has not begun; "": where its source leads."""
    falls: int = 0
    """Processes that had ended, perhaps with it in hand, when its last call was given up; see `Call.falls`."""


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Parked).decode
ticket_of: Final = msgspec.json.Decoder(Ticket).decode
NEVER: Final = -1
"""No time: it is not due by itself."""
Queue: TypeAlias = tuple[str, str]
"""(node, key) of a queue; the node is "" in a serial workflow."""


def kept_before(source: str) -> str:
    """What stands in place of the node of messages of this source that are kept."""
    return _KEPT + source


def is_kept(ticket: Ticket) -> bool:
    """Whether it is of a message that is kept until its run gets to the wait that it is for."""
    return ticket.node.startswith(_KEPT)


class Parking:
    """All queues of one partition.

    Args:
        serial: One queue for each key, whatever the nodes.
        last: Number of the last ticket that was given out.
        fields: Those that the store has.
        due: When the first of each queue is due, as the store has it: field -> milliseconds since 1970 UTC.
        renamed: Former name of a node -> the name that it has.
    """

    def __init__(
        self,
        *,
        serial: bool,
        last: int,
        fields: Iterable[str] = (),
        due: Mapping[str, int] | None = None,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self._renamed = dict(renamed or {})
        self._serial = serial
        self.last = last
        self._queues: dict[Queue, list[Ticket]] = {}
        self._nodes: dict[str, dict[str, int]] = {}
        """By key: how many stand before each of its nodes."""
        self._due: dict[Ticket, int] = {}
        self._first: dict[Queue, Ticket] = {}
        """By queue: the one in it that is due."""
        self._reach: dict[Queue, int] = {}
        """How many of a queue go on together the next time, where they are more than at first."""
        self._asked: dict[str, set[Ticket]] = {}
        """By request that is to be answered: its events that stand still, as of the last commit that was built."""
        self._heap: list[tuple[int, Ticket]] = []
        """(due, ticket), some of which are no longer so."""
        self._aside: list[tuple[int, Ticket]] = []
        """Those of them whose nodes get no events for now."""
        self.is_held: Callable[[Ticket], bool] | None = None
        """Says of which that is so; None: of none."""
        self.under_way: set[Ticket] = set()
        """New, or taken out to go on: the store does not have (all of) it yet, they are not taken before it does."""
        self.count = 0
        """How many stand still, without messages that are kept."""
        self.kept = 0
        self._long: Queue | None = None
        self._length = 0
        for ticket in sorted(map(ticket_of, fields)):
            self._put(ticket)
        times = {ticket_of(field): time for field, time in (due or {}).items()}
        for queue in self._queues.values():  # another version may have cut them otherwise: each has a first to go on
            if not is_kept(queue[0]) or queue[0] in times:
                self._set(queue[0], times.get(queue[0], 0))

    def blocks(self, key: str, node: str = "") -> int:
        """How many stand before the node (in a serial workflow: of the run, before whatever node)."""
        queue = self._queues.get(("" if self._serial else node, key))
        return len(queue) if queue else 0

    def length(self, queue: str, key: str) -> int:
        """How many messages are kept in a queue; see `kept_before`."""
        return len(self._queues.get((queue, key), ()))

    def is_first(self, queue: str, key: str, ticket: Ticket | None) -> bool:
        """Whether this one is the first message that is kept there; a new one (None): that there is none."""
        kept = self._queues.get((queue, key))
        return not kept or kept[0] == ticket

    def head(self, queue: str, key: str) -> Ticket | None:
        """The first message that is kept there."""
        kept = self._queues.get((queue, key))
        return kept[0] if kept else None

    def hold(self, ticket: Ticket) -> bool:
        """It is not due (any more). Returns whether it was."""
        if self._due.pop(ticket, None) is None:
            return False
        self._first.pop(self.queue(ticket), None)
        return True

    @property
    def longest(self) -> int:
        """Length of the longest queue, or of one that was the longest a while ago and still has as many."""
        if self._long is not None and len(self._queues.get(self._long, ())) < self._length:
            names = (name for name in self._queues if not name[0].startswith(_KEPT))
            self._long = max(names, key=lambda name: len(self._queues[name]), default=None)
            self._length = len(self._queues[self._long]) if self._long is not None else 0
        return self._length

    @property
    def nodes(self) -> Mapping[str, Collection[str]]:
        """By key: nodes before which events of it stand."""
        return self._nodes

    def by_node(self) -> Counter[str]:
        """How many stand before each node; "": those that have not begun."""
        return sum(map(Counter, self._nodes.values()), Counter[str]())

    def has_of(self, request: str) -> bool:
        """Whether an event of a request stands still; see `close`."""
        return request in self._asked

    def close(self, ticket: Ticket) -> None:
        """In the commit that is built now, it stands still no longer: what comes later may have gone on already."""
        if ticket.asked is not None and (tickets := self._asked.get(ticket.asked[0])) is not None:
            tickets.discard(ticket)
            if not tickets:
                del self._asked[ticket.asked[0]]

    def ticket(self, node: str, key: str, after: Ticket | None = None, asked: tuple[str, str] | None = None) -> Ticket:
        """A new place, at the end of its queue; or ahead of what stands behind `after`, which it came of."""
        self.last += 1
        major = self.last if after is None or not self._serial else after.major
        ticket = Ticket(major, self.last, node, key, asked)
        self._put(ticket)
        self.under_way.add(ticket)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """It goes on, or is no more."""
        queue = self._queues[self.queue(ticket)]
        queue.remove(ticket)
        if not queue:
            del self._queues[self.queue(ticket)]
        self._due.pop(ticket, None)
        if is_kept(ticket):
            self.kept -= 1
            return
        nodes = self._nodes[ticket.key]
        name = self.name(ticket)
        nodes[name] -= 1
        if not nodes[name]:
            del nodes[name]
            if not nodes:
                del self._nodes[ticket.key]
        self.count -= 1

    def settle(self, queues: Iterable[Queue], wanted: Mapping[Ticket, int], now: int) -> dict[Ticket, int | None]:
        """Only the first of a queue is due, by its own wait or at once. Returns what is new: None: not due any more.

        Args:
            queues: Those that have changed.
            wanted: When those that wait are to be tried again.
            now: Milliseconds since 1970 UTC.
        """
        changed: dict[Ticket, int | None] = {}
        for name in queues:
            queue, before = self._queues.get(name), self._first.get(name)
            first = queue[0] if queue else None
            if before is not None and before != first and self._due.pop(before, None) is not None:
                changed[before] = None
            if first is None:
                self._first.pop(name, None)
                self._reach.pop(name, None)
                continue
            if first in wanted:
                self._reach.pop(name, None)
            time = wanted.get(first, self._due.get(first, NEVER if is_kept(first) else now))
            if time == NEVER:
                self._first.pop(name, None)
                continue
            if self._due.get(first) != time:
                self._set(first, time)
                changed[first] = time
        return changed

    def next_due(self) -> int | None:
        """When the next one is due: milliseconds since 1970 UTC; None: none stands still that is not under way."""
        heap = self._heap
        while heap:
            time, ticket = heap[0]
            if self._due.get(ticket) != time or ticket in self.under_way:
                heappop(heap)
            elif self.is_held is not None and self.is_held(ticket):
                self._aside.append(heappop(heap))
            else:
                return time
        return None

    def look_again(self) -> None:
        """Other nodes than before get no events: see `is_held`."""
        for row in self._aside:
            heappush(self._heap, row)
        self._aside.clear()

    def take(self, now: int, limit: int, together: int) -> list[Ticket]:
        """Those that are to go on now, each with some of those behind it, in order. They are under way from here on.

        Those behind the first one come in vain if it fails again. So there are few of them at first, and more each time
        that all of them have gone on.

        Args:
            now: Milliseconds since 1970 UTC.
            limit: Queues, and events of one queue, that go on together, at most.
            together: Events of a queue that go on together at first.
        """
        due: list[Ticket] = []
        while len(due) < limit and (time := self.next_due()) is not None and time <= now:
            first = heappop(self._heap)[1]
            self.under_way.add(first)
            due.append(first)
        taken: list[Ticket] = []
        for first in due:
            name = self.queue(first)
            reach = limit
            if not is_kept(first):
                reach = self._reach.get(name, together)
                self._reach[name] = min(limit, 2 * reach)
            taken.append(first)
            taken += takewhile(self._is_settled, self._queues[name][1:reach])
        self.under_way.update(taken)
        return taken

    def surplus(self, most: int, most_of_queue: int, spared: Collection[Ticket] = ()) -> list[Ticket]:
        """The oldest, without which no more than `most` stand still, and `most_of_queue` in each queue.

        Those of a queue are the first ones of it; what is under way, kept or `spared` stays. The oldest come first.
        """
        queues = [queue for queue in self._queues.values() if not is_kept(queue[0])]
        settled = [list(takewhile(self._is_settled, queue)) for queue in queues]
        settled = [[ticket for ticket in queue if ticket not in spared] for queue in settled] if spared else settled
        over = [len(queue) - most_of_queue for queue in queues]
        chosen = {ticket for queue, count in zip(settled, over, strict=True) for ticket in queue[: max(0, count)]}
        rest = self.count - len(chosen) - most
        if rest > 0:
            chosen.update(nsmallest(rest, (ticket for ticket in chain(*settled) if ticket not in chosen)))
        return sorted(chosen)

    def committed(self, tickets: Iterable[Ticket]) -> None:
        """What became of these is in the store."""
        for ticket in tickets:
            self.under_way.discard(ticket)
            if ticket in self._due:
                heappush(self._heap, (self._due[ticket], ticket))

    def of_run(self, key: str) -> list[Ticket]:
        """All that stand before nodes, not those that have not begun: what ends with their run."""
        return [ticket for ticket in self.of_key(key) if ticket.node]

    def of_key(self, key: str) -> list[Ticket]:
        """All events of a key that stand still."""
        if key not in self._nodes:
            return []
        names: Iterable[str] = ("",) if self._serial else self._nodes[key]
        return list(chain(*(self._queues.get((name, key), ()) for name in names)))

    def kept_of(self, key: str) -> list[Ticket]:
        """Messages that are kept for a key; looks through all queues."""
        return [row for (_, of), queue in self._queues.items() if of == key for row in queue if is_kept(row)]

    def has(self, ticket: Ticket) -> bool:
        """Whether it still stands."""
        return ticket in self._queues.get(self.queue(ticket), ())

    def queue(self, ticket: Ticket) -> Queue:
        """The queue that it stands in."""
        if is_kept(ticket):
            return ticket.node, ticket.key
        return "" if self._serial else self.name(ticket), ticket.key

    def _is_settled(self, ticket: Ticket) -> bool:
        return ticket not in self.under_way

    def name(self, ticket: Ticket) -> str:
        """Of its node, as this version has it."""
        return self._renamed.get(ticket.node, ticket.node)

    def _put(self, ticket: Ticket) -> None:
        queue = self._queues.setdefault(self.queue(ticket), [])
        queue.append(ticket)
        if len(queue) > 1 and queue[-2] > ticket:
            queue.sort()
        if ticket.asked is not None:
            self._asked.setdefault(ticket.asked[0], set()).add(ticket)
        if is_kept(ticket):
            self.kept += 1
            return
        if len(queue) > self._length:
            self._long, self._length = self.queue(ticket), len(queue)
        nodes = self._nodes.setdefault(ticket.key, {})
        name = self.name(ticket)
        nodes[name] = nodes.get(name, 0) + 1
        self.count += 1

    def _set(self, ticket: Ticket, time: int) -> None:
        self._due[ticket] = time
        self._first[self.queue(ticket)] = ticket
        heappush(self._heap, (time, ticket))
