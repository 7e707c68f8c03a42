"""Takes many events in: each is checked by itself, those of a partition go into its inbox together and in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import Request, Response

from headrace.actors.store_requests import REMEMBERED, Admission, Condition
from headrace.actors.store_requests import Request as Entry
from headrace.gateway.addresses import checked_key
from headrace.gateway.bodies import key_in, read_body
from headrace.gateway.calls import DURABILITY, json_response, refusal
from headrace.gateway.gateway import Gateway, request_source
from headrace.gateway.idempotency import REPLAYED, Identity, digest, idempotency_key, identity_of
from headrace.gateway.ingest_formats import Came, events_of
from headrace.gateway.principal import Principal
from headrace.gateway.problems import ProblemError, problem_of
from headrace.gateway.validation import FieldErrors, invalid_data
from headrace.workflows.durability import Durability
from headrace.workflows.intake import EVENT_CAP
from headrace.workflows.keyspace import partition_of
from headrace.workflows.late import NEW_RUN
from headrace.workflows.records import Headers
from headrace.workflows.store import SourceDescriptor, StoreFull, StoreUnavailable, WorkflowDescriptor
from headrace.workflows.tenants import key_for

_TRIES: Final = 3
_PAUSE: Final = 0.1
_PARTITIONS_AT_ONCE: Final = 8
_BREATH: Final = 100
"""Events that are checked before others have their turn."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """An event that is all right."""

    index: int
    partition: int
    key: str
    entry: Entry


async def take_in(
    gateway: Gateway, principal: Principal, request: Request, name: str, source: str | None, headers: Headers
) -> Response:
    """Answer `POST /events`.

    Raises:
        ProblemError: The body can't be taken apart; or it had one event, and that was refused.
        StoreUnavailable, StoreFull: Nothing was taken in, as far as is known.
    """
    workflow = await gateway.workflow(name)
    port = request_source(workflow, source)
    chosen = idempotency_key(request)
    body = await read_body(request, gateway.settings, gateway.settings.ingest_bytes)
    came, many = events_of(request, body, gateway.settings)
    batch = _Batch(gateway, principal, workflow, port, chosen, headers)
    await batch.place(came)
    await batch.append()
    if not many and batch.problems:
        raise batch.problems[0]
    if batch.problems and not batch.accepted and all(each.code == "inbox_full" for each in batch.problems.values()):
        raise batch.problems[min(batch.problems)]
    answer = {DURABILITY: str(batch.durability)}
    if came and batch.repeated == len(came):
        answer[REPLAYED] = "true"
    rows = [_row(index, problem) for index, problem in sorted(batch.problems.items())]
    return json_response({"accepted": batch.accepted, "errors": rows}, headers=answer)


def _row(index: int, problem: ProblemError) -> dict[str, Any]:
    return {"index": index, "code": problem.code, "detail": problem.detail, **problem.extra}


class _Batch:
    """The events of one body on their way."""

    def __init__(
        self, gateway: Gateway, principal: Principal, workflow: WorkflowDescriptor, source: SourceDescriptor,
        chosen: str | None, headers: Headers,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._workflow = workflow
        self._source = source
        self._scope = (principal.tenant, workflow.name)
        self._chosen = chosen
        self._headers = headers
        self._placed: list[_Placed] = []
        self._is_repeatable = False
        """Senders may send them again, later, and rely on it that they count once."""
        self._condition = Condition.ANY if source.late == NEW_RUN else Condition.OPEN
        self.durability = Durability.parse(workflow.durability)
        self.accepted = 0
        self.repeated = 0
        self.problems: dict[int, ProblemError] = {}

    async def place(self, came: Sequence[Came]) -> None:
        """Check each, and find out where it belongs."""
        checks = await self._gateway.checks(self._workflow, self._source)
        self._is_repeatable = self._chosen is not None or any(event.cloudevent is not None for event in came)
        for event in came:
            if event.index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            try:
                self._placed.append(self._place(event, checks))
            except ProblemError as problem:
                self.problems[event.index] = problem

    def _place(self, event: Came, checks: FieldErrors) -> _Placed:
        if event.problem is not None:
            raise event.problem
        if len(event.body) > EVENT_CAP:
            raise ProblemError("body_too_large", f"the event has more than {EVENT_CAP} bytes")
        if errors := checks.of(event.data):
            raise invalid_data(errors)
        identity = self._identity(event)
        key = self._key(event, identity)
        entry = Entry(
            id=identity.id, key=key, source=self._source.name, body=event.body,
            headers=(*event.headers, *self._headers), fingerprint=identity.fingerprint, condition=self._condition,
        )  # fmt: skip
        workflow = self._workflow
        # Where a function of the workflow says the key, any partition takes it and passes it on.
        placed_by = identity.id if self._source.computed_key else key
        partition = partition_of(placed_by, workflow.partitions) if workflow.keyed else 0
        return _Placed(event.index, partition, key, entry)

    def _identity(self, event: Came) -> Identity:
        if self._chosen is not None:
            return identity_of(self._chosen, (*self._scope, "ingest", self._source.name, str(event.index)), event.body)
        if event.cloudevent is not None:
            return Identity(digest(*self._scope, "cloudevent", event.cloudevent.source, event.cloudevent.id), "")
        return identity_of(None, (), b"")

    def _key(self, event: Came, identity: Identity) -> str:
        source = self._source
        if not self._workflow.keyed:
            return ""
        if source.computed_key:
            return key_for(self._scope[0], "")  # the worker adds what it computes
        if source.key is not None:
            key = key_in(event.data, source.key)
            if key is None:
                raise ProblemError("no_key", f"its field {source.key!r} has no text or number")
            return checked_key(key)
        if event.cloudevent is not None and event.cloudevent.subject:
            return checked_key(event.cloudevent.subject)
        return checked_key(digest("ingest", identity.id))  # sent again, it is for the same run

    async def append(self) -> None:
        """Put all that are all right into their inboxes."""
        parts: dict[int, list[_Placed]] = defaultdict(list)
        for placed in self._placed:
            parts[placed.partition].append(placed)
        turn = asyncio.Semaphore(_PARTITIONS_AT_ONCE)

        async def one(partition: int, rows: list[_Placed]) -> None:
            async with turn:
                await self._append(partition, rows)

        failed = await asyncio.gather(*(one(*part) for part in parts.items()), return_exceptions=True)
        for rows, error in zip(parts.values(), failed, strict=True):
            if error is None:
                continue
            if not isinstance(error, (StoreUnavailable, StoreFull)) or not self.accepted:
                raise error
            self.problems.update({row.index: problem_of(error) for row in rows})

    async def _append(self, partition: int, rows: list[_Placed]) -> None:
        for row, admission in zip(rows, await self._admit(partition, rows), strict=True):
            if admission.is_in:
                self.accepted += 1
                self.repeated += admission is Admission.ALREADY
            else:
                self.problems[row.index] = refusal(admission, self._workflow, row.key)

    async def _admit(self, partition: int, rows: list[_Placed]) -> list[Admission]:
        append = partial(
            self._gateway.store.append_requests, self._workflow.name, partition, [row.entry for row in rows],
            durability=self.durability,
            remembered=self._gateway.settings.idempotency_seconds if self._is_repeatable else REMEMBERED,
        )  # fmt: skip
        for tries in range(1, _TRIES):
            try:
                return await append()
            except StoreUnavailable:  # the same ids again: what is there already is not doubled
                await asyncio.sleep(_PAUSE * tries)
        return await append()
