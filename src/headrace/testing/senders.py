"""From what a test sends to records: encoded, with key and partition, put where the source reads from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from headrace.testing.engine import Engine
from headrace.testing.inputs import INBOX, LogEntry, in_store
from headrace.testing.problems import HarnessError
from headrace.testing.writing import written
from headrace.workflows.actions import Tombstone
from headrace.workflows.errors import CodecError, HeadraceError
from headrace.workflows.fields import field_of
from headrace.workflows.handles import SourceHandle
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import Plan, SourcePlan
from headrace.workflows.wait_claims import CLAIM

GivenHeaders: TypeAlias = Mapping[str, str | bytes] | None


class Senders:
    """Puts events into the sources of a workflow."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan = plan
        self._engine = engine
        self._sent = 0

    def source(self, handle: SourceHandle[Any]) -> SourcePlan:
        """The source that a handle stands for."""
        if not isinstance(handle, SourceHandle):
            raise HarnessError(f"{handle!r} is no source: give what workflow.source(...) gave back")
        found = next((row for row in self._plan.sources if row.name == handle.name), None)
        if found is None:
            raise HarnessError(f"source {handle.name} is no part of workflow {self._plan.name}")
        return found

    def send(
        self,
        source: SourcePlan,
        data: Any,
        key: str | None,
        id: str | None,
        headers: GivenHeaders,
        partition: int | None,
    ) -> None:
        """Put one event into its source; see `Harness.send`."""
        self.encoded(source, data)
        self._sent += 1
        value, own = written(
            source, self._plan.types[source.type].codec, data, id=f"sent-{self._sent}", time_ms=self._engine.now
        )
        run = self.run_of(source, data, key)
        record_key = None if key is None else key.encode()
        given = dict(headers or {})
        merged = {**{name: text for name, text in own if name not in given}, **given}
        home = self._place(source, partition, self.home(run))
        self.put(source, value, home, record_key, run=run, id=id, headers=merged)

    def raw(
        self,
        source: SourcePlan,
        value: bytes | None,
        key: str | bytes | None,
        headers: GivenHeaders,
        partition: int | None,
    ) -> None:
        """Put bytes into it; see `Harness.send_raw`."""
        if value is None and in_store(source):
            raise HarnessError(f"{source.name} is no Kafka topic: only those have tombstones")
        record_key = key.encode() if isinstance(key, str) else key
        home = partition_of(record_key, self._engine.partitions) if record_key and self._plan.keyed else 0
        home = self._place(source, partition, home)
        run = (record_key or b"").decode("utf-8", "replace")
        self.put(source, value, home, record_key, run=run, id=None, headers=headers)

    @staticmethod
    def _place(source: SourcePlan, partition: int | None, home: int) -> int:
        if partition is None:
            return home
        if source.source.kind != "kafka":
            raise HarnessError(f"{source.name} is no Kafka topic: only those have partitions to choose")
        if partition < 0:
            raise HarnessError(f"partition={partition}: topic partitions are numbered from 0")
        return partition

    def put(
        self,
        source: SourcePlan,
        value: bytes | None,
        partition: int,
        record_key: bytes | None,
        *,
        run: str,
        id: str | None,
        headers: GivenHeaders,
    ) -> None:
        """Append to whatever the source reads from."""
        if not in_store(source):
            if id is not None and source.source.kind == "kafka":
                raise HarnessError(f"{source.name} is a Kafka topic: its events have the id of their place in it")
            entry = LogEntry(record_key, value, self._engine.now, _flat(headers), id)
            self._engine.inputs.append(source, partition, entry)
        elif headers:
            raise HarnessError(f"{source.name} is no Kafka topic: only those have headers")
        else:
            self.append(source, value or b"", partition, run=run, id=id)

    def append(
        self, source: SourcePlan, data: bytes, partition: int, *, run: str, id: str | None,
        reply: str | None = None, claim: str | None = None,
    ) -> None:  # fmt: skip
        """Append to a channel, or to the inbox."""
        origin = f"channel:{source.name}" if source.source.kind == "channel" else INBOX
        now, store = self._engine.now, self._engine.store
        place = store.append(
            partition, origin, data, key=run, event=id, time=now, source=source.name, reply=reply
        )  # fmt: skip
        if claim is not None:
            for entry in store.stream(partition, origin):
                if entry.id == place:
                    entry.headers = ((CLAIM, claim.encode()),)

    def encoded(self, source: SourcePlan, data: Any) -> bytes:
        """The data as JSON, if it is of the source's type."""
        codec = self._plan.types[source.type].codec
        try:
            blob = codec.encode(data)
            codec.decode(blob)
        except (HeadraceError, msgspec.MsgspecError, TypeError, ValueError) as error:
            wanted = getattr(source.source.type, "__name__", source.source.type)
            raise CodecError(
                f"{data!r} is no {wanted}, which {source.name} takes: {error}. For broken messages there is send_raw"
            ) from error
        return blob

    def run_of(self, source: SourcePlan, data: Any, key: str | None) -> str:
        """The run that an event belongs to."""
        if not self._plan.keyed:
            return ""
        if source.key is None or isinstance(data, Tombstone):
            if not key:
                raise HarnessError(f"{source.name} has no key= for it, so it brings its own: send(..., key='...')")
            return key
        if callable(source.key):
            return str(source.key(data))
        return str(field_of(data, source.key))

    def home(self, run: str) -> int:
        """The partition of a run."""
        return partition_of(run, self._engine.partitions) if self._plan.keyed else 0


def _flat(headers: GivenHeaders) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in (headers or {}).items())
