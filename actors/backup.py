"""Writes all that the store has of a workflow into a file; for a workflow that nobody runs."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, Final, TypeAlias

import msgspec

from headrace.actors.backup_file import Header, Piece, Writer, writing
from headrace.actors.deployments import deployment_key
from headrace.actors.spec import Deployment, supervisor_name
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.sources.routing import reads_at_owner, scan
from headrace.workflows.errors import HeadraceError
from headrace.workflows.key_format import KEY_FORMAT
from headrace.workflows.keyspace import PartitionKeys, incarnation_key, workflow_key

_FINGERPRINT: Final = Script(Path(__file__).parent / "scripts" / "fingerprint.lua")
_KEYS_AT_ONCE: Final = 50
_ENTRIES_AT_FIRST: Final = 16
_ENTRIES_AT_MOST: Final = 1024
_BYTES_AT_ONCE: Final = 4 << 20
_NAMES_AT_ONCE: Final = 1000
_TRIES: Final = 5
_IN_MEMORY: Final = 8 << 20
_LEFT_OUT: Final = ("status:", "metrics:", "change", "stop", "stopped", "incarnation", "format")
"""What of `hr:{workflow}:` says how it runs now, or is made anew by a restore."""
_pieces: Final = msgspec.msgpack.Encoder().encode

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with partitions that are done, and keys."""
Fingerprint: TypeAlias = tuple[bytes, bytes]


class StillRunning(HeadraceError):
    """Somebody runs the workflow: what it has changes while it is looked at.

    Attributes:
        workflow: Its name.
    """

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        super().__init__(f"{workflow} is running. Stop it first, and nothing is lost: headrace stop {workflow}")

    def __reduce__(self) -> tuple[type[StillRunning], tuple[str]]:
        return type(self), (self.workflow,)


class KeepsChanging(HeadraceError):
    """Requests, channels or other workflows write to a workflow faster than its partition can be read.

    Attributes:
        workflow: Its name.
        partition: Which of its partitions.
    """

    def __init__(self, workflow: str, partition: int) -> None:
        self.workflow, self.partition = workflow, partition
        super().__init__(
            f"Partition {partition} of {workflow} gets new requests or events all the time. Stop the gateways and"
            " programs that send to it, and begin again."
        )

    def __reduce__(self) -> tuple[type[KeepsChanging], tuple[str, int]]:
        return type(self), (self.workflow, self.partition)


async def refuse_running(registry: Registry, workflow: str) -> None:
    """See that no supervisor and no worker of the workflow holds a lease.

    Raises:
        StillRunning: One does.
        StoreUnavailable: Ask again.
    """
    document = await registry.status(workflow, PROCESS)
    roles = document.get("roles", ()) if isinstance(document, dict) else ()
    names = [supervisor_name(workflow), *(row["actor"] for row in roles if row.get("actor"))]
    if any(holder is not None for holder in (await registry.leases(names)).values()):
        raise StillRunning(workflow)


async def back_up(
    registry: Registry, workflow: str, path: Path, *, on_progress: OnProgress = lambda *_: None
) -> tuple[Header, int]:
    """Write a workflow to a file; the store is not changed.

    Args:
        registry: The store.
        workflow: Its name.
        path: The file; it is there when all of it is written, or not at all.
        on_progress: Told now and then.

    Returns:
        The file's header, and how many keys it has.

    Raises:
        StillRunning: Somebody runs it, or has begun to meanwhile.
        KeepsChanging: Others write to it all the time.
        StoreUnavailable: Begin again.
    """
    await refuse_running(registry, workflow)
    descriptor = await registry.workflow(workflow)
    if descriptor is None:
        raise HeadraceError(f"The store at {registry.address} knows no workflow {workflow}.")
    with store_errors(registry.address):
        incarnation: Any = await registry.client.get(incarnation_key(workflow))
    header = Header(
        workflow=workflow, partitions=descriptor.partitions, key_format=KEY_FORMAT, headrace=version("headrace"),
        incarnation=(incarnation or b"").decode(), time=time.time(),
    )  # fmt: skip
    first = [await _fingerprint(registry, workflow, number) for number in range(descriptor.partitions)]
    names = await _names(registry, workflow)
    with writing(path) as writer:
        writer.header(header)
        for number, before in enumerate(first):
            await _partition(registry, workflow, number, before, names.of(number), writer)
            on_progress(number + 1, writer.keys)
        common = [f"hr:{{{workflow}}}:".encode() + suffix for suffix in names.common(_LEFT_OUT)]
        for key in [*common, workflow_key(workflow).encode()]:
            async for piece in _read(registry, [key]):
                writer.piece(_without_address(piece, workflow))
        for number, (head, _) in enumerate(first):  # all partitions are as of one moment: nobody has committed since
            if (await _fingerprint(registry, workflow, number))[0] != head:
                raise StillRunning(workflow)
        await refuse_running(registry, workflow)
        writer.end()
    return header, writer.keys


async def _fingerprint(registry: Registry, workflow: str, partition: int) -> Fingerprint:
    with store_errors(registry.address):
        head, streams = await _FINGERPRINT.ask(registry.client, PartitionKeys(workflow, partition).head)
    return head, streams


async def _partition(
    registry: Registry, workflow: str, partition: int, before: Fingerprint, names: Iterable[bytes], writer: Writer
) -> None:
    """Write a partition as it was at one moment: again, if somebody has written to it meanwhile."""
    head, prefix = before[0], PartitionKeys(workflow, partition).prefix
    for _ in range(_TRIES):
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            count = 0
            keys = [prefix.encode() + name for name in sorted(set(names))]
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                async for piece in _read(registry, keys[start : start + _KEYS_AT_ONCE]):
                    blob = _pieces(piece)
                    spool.write(len(blob).to_bytes(4, "big") + blob)
                    count += 1
            now = await _fingerprint(registry, workflow, partition)
            if now == before:
                spool.seek(0)
                for _ in range(count):
                    blob = spool.read(int.from_bytes(spool.read(4), "big"))
                    writer.piece(msgspec.msgpack.decode(blob, type=Piece))
                return
        if now[0] != head:
            raise StillRunning(workflow)
        before = await _fingerprint(registry, workflow, partition)
        names = [name async for name in names_of_partition(registry, workflow, partition)]
    raise KeepsChanging(workflow, partition)


class _Names:
    """Names of all keys, packed: a store may have millions of runs."""

    def __init__(self, workflow: str) -> None:
        self._common, self._partition = f"hr:{{{workflow}}}:".encode(), f"hr:{{{workflow}/".encode()
        self._open: dict[int, list[bytes]] = defaultdict(list)
        self._packed: dict[int, list[bytes]] = defaultdict(list)

    def add(self, key: bytes) -> None:
        """One more."""
        number, suffix = -1, key.removeprefix(self._common)
        if key.startswith(self._partition):
            digits, _, suffix = key.removeprefix(self._partition).partition(b"}:")
            if not digits.isdigit():
                return
            number = int(digits)
        names = self._open[number]
        names.append(suffix)
        if len(names) == _NAMES_AT_ONCE:
            self._packed[number].append(zlib.compress(msgspec.msgpack.encode(names), 1))
            names.clear()

    def of(self, partition: int) -> Iterable[bytes]:
        """What is behind the prefix of a partition's keys."""
        for packed in self._packed[partition]:
            yield from msgspec.msgpack.decode(zlib.decompress(packed), type=list[bytes])
        yield from self._open[partition]

    def common(self, left_out: Sequence[str]) -> list[bytes]:
        """The same of what belongs to no partition."""
        names = (name for name in set(self.of(-1)) if not _is_one_of(name.decode(), left_out))
        return sorted(names)


def _is_one_of(name: str, left_out: Sequence[str]) -> bool:
    return any(name.startswith(other) if other.endswith(":") else name == other for other in left_out)


async def _names(registry: Registry, workflow: str) -> _Names:
    names = _Names(workflow)
    for prefix in (f"hr:{{{workflow}/", f"hr:{{{workflow}}}:"):
        async for key in _scan(registry, prefix):
            names.add(key)
    return names


async def names_of_partition(registry: Registry, workflow: str, partition: int) -> AsyncIterator[bytes]:
    """What is behind the prefix of all keys of a partition; one may come twice."""
    prefix = PartitionKeys(workflow, partition).prefix
    async for key in _scan(registry, prefix):
        yield key.removeprefix(prefix.encode())


async def _scan(registry: Registry, prefix: str) -> AsyncIterator[bytes]:
    place = 0
    while True:
        with store_errors(registry.address):
            place, keys = await scan(registry.client, place, f"{prefix}*", _NAMES_AT_ONCE)
        for key in keys:
            yield key
        if not place:
            return


async def _ask(registry: Registry, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Answers to reads of keys that lie at one server."""
    if not commands:
        return []
    with store_errors(registry.address):
        return await reads_at_owner(registry.client, commands[0][1].decode(), *commands)


async def _read(registry: Registry, keys: Sequence[bytes]) -> AsyncIterator[Piece]:
    """Keys of one slot; those that have expired meanwhile are left out."""
    told = await _ask(registry, [command for key in keys for command in (("TYPE", key), ("PTTL", key))])
    kinds: list[tuple[bytes, Any, int]] = [
        (key, kind.decode() if isinstance(kind, bytes) else kind, max(0, ttl))
        for key, kind, ttl in zip(keys, told[::2], told[1::2], strict=True)
    ]
    small = [row for row in kinds if row[1] in ("hash", "string")]
    answers = await _ask(registry, [("HGETALL" if kind == "hash" else "GET", key) for key, kind, _ in small])
    for (key, kind, ttl), answer in zip(small, answers, strict=True):
        if answer:
            flat = [answer] if isinstance(answer, bytes) else [part for pair in answer.items() for part in pair]
            yield Piece(key, kind, flat, ttl)
        elif answer == b"":
            yield Piece(key, kind, [b""], ttl)
    for key, kind, ttl in kinds:
        if kind == "stream":
            async for piece in _stream(registry, key, ttl):
                yield piece
        elif kind not in ("hash", "string", "none"):
            values = await _collection(registry, key, kind)
            if values:
                yield Piece(key, kind, values, ttl)


async def _collection(registry: Registry, key: bytes, kind: str) -> list[bytes]:
    if kind == "list":
        return list((await _ask(registry, [("LRANGE", key, 0, -1)]))[0])
    if kind == "set":
        return sorted((await _ask(registry, [("SMEMBERS", key)]))[0])
    if kind == "zset":
        rows = (await _ask(registry, [("ZRANGE", key, 0, -1, "WITHSCORES")]))[0]
        if rows and isinstance(rows[0], tuple):
            return [part for member, score in rows for part in (repr(score).encode(), member)]
        return [part for member, score in zip(rows[::2], rows[1::2], strict=True) for part in (score, member)]
    raise HeadraceError(f"{key.decode(errors='replace')} is a {kind}, which no workflow has. Who has written it there?")


async def _stream(registry: Registry, key: bytes, ttl: int) -> AsyncIterator[Piece]:
    (about,) = await _ask(registry, [("XINFO STREAM", key)])
    start, count = b"-", _ENTRIES_AT_FIRST
    while True:
        (entries,) = await _ask(registry, [("XRANGE", key, start, "+", "COUNT", count)])
        packed = [
            msgspec.msgpack.encode([id_, *(part for pair in fields.items() for part in pair)])
            for id_, fields in entries
        ]
        if len(entries) < count:
            last = [_text(about, name) for name in ("last-generated-id", "entries-added", "max-deleted-entry-id")]
            yield Piece(key, "stream", packed, ttl, last)
            return
        yield Piece(key, "stream", packed)
        start = b"(" + entries[-1][0]
        size = sum(map(len, packed))
        if size < _BYTES_AT_ONCE // 4:
            count = min(2 * count, _ENTRIES_AT_MOST)
        elif size > _BYTES_AT_ONCE:  # an entry of an outbox may have a megabyte
            count = max(1, count // 2)


def _text(about: dict[Any, Any], name: str) -> bytes:
    value = about.get(name, about.get(name.encode(), b"0-0"))
    return value if isinstance(value, bytes) else str(value).encode()


def _without_address(piece: Piece, workflow: str) -> Piece:
    """Where its store is may hold a password, and is another place after a restore."""
    if piece.key != deployment_key(workflow).encode():
        return piece
    deployment = msgspec.json.decode(piece.values[0], type=Deployment)
    said = msgspec.json.encode(msgspec.structs.replace(deployment, redis_url=""))
    return msgspec.structs.replace(piece, values=[said])
