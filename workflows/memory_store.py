"""A store in plain dicts, for the test kit: the same answers as the real one, without a server or `await`.

It also does on purpose what a server does by accident: lose its last commits, or stop in the middle of one.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from headrace.workflows.commit import Answer, Commit, DeadLetter, Head, Output, Reply
from headrace.workflows.errors import SourceClosed
from headrace.workflows.heads import RESERVED_FIELDS, head_of
from headrace.workflows.keyspace import INTERNAL
from headrace.workflows.memory_partition import Partition
from headrace.workflows.retention import KEPT, LettersKept, Retention
from headrace.workflows.run_streams import RunStreams
from headrace.workflows.store import (
    Chunk,
    DestinationEnded,
    PartitionTorn,
    Sender,
    SenderLost,
    StalePlacement,
    StoreFull,
    TransfersMissing,
)
from headrace.workflows.stream_entry import StreamEntry, order
from headrace.workflows.transfers import internal_full


class MemoryStore:
    """The partitions of one workflow, in memory. Methods as in `StoreContract`, without `await`.

    Args:
        workflow: Its name.
        channels: Channel sources of the workflow: name -> places in each partition.
        history: How many commits of a partition `roll_back` can take back.
        token: Makes owner tokens; counts them by default, so that tests repeat.
        on_reply: Called with each first answer to a request.
        retention: How long and how many dead letters are kept.
    """

    def __init__(
        self,
        *,
        workflow: str = "workflow",
        channels: Mapping[str, int] | None = None,
        history: int = 16,
        token: Callable[[], str] | None = None,
        on_reply: Callable[[Reply], None] | None = None,
        retention: Retention = KEPT,
    ) -> None:
        self.workflow = workflow
        self._channels = dict(channels or {})
        self._partitions: defaultdict[int, Partition] = defaultdict(Partition)
        self._before: dict[int, deque[Partition]] = {}
        self._history = history
        numbers = itertools.count(1)
        self._token = token or (lambda: f"owner-{next(numbers)}")
        self._on_reply = on_reply
        self._retention = retention
        self.now = 0
        """Milliseconds since 1970 UTC: it has no clock of its own."""
        self._tear_next: set[int] = set()
        self.life = 1
        """Another number after each roll-back, as a server has another run id after a restart."""
        self._lives: dict[str, int] = {}

    def _of(self, partition: int) -> Partition:
        return self._partitions[partition]

    def taken_over(
        self,
        channels: Mapping[str, int],
        retention: Retention,
        edit: Callable[[str, dict[str, bytes]], dict[str, bytes]],
    ) -> MemoryStore:
        """A copy for another version of the workflow: its channels and limits, each run's hash as `edit` has it."""
        store = copy.deepcopy(self)
        store._channels, store._retention = dict(channels), retention
        for held in store._partitions.values():
            held.runs = {key: edit(key, fields) for key, fields in held.runs.items()}
        return store

    def acquire(self, partition: int, *, term: int, placement: int, worker: str) -> Head:
        """Become the partition's owner; see `StoreContract.acquire`."""
        held = self._of(partition)
        fields = held.fields
        if "torn" in fields:
            raise PartitionTorn(partition, fields["torn"], fields.get("torn_reason", ""))
        stored = (int(fields.get("term", "0")), int(fields.get("placement", "0")))
        if (term, placement) < stored:
            raise StalePlacement(partition, (term, placement), stored)
        owner = self._token()
        self._lives[owner] = self.life
        falls = 0 if "released" in fields else int(fields.get("falls", "0")) + (fields.get("worker", worker) != worker)
        fields.pop("released", None)
        fields.update(owner=owner, term=str(term), placement=str(placement), worker=worker, falls=str(falls))
        held.run_streams.cut_all()
        head = head_of(owner, fields, held.positions)
        head.parked, head.due = list(held.parked), dict(held.due)
        head.first_timer = min(held.timers.values(), default=None)
        return head

    def parked(self, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        """Events that stand still; see `StoreContract.parked`."""
        held = self._of(partition).parked
        return [held.get(field) for field in fields]

    def parked_fields(self, partition: int) -> dict[str, int | None]:
        """Fields of all events that stand still, and when those are due that are the first of their queues."""
        held = self._of(partition)
        return {field: held.due.get(field) for field in held.parked}

    def timers(self, partition: int, before: int, limit: int) -> tuple[list[tuple[str, int]], int | None]:
        """What is due; see `StoreContract.timers`."""
        rows = sorted(self._of(partition).timers.items(), key=lambda row: (row[1], row[0]))
        count = sum(time <= before for _, time in rows[:limit])
        return rows[:count], rows[count][1] if count < len(rows) else None

    def load(self, partition: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """The hashes of runs; see `StoreContract.load`."""
        runs = self._of(partition).runs
        return [dict(runs.get(key, {})) for key in keys]

    def commit(self, partition: int, owner: str, commit: Commit) -> Answer:
        """Apply all of `commit`, or nothing; see `StoreContract.commit`."""
        held = self._of(partition)
        fields = held.fields
        if "torn" in fields:
            return Answer.TORN
        if fields.get("owner") != owner:
            return Answer.FENCED
        last = int(fields.get("sequence", "0"))
        if last == commit.sequence:
            return Answer.ALREADY
        if last != commit.sequence - 1:
            return Answer.ROLLED_BACK
        internal = commit.trims.get(INTERNAL)
        if internal and all(entry.id != internal[0] for entry in held.streams.get(INTERNAL, ())):
            return Answer.ROLLED_BACK
        self._check(commit)
        self._before.setdefault(partition, deque(maxlen=self._history)).append(held.copied())
        if partition in self._tear_next:
            self._tear_next.discard(partition)
            held.positions.update(commit.positions)
            fields.update(torn=str(commit.sequence), torn_reason="torn by the test")
            return Answer.TORN
        self._apply(held, commit)
        return Answer.APPLIED

    @staticmethod
    def _check(commit: Commit) -> None:
        for key, fields in commit.runs.items():
            if not fields or len(fields) % 2:
                raise ValueError(f"INVALID commit: runs ({key!r} has {len(fields)} fields and values)")
        if not RESERVED_FIELDS.isdisjoint(commit.counters):
            raise ValueError("INVALID commit: counters")

    def _apply(self, held: Partition, commit: Commit) -> None:
        held.positions.update(commit.positions)
        for key in commit.fresh:
            held.runs.pop(key, None)
            held.kept.pop(key, None)
        for key, flat in commit.runs.items():
            written = zip(flat[::2], flat[1::2], strict=True)
            held.runs[key] = {**held.runs.get(key, {}), **{name: value.encode() for name, value in written}}
        held.kept.update(commit.ended)
        outbox = int(held.fields.get("outbox", "0"))
        if commit.outputs:
            held.outbox.append((outbox + 1, list(commit.outputs)))
        if commit.dead:
            held.bury(commit.dead, self._retention, self.now)
        for origin, (through, _) in commit.trims.items():
            entries = held.streams.get(origin, [])
            held.streams[origin] = [entry for entry in entries if order(entry.id) > order(through)]
        held.settle_times(commit)
        if commit.counters.get("ended"):
            held.closed.update(self._channels)
        held.fields.update({name: str(number) for name, number in commit.counters.items()})
        held.fields.update(outbox=str(outbox + len(commit.outputs)), sequence=str(commit.sequence))
        held.settle_streams(commit, self.now)
        held.callbacks.update({callback.id: callback for callback in commit.callbacks})
        for reply in held.answer(commit, self.now):
            if self._on_reply is not None:
                self._on_reply(reply)

    def streams(self, partition: int) -> RunStreams:
        """Streams of runs, to read."""
        return self._of(partition).run_streams

    def expire(self, now: int) -> None:
        """Forget runs and answers that have been kept for long enough: no clock runs here."""
        for held in self._partitions.values():
            held.expire(now)

    def outbox(self, partition: int, after: int, limit: int) -> list[Chunk]:
        """Outputs after a sequence; see `StoreContract.outbox`."""
        chunks: list[Chunk] = []
        for first, outputs in self._of(partition).outbox:
            if limit <= 0:
                break
            if first + len(outputs) - 1 > after:
                done = max(0, after + 1 - first)
                chunks.append((first + done, outputs[done:]))
                limit -= len(outputs)
        return chunks

    def trim_outbox(self, partition: int, owner: str, through: int) -> Answer:
        """Forget delivered outputs; see `StoreContract.trim_outbox`."""
        held = self._of(partition)
        if held.fields.get("owner") != owner:
            return Answer.FENCED
        if self._lives.get(owner) != self.life:
            return Answer.ROLLED_BACK
        held.outbox = [chunk for chunk in held.outbox if chunk[0] + len(chunk[1]) - 1 > through]
        return Answer.APPLIED

    def check(self, partition: int, owner: str, sequence: int | None) -> Answer:
        """Has the store what an owner was told? See `StoreContract.check`."""
        fields = self._of(partition).fields
        if fields.get("owner") != owner:
            return Answer.FENCED
        if self._lives.get(owner) != self.life or sequence not in (None, int(fields.get("sequence", "0"))):
            return Answer.ROLLED_BACK
        return Answer.APPLIED

    def calm(self, partition: int, owner: str, *, released: bool) -> Answer:
        """All is well; see `StoreContract.calm`."""
        fields = self._of(partition).fields
        if fields.get("owner") != owner:
            return Answer.FENCED
        fields["falls"] = "0"
        if released:
            fields["released"] = "1"
        return Answer.APPLIED

    def trim_letters(self, partition: int, owner: str) -> LettersKept | None:
        """Drop dead letters that are over a limit; see `StoreContract.trim_letters`."""
        held = self._of(partition)
        if held.fields.get("owner") != owner or "torn" in held.fields:
            return None
        held.bury((), self._retention, self.now)
        return held.letters

    def append_internal(
        self, partition: int, sender: Sender, first: int, events: Sequence[bytes], *, known: bool, most: int
    ) -> None:
        """Hand events to a partition, from another one; see `StoreContract.append_internal`."""
        held, fields = self._of(partition), self._of(sender.partition).fields
        if fields.get("owner") != sender.owner or int(fields.get("outbox", "0")) < sender.outbox:
            raise SenderLost(sender.partition)
        if held.fields.get("ended") == "1":
            raise DestinationEnded(self.workflow)
        last = held.origins.get(sender.way, 0 if known else first - 1)
        if first > last + 1:
            raise TransfersMissing(partition, sender.way, last, first)
        new = events[last + 1 - first :]
        stream = held.streams.setdefault(INTERNAL, [])
        if new and len(stream) >= most:
            raise internal_full(self.workflow, partition, len(stream))
        for blob in new:
            held.appended += 1
            stream.append(StreamEntry(f"{held.appended}-0", "", "", blob))
            held.origins[sender.way] = last = last + 1

    def replay(self, partition: int, letters: Sequence[tuple[str, bytes]], *, most: int) -> int:
        """Let dead letters go back in; see `StoreContract.replay`."""
        held = self._of(partition)
        if held.fields.get("ended") == "1":
            raise DestinationEnded(self.workflow)
        stream = held.streams.setdefault(INTERNAL, [])
        if len(stream) >= most:
            raise internal_full(self.workflow, partition, len(stream))
        count = 0
        for entry, blob in letters:
            left = [row for row in held.dead if row.entry != entry]
            if len(left) < len(held.dead):
                held.dead = left
                held.appended += 1
                stream.append(StreamEntry(f"{held.appended}-0", "", "", blob))
                count += 1
        return count

    def append(
        self,
        partition: int,
        origin: str,
        data: bytes,
        *,
        key: str = "",
        event: str | None = None,
        time: int = 0,
        source: str = "",
        reply: str | None = None,
    ) -> str:
        """Put an event into a channel (`channel:<name>`) or a request into the `inbox`.

        Returns:
            Its id in the stream; of a request whose id the inbox has had, that one's.

        Raises:
            SourceClosed: The channel is closed; or the run of the unkeyed workflow has ended.
            StoreFull: The channel has no room; a sender would wait.
        """
        held = self._of(partition)
        channel = origin.removeprefix("channel:")
        if channel in held.closed and origin != channel:
            raise SourceClosed(channel)
        if origin != channel and self.room(partition, channel) <= 0:
            raise StoreFull(f"channel {channel!r}", f"all {self._channels.get(channel, 0)} places are taken")
        if origin == channel and event in held.requests:
            return held.requests[event]
        if origin == "inbox" and held.fields.get("ended") == "1":
            raise SourceClosed(source)
        held.appended += 1
        entry = StreamEntry(f"{held.appended}-0", event or f"{held.appended}-0", key, data, time, source, reply)
        held.streams.setdefault(origin, []).append(entry)
        if origin == channel and event is not None:
            held.requests[event] = entry.id
        return entry.id

    def internal(self, partition: int) -> list[tuple[str, bytes]]:
        """Ids and events of what other partitions have sent and is not processed."""
        return [(entry.id, entry.data) for entry in self.stream(partition, INTERNAL)]

    def room(self, partition: int, channel: str) -> int:
        """Free places of a channel."""
        return self._channels.get(channel, 0) - len(self._of(partition).streams.get(f"channel:{channel}", []))

    def close_channel(self, partition: int, channel: str) -> None:
        """Nothing more goes into a channel."""
        self._of(partition).closed.add(channel)

    def closed(self, partition: int, channel: str) -> bool:
        """Is the channel closed?"""
        return channel in self._of(partition).closed

    def stream(self, partition: int, origin: str, after: str = "0-0") -> list[StreamEntry]:
        """What lies in a channel or the inbox, after the id `after`."""
        entries = self._of(partition).streams.get(origin, [])
        return [entry for entry in entries if order(entry.id) > order(after)]

    def head(self, partition: int) -> Head:
        """A partition's head as it is now; nothing is acquired."""
        held = self._of(partition)
        return head_of(held.fields.get("owner", ""), held.fields, held.positions)

    def run(self, partition: int, key: str) -> dict[str, bytes]:
        """The hash of one run; empty when it is not known."""
        return self.load(partition, [key])[0]

    def run_keys(self, partition: int) -> list[str]:
        """Keys of all runs of a partition."""
        return list(self._of(partition).runs)

    def dead_letters(self, partition: int) -> list[DeadLetter]:
        """Dead letters of a partition, oldest first."""
        return [row.letter for row in self._of(partition).dead]

    def dead_entries(self, partition: int) -> list[tuple[str, DeadLetter]]:
        """The same, with the entry of each."""
        return [(row.entry, row.letter) for row in self._of(partition).dead]

    def drop_letters(self, key: str) -> None:
        """Take out all dead letters of a key."""
        for held in self._partitions.values():
            held.dead = [row for row in held.dead if row[1].key != key]

    def reply(self, partition: int, request: str) -> str | None:
        """The answer to a request (JSON text), if there is one."""
        return self._of(partition).replies.get(request)

    def outputs(self, partition: int) -> list[Output]:
        """All that is in the outbox, in order."""
        return [output for _, outputs in self._of(partition).outbox for output in outputs]

    def roll_back(self, partition: int, commits: int = 1) -> None:
        """Lose the partition's last commits, as a server does that is restarted without its tail.

        What came into streams since then is lost with them; owner and placement are what they were then.

        Raises:
            ValueError: So many are not remembered.
        """
        before = self._before.get(partition, deque())
        if not 0 < commits <= len(before):
            raise ValueError(f"can't take back {commits} commits: {len(before)} are remembered")
        self.life += 1
        for _ in range(commits):
            self._partitions[partition] = before.pop()

    def tear(self, partition: int) -> None:
        """Let the partition's next commit stop half-way."""
        self._tear_next.add(partition)
