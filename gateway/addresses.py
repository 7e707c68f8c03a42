"""Addresses of runs in answers: their own, and those of what belongs to them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from headrace.gateway.keys import decode_key, encode_key
from headrace.gateway.principal import tenant_now
from headrace.gateway.problems import ProblemError
from headrace.workflows.keyspace import partition_of
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import MARK, is_reserved, key_for, shown_key

BASE: Final = "/v1/workflows/{workflow}"
KEY_BYTES: Final = 1024
ONLY: Final = "-"
"""How the single run of an unkeyed workflow is addressed."""


def run_address(workflow: WorkflowDescriptor, key: str) -> str:
    """Where a run is, to its tenant: `/v1/workflows/orders/runs/4711`."""
    text = encode_key(shown_key(key)) if workflow.keyed else ONLY
    return f"/v1/workflows/{quote(workflow.name, safe='')}/runs/{text}"


def links_of(home: str) -> dict[str, str]:
    """What there is of a run, by what it is."""
    return {
        "self": home,
        "result": f"{home}/result",
        "messages": f"{home}/messages/{{name}}",
        "values": f"{home}/values",
        "stream": f"{home}/streams/{{name}}",
        "terminate": f"{home}/terminate",
    }


def key_of(workflow: WorkflowDescriptor, text: str) -> str:
    """The key of the run that an address speaks of, to who asks; an unkeyed workflow's run has an empty one.

    Raises:
        ProblemError: `invalid_key`.
    """
    try:
        key = decode_key(text)
    except ValueError as error:
        raise ProblemError("invalid_key", str(error)) from error
    return checked_key(key) if workflow.keyed else ""


def checked_key(key: str) -> str:
    """The key of the run that who asks calls `key`: theirs, of their tenant.

    Raises:
        ProblemError: `invalid_key`: it is too long, or looks like one of a tenant.
    """
    if is_reserved(key):
        raise ProblemError("invalid_key", f"no key begins with {MARK!r}: so begin those of tenants, within")
    own = key_for(tenant_now(), key)
    if len(own.encode()) > KEY_BYTES:
        raise ProblemError(
            "invalid_key", f"the key has more than {KEY_BYTES - len(own.encode()) + len(key.encode())} bytes"
        )
    return own


def partition(workflow: WorkflowDescriptor, key: str) -> int:
    """The partition that a run's key belongs to."""
    return partition_of(key, workflow.partitions) if workflow.keyed else 0
