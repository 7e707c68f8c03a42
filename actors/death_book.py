"""Which events have ended their processes, in the store: for successors on other machines.

Nothing is written while all is well. Only when processes have died one after the other with the same events in hand
does the next one note each event, before a node has it, and again when it has passed: what stays noted has ended it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from headrace.sources.connection import Script, address_of, store_errors
from headrace.sources.store_clients import connect_thread
from headrace.workflows.calls import Call
from headrace.workflows.effects import Effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.suspicion import Where

log = structlog.get_logger(__name__)

CAREFUL: Final = 2
"""Processes that ended with the same events in hand, after which the next one is careful."""
_ANSWER_WITHIN: Final = 2.0
"""Seconds: events go on without it."""
_NOTE: Final = Script(Path(__file__).parent / "scripts" / "note_death.lua")


class DeathBook:
    """That of one workflow, for one process; used from the thread in which nodes run.

    Args:
        url: The store.
        workflow: Name of the workflow.
        version: Of the code: what an event did to another one says nothing.
    """

    def __init__(self, url: str, workflow: str, version: str) -> None:
        self._url = url
        self._workflow = workflow
        self._version = version
        self._client: Any = None
        self._unsaid: list[tuple[int, str, str]] = []
        """(partition, owner, event) of those that have passed and that the store takes for deaths: it has not heard."""

    def page(self, call: Call) -> DeathPage | None:
        """What is known of the events of a call; None: the store can't say, or the call is of no owner any more."""
        while unsaid := len(self._unsaid):
            partition, owner, passed = self._unsaid.pop()
            self.note(partition, owner, "", passed)
            if len(self._unsaid) == unsaid:
                return None  # it is unsaid again
        found = self.note(call.partition, call.owner, "", "")
        return None if found is None else DeathPage(self, call, found)

    def field(self, where: Where) -> str:
        """How an event at a node is named there."""
        return msgspec.json.encode((self._version, where)).decode()

    def note(self, partition: int, owner: str, entered: str, passed: str) -> dict[str, int] | None:
        """One event enters a node, another one has passed; see `note_death.lua`. Neither: what is known."""
        head = PartitionKeys(self._workflow, partition).head
        try:
            with store_errors(address_of(self._url)):
                if self._client is None:
                    self._client = connect_thread(self._url, answer_within=_ANSWER_WITHIN)
                answer = _NOTE.write_at_once(self._client, Effect.DEATH_NOTE, head, owner, entered, passed)
        except HeadraceError as error:
            log.warning("deaths_not_noted", partition=partition, reason=str(error))
            if passed:
                self._unsaid.append((partition, owner, passed))
            return None
        if answer[0] != b"NOTED":
            return None
        parts = iter(answer[1:])
        return {field.decode(): int(count) for field, count in zip(parts, parts, strict=True)}


class DeathPage:
    """The events of one call, each noted before a node has it."""

    def __init__(self, book: DeathBook, call: Call, known: dict[str, int]) -> None:
        self._book = book
        self._call = call
        self._known = known
        self._inside = ""

    def deaths(self, where: Where) -> int:
        """How many processes an event has ended at a node, for certain."""
        return self._known.get(self._book.field(where), 0)

    def enter(self, where: Where) -> None:
        """A node has it from now on; the one before has passed."""
        field = self._book.field(where)
        self._book.note(self._call.partition, self._call.owner, field, self._inside)
        self._inside = field

    def end(self) -> None:
        """All have passed."""
        if self._inside:
            self._book.note(self._call.partition, self._call.owner, "", self._inside)
            self._inside = ""
