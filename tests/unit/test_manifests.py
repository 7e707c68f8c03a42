"""What lies in `deploy/` fits the real command, its settings, Ray's own command, and itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from packaging.specifiers import SpecifierSet

from headrace.cli.app import app
from headrace.gateway.settings import GatewaySettings
from headrace.settings.layers import variable_of
from headrace.settings.model import FIELDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ADDRESSES = ("ray://ray-head:10001", "ray://headrace-head-svc:10001")
OTHER_VARIABLES = {"HEADRACE_CACHE"}


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def compose() -> dict[str, Any]:
    return documents("compose.yaml")[0]


def kubernetes() -> dict[str, dict[str, Any]]:
    """`kind/name` -> object."""
    found = [
        document for path in (DEPLOY / "kubernetes").glob("*.yaml") for document in documents(f"kubernetes/{path.name}")
    ]
    return {f"{one['kind']}/{one.get('metadata', {}).get('name', '')}": one for one in found}


def unit(name: str) -> dict[str, list[str]]:
    """Key -> values of a systemd unit, whatever its section."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def containers() -> Iterator[dict[str, Any]]:
    objects = kubernetes()
    cluster = objects["RayCluster/headrace"]["spec"]
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    templates += [one["spec"] for one in objects.values() if one["kind"] in ("Deployment", "Job")]
    for template in templates:
        yield from template["template"]["spec"]["containers"]


def commands() -> list[list[str]]:
    """Everything that is given to `headrace`, without its name."""
    services = compose()["services"]
    units = [shlex.split(unit(f"headrace-{name}.service")["ExecStart"][0])[1:] for name in ("supervise", "gateway")]
    typed = [services[name]["command"] for name in ("supervise", "gateway")]
    typed.append(services["deploy"]["entrypoint"][1:] + services["deploy"]["command"])
    return [*units, *typed, *(one["args"] for one in containers() if "args" in one)]


@pytest.mark.parametrize("typed", commands(), ids=lambda typed: typed[0])
def test_every_command_is_understood(typed: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    verb = group.commands[typed[0]]
    options = {option for parameter in verb.params for option in parameter.opts} | {"--log-format"}

    assert {part for part in typed[1:] if part.startswith("--")} <= options
    plain = [part for part in typed[1:] if part not in ("--log-format", "json")]
    given = verb.make_context(typed[0], plain).params
    assert given.get("address") in (None, *ADDRESSES)
    assert typed[0] != "serve" or (given["host"], given["authentication"]) == ("0.0.0.0", "required")


@pytest.mark.filterwarnings("ignore")  # Ray's own imports
def test_every_option_of_ray_is_known_to_it() -> None:
    from ray.scripts.scripts import start  # noqa: PLC0415  it takes seconds

    options = {option for parameter in start.params for option in parameter.opts}
    services = compose()["services"]
    typed = [*services["ray-head"]["command"], *services["ray-worker"]["command"]]
    typed += shlex.split(unit("ray-head.service")["ExecStart"][0])[2:]
    cluster = kubernetes()["RayCluster/headrace"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    typed += [f"--{name}" for group in groups for name in group["rayStartParams"]]

    assert {part.split("=")[0] for part in typed if part.startswith("--")} <= options


def test_every_variable_is_a_setting() -> None:
    named = set(compose()["x-headrace"]["environment"])
    named |= {entry["name"] for one in containers() for entry in one.get("env", [])}
    for path in (DEPLOY / "systemd").glob("headrace-*.service"):
        named |= set(re.findall(r"^#?\s*(?:Environment=)?([A-Z_]+)=", path.read_text(), re.M))

    ours = {name for name in named if name.startswith("HEADRACE_")}
    assert ours
    served = {variable_of(("gateway", field)) for field in GatewaySettings.__struct_fields__}
    assert ours <= {variable_of((field,)) for field in FIELDS} | served | OTHER_VARIABLES


def test_versions_are_those_of_the_project_and_of_each_other() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    ray = re.search(r"ARG RAY=(\S+)", dockerfile)
    python = re.search(r"ARG PYTHON=([0-9.]+)-", dockerfile)
    requires = re.search(r'requires-python = "(.+)"', project)
    assert ray and python and requires

    assert ray[1] == kubernetes()["RayCluster/headrace"]["spec"]["rayVersion"] == version("ray")
    assert python[1] in SpecifierSet(requires[1])
    tag = kubernetes()["Kustomization/"]["images"][0]["newTag"]
    assert f"headrace:{tag}" == compose()["x-headrace"]["image"] == f"headrace:{version('headrace')}"
    assert (
        kubernetes()["Job/headrace-deploy"]["spec"]["template"]["spec"]["containers"][0]["image"] == f"headrace:{tag}"
    )


def test_every_secret_key_that_is_used_is_described() -> None:
    objects = kubernetes()
    described = {
        (one["metadata"]["name"], key)
        for one in objects.values()
        if one["kind"] == "Secret"
        for key in one["stringData"]
    }
    used = {(entry["name"], entry["key"]) for one in objects.values() for entry in _references(one)}

    assert used <= described
    assert (objects["RayCluster/headrace"]["spec"]["authOptions"]["secretName"], "auth_token") in described


def test_names_point_to_what_is_there() -> None:
    objects = kubernetes()
    for one in containers():
        mounts = {mount["name"] for mount in one.get("volumeMounts", [])}
        assert mounts <= {"tmp", "flow"}
    for name in ("headrace-supervise", "headrace-gateway"):
        deployment = objects[f"Deployment/{name}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels
        assert objects[f"PodDisruptionBudget/{name}"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service/headrace-gateway"]["spec"]["selector"] == labels
    ports = [port["name"] for one in containers() for port in one.get("ports", []) if one["name"] == "gateway"]
    assert ports == [port["targetPort"] for port in objects["Service/headrace-gateway"]["spec"]["ports"]]
    assert (
        objects["PodDisruptionBudget/headrace-workers"]["spec"]["selector"]["matchLabels"]["ray.io/cluster"]
        == "headrace"
    )
    listed = set(objects["Kustomization/"]["resources"])
    assert listed <= {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}


def test_nobody_is_root() -> None:
    assert re.findall(r"^USER (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M) == ["10001"]
    for path in (DEPLOY / "systemd").glob("headrace-*.service"):
        assert unit(path.name)["DynamicUser"] == ["yes"]


def test_what_the_image_is_built_from_is_let_in() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    let_in = (ROOT / ".dockerignore").read_text().splitlines()

    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in let_in


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "secretKeyRef" in value:
            yield value["secretKeyRef"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
