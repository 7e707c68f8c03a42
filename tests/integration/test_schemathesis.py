"""Every operation does what the OpenAPI document says, whatever is sent: nothing undocumented, no 500 (schemathesis).

A gateway and a worker in a process of their own, with the document of their workflow; and a gateway on the same store
that asks for credentials, asked with a key that may do all, and without one. More examples, as they are run before a
release: `HEADRACE_EXAMPLES=200 pytest tests/integration/test_schemathesis.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from headrace.actors.access_keys import create_key
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from headrace.gateway.app import create_app
from headrace.gateway.openapi import openapi_for
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import gateway_settings
from hooks import SECRET

EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES", "10"))
FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()
DATABASE = 4002
"""Of the session's Valkey; other tests count theirs from 1 on."""
THERE = {"key": "4711", "message": "approval"}
"""Names of what there is."""
SOON = {
    "wait_seconds": 0.1, "longest_wait_seconds": 0.3, "callback_secrets": SECRET, "callback_networks": "127.0.0.0/8",
    "callback_plain": True,
}  # fmt: skip
"""Settings of the gateways: what is waited for in vain is waited for thousands of times."""
OPEN = ("/healthz", "/readyz")
"""What anybody may ask."""
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


@dataclass(frozen=True)
class Asked:
    """A gateway, and how it is asked."""

    address: str
    document: Any
    """All operations of the workflow."""
    headers: dict[str, str] = field(default_factory=dict)
    refuses: bool = False
    """Whoever asks so may do nothing."""


@pytest.fixture(scope="module")
def asked(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Asked]]:
    """By who asks: `anybody` where all may, `somebody` with a key and `nobody` where credentials are asked for."""
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    folder = tmp_path_factory.mktemp("schemathesis")
    lines = [f"{name} = {str(value).lower() if value is True else repr(value)}" for name, value in SOON.items()]
    (folder / "headrace.toml").write_text("\n".join(["[gateway]", *lines]))
    guarded = gateway_settings({**SOON, "port": 0, "authentication": "required"})
    with commands_in(folder, FLOW) as start, GatewayThread(url, guarded) as gate:
        ran = start("dev", "flow.py", "--inline", "--no-live", "--redis", url, "--serve", "--port", "0")
        ran.says("running, after")
        found = re.search(r"HTTP\s+((http://[^/\s]+)\S*)", ran.text)
        assert found, ran.text
        httpx.post(f"{found[1]}/runs/4711/events", json={"what": "wait"}, timeout=60).raise_for_status()
        document, key = asyncio.run(_document(url))
        described = schemathesis.openapi.from_dict(document)
        yield {
            "anybody": Asked(found[2], described),
            "somebody": Asked(gate, described, {"Authorization": f"Bearer {key}"}),
            "nobody": Asked(gate, described, refuses=True),
        }


async def _document(url: str) -> tuple[dict[str, Any], str]:
    """What is said of the workflow, and a key that may do all."""
    async with Registry(url, connections=1) as registry:
        workflow = await registry.workflow("orders")
        _, key = await create_key(registry, "all", "default", ["admin"], lifetime=None)
    assert workflow is not None
    return openapi_for(create_app(url), workflow), key


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.slow
@pytest.mark.parametrize("who", ["anybody", "somebody", "nobody"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_does_what_its_document_says(
    asked: dict[str, Asked], session: requests.Session, label: str, who: str
) -> None:
    way = asked[who]
    method, _, path = label.partition(" ")
    operation = way.document[path][method]
    names = {name: THERE[name] for name in THERE if f"{{{name}}}" in path}
    cases = [operation.as_strategy()]
    if names:
        cases += [operation.as_strategy(path_parameters=names)]
    if operation.body or operation.query:
        cases += [operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)]

    @given(case=st.one_of(cases))
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
    def check(case: Any) -> None:
        answer = case.call(base_url=way.address, session=session, headers=way.headers or None, timeout=60)
        case.validate_response(answer, checks=CHECKS)
        refused = answer.status_code == httpx.codes.UNAUTHORIZED
        if way.refuses and path not in OPEN:
            assert refused or answer.status_code == httpx.codes.NOT_FOUND, "only what is no address is told"
        elif "ticket" not in (case.query or {}):
            assert not refused

    check()
