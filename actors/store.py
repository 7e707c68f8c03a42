"""The store of a workflow in Redis or Valkey: ownership, states, commits, and what waits to leave.

All that changes a partition is a script, so that it happens in one step, under the owner token.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from headrace.actors.parked_views import standing_fields
from headrace.actors.store_registry import Registry
from headrace.actors.store_replies import as_written, changed_of
from headrace.actors.store_streams import rows_of
from headrace.sources.connection import Script, store_errors
from headrace.sources.durable import Durable
from headrace.sources.routing import is_cluster, servers_of
from headrace.workflows.commit import STRAY, Answer, Commit, DeadLetter, Head, Output
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.effects import Effect
from headrace.workflows.heads import head_of
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.retention import KEPT, LettersKept, Retention
from headrace.workflows.store import (
    Chunk,
    DestinationEnded,
    PartitionTorn,
    Sender,
    SenderLost,
    StalePlacement,
    StoreUnavailable,
    TransfersMissing,
)
from headrace.workflows.transfers import internal_full

_log = structlog.get_logger(__name__)

_FOLDER: Final = Path(__file__).parent / "scripts"
_ACQUIRE: Final = Script(_FOLDER / "acquire.lua")
_HEAD: Final = Script(_FOLDER / "head.lua")
_LOAD: Final = Script(_FOLDER / "load.lua")
_CHECK: Final = Script(_FOLDER / "check.lua")
_COMMIT: Final = Script(_FOLDER / "commit.lua")
_OUTBOX: Final = Script(_FOLDER / "outbox.lua")
_APPEND_INTERNAL: Final = Script(_FOLDER / "append_internal.lua")
_REPLAY: Final = Script(_FOLDER / "replay.lua")
_TRIM_OUTBOX: Final = Script(_FOLDER / "trim_outbox.lua")
_CALM: Final = Script(_FOLDER / "calm.lua")
_TRIM_LETTERS: Final = Script(_FOLDER / "trim_letters.lua")
_WAKE: Final = Script(_FOLDER / "wake.lua")

_RUNS_AT_ONCE: Final = 1000
"""Runs that one load asks for: the server is busy for about a millisecond."""
_LETTERS_AT_ONCE: Final = 500
"""Dead letters that one step drops: each may have a megabyte, which the server reads."""
_OUTBOX_BYTES: Final = 4 << 20
"""Bytes after which one reading of an outbox ends; commits are read whole."""

_msgpack: Final = msgspec.msgpack.Encoder()
_outputs: Final = msgspec.msgpack.Decoder(tuple[list[str], list[Output]])
_dead_letter: Final = msgspec.msgpack.Decoder(DeadLetter)


class Store(Registry):
    """The partitions of one workflow.

    One for each process that needs it, made and used there: `async with Store(url, "orders") as store`.
    Every method raises `StoreUnavailable` while the server is away, and may be asked again.

    Args:
        url: `redis://host:port/database`, or another form of `StoreAddress.parse`.
        workflow: Name of the workflow.
        channels: Channel sources of the workflow: name -> places in each partition.
        sinks: Names of the workflow's sinks, by index: an outbox outlives the version that wrote it.
        connections: How many connections at most.
        durability: What a commit has to reach before `commit` returns, and before replies leave.
        retention: How long and how many dead letters are kept, of partitions that are acquired.
    """

    def __init__(
        self,
        url: str,
        workflow: str,
        *,
        channels: Mapping[str, int] | None = None,
        sinks: Sequence[str] = (),
        connections: int = 16,
        durability: Durability = FAST,
        retention: Retention = KEPT,
    ) -> None:
        super().__init__(url, connections=connections)
        self.durable = Durable(self.client, self.address, durability)
        self.workflow_name = workflow
        self._channels = {name: str(capacity) for name, capacity in (channels or {}).items()}
        self._sinks = list(sinks)
        self._caps = {cap: str(limit) for cap, limit in retention.caps.items()}
        self._id = secrets.token_hex(8)
        self._attempts = itertools.count(1)
        self._keys: dict[int, PartitionKeys] = {}
        self._fields: dict[bytes, str] = {}
        self._lives: dict[int, tuple[str, str]] = {}
        """By partition: owner token, and the run id of the server that gave it."""

    def keys(self, partition: int) -> PartitionKeys:
        """Names of what the partition holds."""
        keys = self._keys.get(partition)
        if keys is None:
            keys = self._keys[partition] = PartitionKeys(self.workflow_name, partition)
        return keys

    async def acquire(self, partition: int, *, term: int, placement: int, worker: str) -> Head:
        """Become the partition's owner; see `StoreContract.acquire`."""
        owner = secrets.token_hex(16)
        attempt = str(next(self._attempts))
        asked = _msgpack.encode(
            (str(term), str(placement), owner, worker, self._channels, self._id, attempt, self._caps)
        )
        answer = await self.durable.write(_ACQUIRE, Effect.ACQUIRE, self.keys(partition).head, asked)
        kind = answer[0]
        if kind == b"STALE":
            raise StalePlacement(partition, (term, placement), (int(answer[1]), int(answer[2])))
        if kind == b"TORN":
            raise PartitionTorn(partition, answer[1].decode(), answer[2].decode(errors="replace"))
        self._lives[partition] = (owner, answer[3].decode())
        head = head_of(owner, _text_pairs(answer[1]), _text_pairs(answer[2]))
        head.parked = [field.decode() for field in answer[4]]
        head.due = {field: int(float(time)) for field, time in _text_pairs(answer[5]).items()}
        head.first_timer = next((int(float(time)) for time in _text_pairs(answer[6]).values()), None)
        return head

    def _life(self, partition: int, owner: str) -> str:
        """Run id of the server that this owner acquired the partition from."""
        known, life = self._lives.get(partition, ("", ""))
        return life if known == owner else ""

    async def check(self, partition: int, owner: str, sequence: int | None) -> Answer:
        """Has the store what an owner was told? See `StoreContract.check`."""
        asked = ("" if sequence is None else str(sequence), self._life(partition, owner))
        with store_errors(self.address):
            answer = await _CHECK.ask(self.client, self.keys(partition).head, owner, *asked)
        return Answer(answer.decode())

    async def load(self, partition: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """The hashes of runs; see `StoreContract.load`."""
        head = self.keys(partition).head
        found: list[dict[str, bytes]] = []
        for start in range(0, len(keys), _RUNS_AT_ONCE):
            asked = _msgpack.encode(keys[start : start + _RUNS_AT_ONCE])
            with store_errors(self.address):
                answer = await _LOAD.ask(self.client, head, asked)
            found.extend(map(self._named, answer))
        return found

    async def parked(self, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        """Events that stand still; see `StoreContract.parked`."""
        if not fields:
            return []
        with store_errors(self.address):
            found: Any = await self.client.hmget(self.keys(partition).parked, list(fields))
        return list(found)

    async def timers(self, partition: int, before: int, limit: int) -> tuple[list[tuple[str, int]], int | None]:
        """What is due of runs; see `StoreContract.timers`."""
        key = self.keys(partition).timers
        with store_errors(self.address):
            pipe: Any = self.client.pipeline(transaction=False)
            pipe.zrangebyscore(key, "-inf", before, 0, limit + 1, withscores=True)
            pipe.zrangebyscore(key, f"({before}", "+inf", 0, 1, withscores=True)
            due, later = await pipe.execute()
        rows = [(member.decode(), int(time)) for member, time in due]
        following = rows[limit][1] if len(rows) > limit else next((int(time) for _, time in later), None)
        return rows[:limit], following

    async def parked_fields(self, partition: int) -> dict[str, int | None]:
        """Fields of all events that stand still; see `standing_fields`. For people and tests."""
        return await standing_fields(self, self.keys(partition))

    def _named(self, flat: list[bytes]) -> dict[str, bytes]:
        if not flat:
            return {}
        known = self._fields
        named = {}
        pairs = iter(flat)
        for field, value in zip(pairs, pairs, strict=True):
            name = known.get(field)
            if name is None:
                name = known[field] = field.decode()
            named[name] = value
        return named

    async def commit(self, partition: int, owner: str, commit: Commit) -> Answer:
        """Apply all of `commit` in one step; see `StoreContract.commit`."""
        replies, farewell = as_written(commit, silent=self.durable.durability.waits)
        asked = _msgpack.encode(
            (
                owner,
                str(commit.sequence),
                commit.positions,
                commit.runs,
                commit.fresh,
                _as_text(commit.ended),
                str(len(commit.outputs)),
                str(len(commit.dead)),
                replies,
                {origin: through for origin, (through, _) in commit.trims.items()},
                _as_text(commit.counters),
                str(len(commit.parked)),
                commit.unparked,
                _as_text(commit.due),
                commit.not_due,
                _as_text(commit.timers),
                commit.no_timers,
                farewell,
                "" if self.durable.durability.waits else changed_of(commit),
                rows_of(commit.sealed),
                rows_of(commit.void),
                _as_text(commit.ended_runs),
                commit.callbacks,
            )
        )
        blobs: list[str | bytes] = [_msgpack.encode((self._sinks, commit.outputs)) if commit.outputs else b""]
        for letter in commit.dead:
            blobs += (letter.id, _msgpack.encode(letter))
        for field, blob in commit.parked.items():
            blobs += (field, blob)
        answer = await self.durable.write(_COMMIT, Effect.COMMIT, self.keys(partition).head, asked, *blobs)
        if isinstance(answer, list):
            reason = answer[2].decode(errors="replace")
            _log.error("partition_torn", partition=partition, sequence=answer[1].decode(), reason=reason)
            return Answer.TORN
        done = Answer(answer.decode())
        is_there = done in (Answer.APPLIED, Answer.ALREADY)
        if (commit.replies or commit.changed) and self.durable.durability.waits and is_there:
            await self._wake(partition, commit)
        return done

    async def _wake(self, partition: int, commit: Commit) -> None:
        """Tell who waits, now that it is durable. Who isn't told reads it a little later."""
        asked = _msgpack.encode([(reply.request, reply.channel) for reply in commit.replies])
        try:
            with store_errors(self.address):
                await _WAKE.write(self.client, Effect.WAKE, self.keys(partition).head, asked, changed_of(commit))
        except StoreUnavailable as error:
            _log.info("callers_not_woken", partition=partition, replies=len(commit.replies), reason=error.cause)

    async def outbox(self, partition: int, after: int, limit: int) -> list[Chunk]:
        """Outputs after a sequence; see `StoreContract.outbox`."""
        with store_errors(self.address):
            flat = await _OUTBOX.ask(self.client, self.keys(partition).head, str(after), str(limit), _OUTBOX_BYTES)
        chunks: list[Chunk] = []
        for start in range(0, len(flat), 2):
            first, outputs = int(flat[start]), self._renumbered(*_outputs.decode(flat[start + 1]))
            done = max(0, after + 1 - first)
            chunks.append((first + done, outputs[done:]))
        return chunks

    def _renumbered(self, names: list[str], outputs: list[Output]) -> list[Output]:
        """Outputs as this version numbers its sinks; those of a sink that it has not are strays."""
        if names == self._sinks:
            return outputs
        numbers = [self._sinks.index(name) if name in self._sinks else STRAY for name in names]
        return [
            output
            if output.sink < 0
            else msgspec.structs.replace(output, sink=numbers[output.sink] if output.sink < len(numbers) else STRAY)
            for output in outputs
        ]

    async def trim_outbox(self, partition: int, owner: str, through: int) -> Answer:
        """Forget delivered outputs; see `StoreContract.trim_outbox`."""
        with store_errors(self.address):
            answer = await _TRIM_OUTBOX.write(
                self.client, Effect.OUTBOX_TRIM, self.keys(partition).head, owner, str(through),
                self._life(partition, owner),
            )  # fmt: skip
        return Answer(answer.decode())

    async def calm(self, partition: int, owner: str, *, released: bool) -> Answer:
        """All is well; see `StoreContract.calm`."""
        with store_errors(self.address):
            head = self.keys(partition).head
            answer = await _CALM.write(self.client, Effect.CALM, head, owner, "1" if released else "0")
        return Answer(answer.decode())

    async def trim_letters(self, partition: int, owner: str) -> LettersKept | None:
        """Drop dead letters that are over a limit; see `StoreContract.trim_letters`."""
        with store_errors(self.address):
            answer = await _TRIM_LETTERS.write(
                self.client, Effect.DEAD_TRIM, self.keys(partition).head, owner, _LETTERS_AT_ONCE
            )
        return _letters_kept(answer) if answer[0] == b"TRIMMED" else None

    async def append_internal(
        self, partition: int, sender: Sender, first: int, events: Sequence[bytes], *, known: bool, most: int
    ) -> None:
        """Hand events to a partition, from another one; see `StoreContract.append_internal`."""
        asked = (
            sender.way, str(first), str(most), "1" if known else "0",
            # In a cluster its head is on another server: there only durability says that the commit is there to stay.
            "" if is_cluster(self.client) else PartitionKeys(sender.workflow, sender.partition).head,
            sender.owner, str(sender.outbox),
        )  # fmt: skip
        key = self.keys(partition).head
        answer = await self.durable.write(_APPEND_INTERNAL, Effect.INTERNAL_APPEND, key, *asked, *events)
        match answer[0]:
            case b"LOST":
                raise SenderLost(sender.partition)
            case b"GAP":
                raise TransfersMissing(partition, sender.way, int(answer[1]), first)
            case b"FULL":
                raise internal_full(self.workflow_name, partition, int(answer[1]))
            case b"ENDED":
                raise DestinationEnded(self.workflow_name)

    async def replay(self, partition: int, letters: Sequence[tuple[str, bytes]], *, most: int) -> int:
        """Let dead letters go back in; see `StoreContract.replay`."""
        flat = [part for letter in letters for part in letter]
        answer = await self.durable.write(_REPLAY, Effect.DEAD_REPLAY, self.keys(partition).head, str(most), *flat)
        match answer[0]:
            case b"FULL":
                raise internal_full(self.workflow_name, partition, int(answer[1]))
            case b"ENDED":
                raise DestinationEnded(self.workflow_name)
        return int(answer[1])

    async def head(self, partition: int) -> Head:
        """A partition's head as it is now, for people and tests: nothing is acquired."""
        with store_errors(self.address):
            fields, positions = await _HEAD.ask(self.client, self.keys(partition).head)
        named = _text_pairs(fields)
        return head_of(named.get("owner", ""), named, _text_pairs(positions))

    async def time(self) -> int:
        """The store's time: milliseconds since 1970 UTC."""
        with store_errors(self.address):
            there = (await servers_of(self.client))[0]
            seconds, microseconds = await self.client.time(**there)
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def run(self, partition: int, key: str) -> dict[str, bytes]:
        """The hash of one run; empty when it is not known."""
        return (await self.load(partition, [key]))[0]

    async def run_keys(self, partition: int) -> list[str]:
        """Keys of all runs of a partition, in no order. For people and tests: it walks through the whole server."""
        prefix = self.keys(partition).run("")
        with store_errors(self.address):
            return [
                key.decode().removeprefix(prefix) async for key in self.client.scan_iter(match=prefix + "*", count=1000)
            ]

    async def dead_letters(
        self, partition: int, *, after: str = "0", limit: int = 1000
    ) -> list[tuple[str, DeadLetter]]:
        """Dead letters of a partition, oldest first.

        Args:
            partition: Number of the partition.
            after: Id of the last one seen; `0` from the first.
            limit: How many at most.

        Returns:
            Pairs of the id to go on after, and the letter.
        """
        start = "-" if after == "0" else f"({after}"
        with store_errors(self.address):
            entries: Any = await self.client.xrange(self.keys(partition).dead, start, "+", count=limit)
        return [(id_.decode(), _dead_letter.decode(fields[b"blob"])) for id_, fields in entries]

    async def internal(self, partition: int, *, limit: int = 1000) -> list[tuple[str, bytes]]:
        """Ids and events of what other partitions have sent and is not processed, the oldest first: to look at."""
        with store_errors(self.address):
            entries: Any = await self.client.xrange(self.keys(partition).internal, count=limit)
        return [(id_.decode(), fields[b"blob"]) for id_, fields in entries]

    async def reply(self, partition: int, request: str) -> bytes | None:
        """The durable answer to a request (JSON), if there is one yet."""
        with store_errors(self.address):
            body: Any = await self.client.get(self.keys(partition).reply(request))
        return None if body is None else bytes(body)


def _letters_kept(answer: list[bytes]) -> LettersKept:
    """The answer of `trim_letters.lua`."""
    dropped = {cap: int(count) for cap, count in _text_pairs(answer[4:]).items()}
    return LettersKept(count=int(answer[1]), bytes=int(answer[2]), dropped=dropped, is_done=answer[3] == b"1")


def _as_text(numbers: Mapping[str, int]) -> dict[str, str]:
    return {name: str(number) for name, number in numbers.items()}


def _text_pairs(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
