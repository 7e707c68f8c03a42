"""Writes a backup back: the workflow goes on from there, as another life of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from headrace.actors.backup import OnProgress, refuse_running
from headrace.actors.backup_file import Header, Piece, checked, pieces_of
from headrace.actors.deployments import (
    begin_change,
    change_key,
    deployment_key,
    end_change,
    format_document,
    mark_stopped,
)
from headrace.actors.former_lives import former_key, incoming, outgoing, rejoin
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.sources.routing import at_owner
from headrace.workflows.durability import FAST, Durability
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.key_format import KEY_FORMAT, KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.keyspace import audit_key, format_key, incarnation_key, workflow_key
from headrace.workflows.store import NotDurable, WorkflowDescriptor

log = structlog.get_logger(__name__)

_COMMANDS_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 << 20
_VALUES_AT_ONCE: Final = 2000
_STILL_HERE: Final = 20.0
"""Seconds after which others are told again that the workflow is being changed."""

_Command = tuple[Any, ...]


class AlreadyThere(HeadraceError):
    """The store has a workflow of this name; a restore would take its place.

    Attributes:
        workflow: Its name.
    """

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        super().__init__(
            f"The store has a workflow {workflow}. To have the backup in its place, and lose what it has done since,"
            " say --replace. To look at the backup without harm, restore it into another store."
        )

    def __reduce__(self) -> tuple[type[AlreadyThere], tuple[str]]:
        return type(self), (self.workflow,)


class Restored(NamedTuple):
    """What was written."""

    header: Header
    keys: int
    incarnation: str


def look_into(path: Path) -> tuple[Header, int]:
    """Make sure that a file is a whole backup that this Headrace can restore.

    Returns:
        Its header, and how many keys it has.

    Raises:
        BackupUnreadable: It is no backup, cut off, or changed.
        KeyFormatUnknown: Its keys are of another format.
    """
    header, end = checked(path)
    if header.key_format != KEY_FORMAT:
        raise KeyFormatUnknown(header.workflow, header.key_format, header.headrace)
    return header, end.keys


async def refuse_existing(registry: Registry, workflow: str, *, replace: bool) -> bool:
    """See that a restore destroys nothing unasked.

    Returns:
        Whether there is something to be replaced.

    Raises:
        AlreadyThere: And nobody has said that it is to be replaced.
        StillRunning: It is running.
    """
    await refuse_running(registry, workflow)
    try:
        await registry.check_format(workflow)
    except RestoreUnfinished:
        return True  # of a restore that was broken off: nothing of worth
    there = await registry.count_workflow(workflow) > 0
    if there and not replace:
        raise AlreadyThere(workflow)
    return there


async def restore(
    registry: Registry, path: Path, *, who: str, replace: bool = False, on_progress: OnProgress = lambda *_: None
) -> Restored:
    """Write a backup into the store. The workflow is stopped then: it goes on when it is deployed or run.

    Nothing is written unless the whole file is as it was written. Until all of it is in the store, nobody can run the
    workflow; a restore that was broken off begins anew when it is asked for again.

    Args:
        registry: The store.
        path: The file.
        who: Host and process, for others to read.
        replace: Take a workflow of that name out first.
        on_progress: Told now and then: keys that are written, and keys in all.

    Raises:
        BackupUnreadable: It is no backup, cut off, or changed.
        KeyFormatUnknown: Its keys are of another format, or those in the store are.
        AlreadyThere: There is a workflow of that name.
        StillRunning: It is running.
        ChangeUnderWay: Somebody else changes it.
        StoreUnavailable: Ask again.
    """
    header, count = look_into(path)
    workflow = header.workflow
    await refuse_existing(registry, workflow, replace=replace)
    await begin_change(registry, workflow, who)
    try:
        there = await refuse_existing(registry, workflow, replace=True)
        await _set(registry, format_key(workflow), format_document(restoring=who))
        if there:
            await registry.remove_workflow(workflow, keep=(format_key(workflow), change_key(workflow)))
        return await _Restore(registry, header, who).run(path, count, on_progress)
    finally:
        await end_change(registry, workflow, who)


class _Restore:
    def __init__(self, registry: Registry, header: Header, who: str) -> None:
        self._registry = registry
        self._header = header
        self._who = who
        self._life = secrets.token_hex(8)
        self._former: dict[str, str] = {}
        self._durability = FAST
        self._deployed = False
        self._descriptor: WorkflowDescriptor | None = None
        self._told = time.monotonic()
        workflow = header.workflow
        self._special = {
            workflow_key(workflow).encode(): self._take_descriptor,
            deployment_key(workflow).encode(): self._take_deployment,
        }

    async def run(self, path: Path, count: int, on_progress: OnProgress) -> Restored:
        registry, workflow = self._registry, self._header.workflow
        batch: list[_Command] = []
        size, keys, slot, last = 0, 0, b"", b""
        for piece in pieces_of(path):
            if piece.key != last:
                keys += 1
            place = piece.key[: piece.key.find(b"}")]
            commands = list(self._commands(piece, fresh=piece.key != last))
            last = piece.key
            if batch and (place != slot or len(batch) >= _COMMANDS_AT_ONCE or size > _BYTES_AT_ONCE):
                await self._write(batch)
                on_progress(keys, count)
                batch, size = [], 0
            slot = place
            batch += commands
            size += sum(len(part) for command in commands for part in command if isinstance(part, bytes))
        await self._write(batch)
        if self._former:
            await self._write([("HSET", former_key(workflow), *_flat(self._former))])
        if self._deployed:
            await mark_stopped(registry, workflow)
        await _set(registry, incarnation_key(workflow), self._life.encode())
        await rejoin(registry, workflow, self._header.partitions)
        await self._audit(keys)
        await self._confirm(incarnation_key(workflow))
        await _set(registry, format_key(workflow), format_document())
        await self._confirm(format_key(workflow))
        if self._descriptor is not None:
            await registry.publish_workflow(self._descriptor)
        on_progress(count, count)
        return Restored(self._header, keys, self._life)

    def _commands(self, piece: Piece, *, fresh: bool) -> Iterator[_Command]:
        special = self._special.get(piece.key)
        if special is not None:
            yield from special(piece)
            return
        if fresh:
            yield ("UNLINK", piece.key)
        yield from _values(self._renamed(piece))
        if piece.ttl:
            yield ("PEXPIRE", piece.key, piece.ttl)

    def _renamed(self, piece: Piece) -> Piece:
        """What speaks of the former life speaks of the new one."""
        workflow, before = self._header.workflow, self._header.incarnation
        if piece.kind != "hash" or not piece.key.startswith(f"hr:{{{workflow}/".encode()):
            return piece
        tag, _, name = piece.key.decode().partition("}:")
        if name == "from":
            fields = incoming(_pairs(piece.values), workflow, before, self._life)
            return msgspec.structs.replace(piece, values=[part.encode() for pair in fields for part in pair])
        if name == "head":
            number = int(tag.rpartition("/")[2])
            self._former |= outgoing(dict(_pairs(piece.values)), workflow, number, before)
        return piece

    def _take_descriptor(self, piece: Piece) -> Iterator[_Command]:
        self._descriptor = msgspec.json.decode(piece.values[0], type=WorkflowDescriptor)
        return iter(())  # published when all the rest is there

    def _take_deployment(self, piece: Piece) -> Iterator[_Command]:
        stored = msgspec.json.decode(piece.values[0], type=Deployment)
        self._durability, self._deployed = Durability.parse(stored.durability), bool(stored.cluster)
        complete = msgspec.structs.replace(stored, incarnation=self._life, redis_url=self._registry.url)
        yield ("SET", piece.key, msgspec.json.encode(complete))

    async def _write(self, commands: Sequence[_Command]) -> None:
        if not commands:
            return
        key = commands[0][1]
        with store_errors(self._registry.address), effect(Effect.RESTORE):
            answers = await at_owner(self._registry.client, key if isinstance(key, str) else key.decode(), *commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        if time.monotonic() - self._told > _STILL_HERE:
            self._told = time.monotonic()
            await begin_change(self._registry, self._header.workflow, self._who)

    async def _confirm(self, key: str) -> None:
        """Wait for what was written, if the store can do what the deployment asks for: that was another store."""
        try:
            await self._registry.confirm(key, self._durability)
        except NotDurable as error:
            log.warning("restored_undurably", workflow=self._header.workflow, reason=error.cause)

    async def _audit(self, keys: int) -> None:
        taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._header.time))
        said: Any = {"what": "restored", "count": str(keys), "who": self._who, "why": f"backup of {taken}"}
        with store_errors(self._registry.address), effect(Effect.AUDIT):
            await self._registry.client.xadd(audit_key(self._header.workflow), said)


def _values(piece: Piece) -> Iterator[_Command]:
    key, values = piece.key, piece.values
    match piece.kind:
        case "string":
            yield ("SET", key, values[0])
        case "hash":
            yield from (("HSET", key, *part) for part in _parts(values))
        case "list":
            yield from (("RPUSH", key, *part) for part in _parts(values))
        case "set":
            yield from (("SADD", key, *part) for part in _parts(values))
        case "zset":
            yield from (("ZADD", key, *part) for part in _parts(values))
        case "stream":
            yield from (("XADD", key, *msgspec.msgpack.decode(entry, type=list[bytes])) for entry in values)
            if piece.last:
                yield from _end_of_stream(key, *piece.last)


def _end_of_stream(key: bytes, last: bytes, added: bytes, deleted: bytes) -> Iterator[_Command]:
    """Ids go on where they were, also of a stream that is empty: positions speak of them."""
    yield ("XGROUP", "CREATE", key, "restore", "0", "MKSTREAM")
    yield ("XGROUP", "DESTROY", key, "restore")
    yield ("XSETID", key, last, "ENTRIESADDED", added, "MAXDELETEDID", deleted)


def _parts(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(values), _VALUES_AT_ONCE):
        yield values[start : start + _VALUES_AT_ONCE]


def _pairs(values: Sequence[bytes]) -> list[tuple[str, str]]:
    pairs = iter(value.decode() for value in values)
    return list(zip(pairs, pairs, strict=True))


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


async def _set(registry: Registry, key: str, value: bytes) -> None:
    with store_errors(registry.address), effect(Effect.RESTORE):
        await registry.client.set(key, value)
