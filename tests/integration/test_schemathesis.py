"""Every operation does what the OpenAPI document says, whatever is sent: nothing undocumented, no 500 (schemathesis).

A gateway and a worker in a process of their own, with the document of their workflow. More examples, as they are run
before a release: `HEADRACE_EXAMPLES=200 pytest tests/integration/test_schemathesis.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from command_line import commands_in
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from headrace.gateway.app import create_app
from headrace.gateway.openapi import openapi_for

EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES", "10"))
FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()
DATABASE = 4001
"""Of the session's Valkey; other tests count theirs from 1 on."""
THERE = {"id": "orders:4711", "key": "4711", "message": "approval", "node": "take"}
"""Names of what there is."""
PATIENT = {
    "GET /workflow-events/{id}/{key}": {"Prefer": "wait=0"},
    "GET /workflow-stream/{id}": {"Accept": "application/json"},
}
"""Headers by which operations don't wait that would: a minute for a value, or until the run has ended."""
CHECKS: list[Any] = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
OPERATIONS = sorted(
    f"{method.upper()} {path.replace('{workflow}', 'orders')}"
    for path, operations in create_app("redis://127.0.0.1:1/0").openapi()["paths"].items()
    for method in operations
)

pytestmark = pytest.mark.timeout(60 + 10 * EXAMPLES)


@pytest.fixture(scope="module")
def served(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """Address of the gateway, and all operations of the workflow."""
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    with commands_in(tmp_path_factory.mktemp("schemathesis"), FLOW) as start:
        ran = start("dev", "flow.py", "--inline", "--no-live", "--redis", url, "--serve", "--port", "0")
        ran.says("running, after")
        found = re.search(r"HTTP\s+((http://[^/\s]+)\S*)", ran.text)
        assert found, ran.text
        httpx.post(f"{found[1]}/runs/4711/events", json={"what": "wait"}, timeout=60).raise_for_status()
        document = schemathesis.openapi.from_dict(asyncio.run(_document(url)))
        yield found[2], document


async def _document(url: str) -> dict[str, Any]:
    async with Registry(url, connections=1) as registry:
        workflow = await registry.workflow("orders")
    assert workflow is not None
    return openapi_for(create_app(url), workflow)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_does_what_its_document_says(
    served: tuple[str, Any], session: requests.Session, label: str
) -> None:
    address, document = served
    method, _, path = label.partition(" ")
    operation = document[path][method]
    names = {name: THERE[name] for name in THERE if f"{{{name}}}" in path}
    cases = [operation.as_strategy()]
    if names:
        cases += [operation.as_strategy(path_parameters=names)]
    if operation.body or operation.query:
        cases += [operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)]

    @given(case=st.one_of(cases))
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
    def check(case: Any) -> None:
        more = PATIENT.get(label)
        case.call_and_validate(base_url=address, session=session, checks=CHECKS, headers=more, timeout=60)

    check()
