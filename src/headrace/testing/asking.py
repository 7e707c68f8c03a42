"""Requests of a test: what a caller of the gateway asks, and what it is answered."""

from __future__ import annotations

from typing import Any

from headrace.testing.engine import Engine
from headrace.testing.problems import HarnessError
from headrace.testing.senders import Senders
from headrace.workflows import envelope
from headrace.workflows.envelope import RequestAnswer
from headrace.workflows.plan import SourcePlan

_CALLER = "harness"


class Asked:
    """A request that was made."""

    def __init__(self, engine: Engine, partition: int, id: str, data: Any) -> None:
        self._engine = engine
        self._partition = partition
        self._data = data
        self.id = id
        """Of the request, and of its event."""

    @property
    def answer(self) -> RequestAnswer | None:
        """What it was answered; None as long as it is open: an event of it stands still, to be tried again."""
        body = self._engine.store.reply(self._partition, self.id)
        return None if body is None else envelope.decode(body)

    def reply(self) -> Any:
        """What a node replied, or else the result of the run that it completed.

        Raises:
            HarnessError: There is neither; says what there is.
        """
        answer = self.answer
        if answer is None:
            raise HarnessError(f"no answer to {self._data!r} yet: an event of it stands still, see harness.parked")
        if answer.kind == "failed":
            raise HarnessError(f"no node replied to {self._data!r}: {answer.error}")
        if answer.kind == "ended" and answer.outcome != "completed":
            raise HarnessError(f"no node replied to {self._data!r}: its run is {answer.outcome}, {answer.data!r}")
        if answer.kind == "waiting" and not answer.has_value:
            raise HarnessError(f"no node replied to {self._data!r}: its run waits at {answer.wait}")
        if answer.kind == "done":
            raise HarnessError(f"no node replied to {self._data!r}")
        return answer.data

    def __repr__(self) -> str:
        return f"Asked(id={self.id!r}, answer={self.answer!r})"


class Asking:
    """Makes requests of a harness."""

    def __init__(self, engine: Engine, senders: Senders) -> None:
        self._engine = engine
        self._senders = senders
        self._count = 0

    def ask(self, plan: SourcePlan, data: Any, key: str | None, id: str | None, wait: str | None = None) -> Asked:
        """Put a request into the inbox."""
        if plan.source.kind not in ("requests", "messages"):
            raise HarnessError(f"{plan.name} is no RequestSource and no MessageSource: nobody can reply. Use send")
        self._count += 1
        chosen = id or f"request-{self._count}"
        run = self._senders.run_of(plan, data, key)
        partition = self._senders.home(run)
        blob = self._senders.encoded(plan, data)
        self._senders.append(plan, blob, partition, run=run, id=chosen, reply=_CALLER, claim=wait)
        return Asked(self._engine, partition, chosen, data)
