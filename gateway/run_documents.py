"""Runs and dead letters as answers show them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace.actors.dead_letters import Found
from headrace.actors.run_views import RunRow, RunView
from headrace.gateway.addresses import links_of, run_address
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import shown_key

COMPLETED = "completed"


def run_document(workflow: WorkflowDescriptor, run: RunView) -> dict[str, Any]:
    """All of a run that callers may see: not the states of its nodes."""
    document = row_document(workflow, run)
    waits = [{"name": row.name, "id": row.id, "until": written(row.until)} for row in run.waits]
    document |= {"ended_by": run.ended_by, "wait": waits[0] if waits else None}
    if len(waits) > 1:
        document["waits"] = waits
    if run.result is not None:
        document["result" if run.status == COMPLETED else "reason"] = run.result
    if run.void:
        document["void"] = run.void
    return document


def row_document(workflow: WorkflowDescriptor, run: RunView | RunRow) -> dict[str, Any]:
    """What a list says of a run."""
    return {
        "workflow": run.workflow,
        "key": shown_key(run.key),
        "number": run.number,
        "status": run.status,
        "began": written(run.began),
        "ended": written(run.ended),
        "links": links_of(run_address(workflow, run.key)),
    }


def written(milliseconds: int | None) -> str | None:
    """A time as RFC 3339 has it."""
    if milliseconds is None:
        return None
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def letter_document(found: Found) -> dict[str, Any]:
    """A dead letter: its data as they are where they are JSON, else as base64."""
    fields = msgspec.structs.asdict(found.letter)
    data: bytes | None = fields.pop("data")
    fields.pop("reentry", None)
    fields["key"] = shown_key(found.letter.key)
    row: dict[str, Any] = {"address": found.address, **fields}
    row["headers"] = {name: value.decode(errors="replace") for name, value in found.letter.headers}
    row["time"], row["event_time"] = written(found.letter.time), written(found.letter.event_time)
    if data is not None and _is_json(data):
        row["data"] = msgspec.Raw(data)
    else:
        row["data_base64"] = None if data is None else base64.b64encode(data).decode()
    return row


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
