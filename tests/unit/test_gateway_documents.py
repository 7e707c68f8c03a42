"""What the gateway says of itself: every problem has a row in the reference, and every route its problems."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import jsonschema
import pytest

from documents import ROOT
from headrace.gateway.app import create_app
from headrace.gateway.openapi import openapi_for
from headrace.gateway.problem_types import PROBLEMS, ProblemType
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewayOptionError, GatewaySettings, gateway_settings
from headrace.workflows.node_inputs import NodeInput
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

PAGE = (ROOT / "docs" / "reference" / "http.md").read_text()
CALLBACKS = (ROOT / "docs" / "how-to" / "callbacks.md").read_text()
SERVE = (ROOT / "docs" / "how-to" / "serve.md").read_text()
DOCUMENT: dict[str, Any] = create_app("redis://127.0.0.1:1/0").openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def raised() -> set[str]:
    """Codes of the problems that the gateway's code raises."""
    return {
        node.args[0].value
        for path in (ROOT / "gateway").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ProblemError" and node.args
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


def test_every_problem_that_is_raised_is_known() -> None:
    assert raised() - set(PROBLEMS) == set()
    assert len(raised()) > 20


@pytest.mark.parametrize("kind", PROBLEMS.values(), ids=lambda kind: kind.code)
def test_a_problem_has_a_row_in_the_reference(kind: ProblemType) -> None:
    assert f"| `{kind.code}` | {kind.status.value} |" in PAGE


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_route_is_in_the_reference_and_says_what_it_answers(name: str) -> None:
    operation = OPERATIONS[name]
    method, _, path = name.partition(" ")

    assert f"`{method} {path.removeprefix('/v1/workflows/{workflow}')}`" in PAGE
    assert operation["summary"]
    assert operation["description"]
    if path.startswith("/v1"):
        assert {"200", "404", "503"} <= set(operation["responses"])
        problems = operation["responses"]["503"]["content"]["application/problem+json"]
        assert problems["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert problems["examples"]["store_unavailable"]["value"]["status"] == 503


WITHOUT_BODY = {name for name in OPERATIONS if name.endswith(("/redeliver", "/tickets"))}


@pytest.mark.parametrize("name", sorted(name for name in OPERATIONS if name.startswith("POST")))
def test_a_body_has_an_example(name: str) -> None:
    if name in WITHOUT_BODY:
        assert "requestBody" not in OPERATIONS[name]
        return
    for media, content in OPERATIONS[name]["requestBody"]["content"].items():
        assert "example" in content or "examples" in content, media


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_parameters_and_answers_are_described_with_examples(name: str) -> None:
    for parameter in OPERATIONS[name].get("parameters", ()):
        assert parameter["description"]
        shown = {"example", "examples"} & parameter.keys() | {"default", "examples"} & parameter["schema"].keys()
        assert shown, parameter["name"]
    for status, answer in OPERATIONS[name]["responses"].items():
        assert answer["description"], status
        for media, content in answer.get("content", {}).items():
            assert "example" in content or "examples" in content, (status, media)


def test_operations_have_names_of_their_own_and_stand_in_described_groups() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    groups = {group for operation in OPERATIONS.values() for group in operation["tags"]}

    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert groups == {group["name"] for group in DOCUMENT["tags"]}


@pytest.mark.parametrize(("path", "code", "run"), [
    ("/v1/workflows/orders/runs/a b/events", "invalid_json", "/v1/workflows/orders/runs/a%20b"),
    ("/v1/workflows/orders/runs/4711", "store_unavailable", "/v1/workflows/orders/runs/4711"),
    ("/v1/workflows/orders/runs", "invalid_json", None),
    ("/v1/workflows/orders/runs/4711", "unknown_workflow", None),
    ("/v1/workflows/orders/runs/~~/values", "invalid_key", None),
    ("/v1/workflows/orders/runs/4711/x", "not_found", None),
])  # fmt: skip
def test_a_problem_at_the_address_of_a_run_says_which_it_is(path: str, code: str, run: str | None) -> None:
    document = json.loads(bytes(ProblemError(code, "so").response(path).body))

    assert document.get("run") == run


def test_what_is_told_by_callbacks_is_described_with_an_example_of_each_type() -> None:
    asking = {name for name, operation in OPERATIONS.items() if "callbacks" in operation}
    base = "/v1/workflows/{workflow}"
    assert asking == {f"POST {base}/runs", f"POST {base}/runs/{{key}}/events", "POST /workflow/start"}

    for name in asking:
        (call,) = OPERATIONS[name]["callbacks"].values()
        content = call["{$request.header.Headrace-Callback}"]["post"]["requestBody"]["content"]["application/json"]
        schema = DOCUMENT["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        types = {row["properties"]["type"]["const"] for row in schema["oneOf"]}
        assert set(content["examples"]) == types == set(re.findall(r"^\| `(run\.\w+)` \|", CALLBACKS, re.MULTILINE))
        for kind, example in content["examples"].items():
            jsonschema.validate(example["value"], schema)
            assert example["value"]["type"] == kind


def test_references_of_the_document_lead_somewhere() -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    for document in (DOCUMENT, of_orders()):
        assert references(document)
        for reference in references(document):
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]


def of_orders() -> dict[str, Any]:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/Order",
        "$defs": {"Order": {"type": "object", "properties": {"parent": {"$ref": "#/$defs/Order"}}}},
    }  # fmt: skip
    sources = (
        SourceDescriptor(kind="requests", name="requests", schema=schema),
        SourceDescriptor(kind="messages", name="approval", schema={"type": "string"}),
    )
    inputs = (NodeInput(name="price", schema=schema), NodeInput(name="wait", refused=True), NodeInput(name="any"))
    workflow = WorkflowDescriptor(name="orders", partitions=1, sources=sources, inputs=inputs)
    return openapi_for(create_app("redis://127.0.0.1:1/0"), workflow)


def test_the_document_of_a_workflow_has_its_name_and_its_types() -> None:
    document = of_orders()
    post = document["paths"]["/v1/workflows/orders/runs/{key}/events"]["post"]
    message = document["paths"]["/v1/workflows/orders/runs/{key}/messages/{message}"]["post"]

    requests = {"$ref": "#/components/schemas/requests.requests"}
    assert post["requestBody"]["content"]["application/json"]["schema"] == {"anyOf": [requests]}
    assert [row["name"] for row in post["parameters"] if row["in"] == "path"] == ["key"]
    assert message["requestBody"]["content"]["application/json"]["schema"] == {
        "anyOf": [{"$ref": "#/components/schemas/messages.approval"}]
    }
    node = document["paths"]["/v1/workflows/orders/runs/{key}/nodes/{node}"]["post"]
    assert node["requestBody"]["content"]["application/json"]["schema"] == {
        "anyOf": [{"$ref": "#/components/schemas/node.price"}]
    }
    assert "{workflow}" not in json.dumps(list(document["paths"]))


@pytest.mark.parametrize("option", GatewaySettings.__struct_fields__)
def test_an_option_is_described(option: str) -> None:
    assert f"| `{option}` |" in SERVE


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"prt": 1}, "Did you mean port?"),
        ({"port": "many"}, "'many' can't be used"),
        ({"port": 70_000}, "70000 can't be used"),
        ({"processes": 0}, "0 can't be used"),
        ({"body_seconds": -1.0}, "-1.0 can't be used"),
    ],
)
def test_options_that_can_not_be_say_so(table: dict[str, Any], words: str) -> None:
    with pytest.raises(GatewayOptionError, match=words.replace("?", r"\?")):
        gateway_settings(table)


def test_problems_that_pass_say_when_to_ask_again() -> None:
    later = {code for code in PROBLEMS if "Retry-After" in ProblemError(code, "").headers}

    assert later == {
        "inbox_full", "too_many_waiting", "store_unavailable", "store_full", "not_durable", "run_starting",
        "callbacks_full",
        "rate_limited", "quota_exceeded", "credentials_unavailable",
    }  # fmt: skip
