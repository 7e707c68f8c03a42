"""Settings: which source of a value counts, what is said of mistakes, what may be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.settings import Loaded, SettingsError, load_settings, shown
from headrace.settings.lines import line_of
from headrace.settings.model import FIELDS, depth_of

OWN = """\
workers = 2
redis_url = "redis://file:6379/0"

[kafka]
bootstrap_servers = "file:9092"
request_timeout_ms = 5000

[settings]
limit = 5
name = "kitchen"

[profiles.prod]
workers = 8
kafka.bootstrap_servers = "prod:9092"

[profiles.prod.settings]
limit = 50
"""
PROJECT = """\
[project]
name = "thermometers"

[tool.headrace]
workers = 3
partitions = 12
clusters.eu = "eu:9092"
"""


def load(folder: Path, *flags: tuple[str, tuple[str, ...], Any], profile: str | None = None, **env: str) -> Loaded:
    return load_settings(folder, flags=flags, profile=profile, environment=env)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "headrace.toml").write_text(OWN)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def test_without_anything_there_are_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path)

    assert (loaded.settings.workers, loaded.settings.redis_url, loaded.settings.kafka) == (1, "", {})
    assert str(loaded.origin(("workers",))) == "default"


def test_each_source_is_stronger_than_the_next(project: Path) -> None:
    everything = load(project, ("--workers", ("workers",), 9), HEADRACE_WORKERS="5")
    environment = load(project, ("--workers", ("workers",), None), HEADRACE_WORKERS="5")
    own_file = load(project)
    (project / "headrace.toml").unlink()
    project_file = load(project)

    found = [
        (loaded.settings.workers, str(loaded.origin(("workers",))))
        for loaded in (everything, environment, own_file, project_file)
    ]
    assert found == [
        (9, "--workers"), (5, "HEADRACE_WORKERS"), (2, "headrace.toml:1"), (3, "pyproject.toml:5"),
    ]  # fmt: skip


def test_single_values_of_a_table_come_from_where_they_are_set(project: Path) -> None:
    loaded = load(
        project, HEADRACE_KAFKA="env:9092", HEADRACE_KAFKA__SECURITY_PROTOCOL="SSL",
        HEADRACE_CLUSTERS__US__BOOTSTRAP_SERVERS="us:9092", HEADRACE_CLUSTERS__AP="ap:9092",
    )  # fmt: skip

    assert loaded.settings.kafka == {
        "bootstrap_servers": "env:9092", "request_timeout_ms": "5000", "security_protocol": "SSL",
    }  # fmt: skip
    assert loaded.settings.clusters == {
        "eu": {"bootstrap_servers": "eu:9092"}, "us": {"bootstrap_servers": "us:9092"},
        "ap": {"bootstrap_servers": "ap:9092"},
    }  # fmt: skip
    assert str(loaded.origin(("kafka", "request_timeout_ms"))) == "headrace.toml:6"
    assert str(loaded.origin(("clusters", "eu", "bootstrap_servers"))) == "pyproject.toml:7"


@pytest.mark.parametrize("chosen", [{"profile": "prod"}, {"HEADRACE_PROFILE": "prod"}])
def test_a_profile_is_stronger_than_the_rest_of_its_file(project: Path, chosen: dict[str, str]) -> None:
    loaded = load(project, **chosen)

    assert (loaded.profile, loaded.settings.workers, loaded.settings.redis_url) == ("prod", 8, "redis://file:6379/0")
    assert loaded.settings.settings == {"limit": 50, "name": "kitchen"}
    assert loaded.settings.kafka["bootstrap_servers"] == "prod:9092"
    assert str(loaded.origin(("workers",))) == "headrace.toml:13 (profile prod)"


def test_a_profile_of_pyproject_is_weaker_than_the_own_file(project: Path) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.headrace.profiles.prod]\nworkers = 11\npartitions = 13\n")

    loaded = load(project, profile="prod")

    assert (loaded.settings.workers, loaded.settings.partitions) == (8, 13)


def test_files_are_found_from_a_folder_below(project: Path) -> None:
    below = project / "flows" / "hot"
    below.mkdir(parents=True)

    loaded = load(below)

    assert loaded.settings.workers == 2
    assert str(loaded.origin(("workers",))) == f"{project.resolve() / 'headrace.toml'}:1"


def test_a_project_that_says_nothing_of_headrace_does_not_end_the_search(project: Path) -> None:
    below = project / "package"
    below.mkdir()
    (below / "pyproject.toml").write_text('[project]\nname = "package"\n')

    assert load(below).settings.workers == 2


def test_a_setting_of_nodes_keeps_its_type_in_the_environment(project: Path) -> None:
    loaded = load(project, HEADRACE_SETTINGS__LIMIT="7", HEADRACE_SETTINGS__VERSION="1.10")

    assert loaded.settings.settings == {"limit": 7, "name": "kitchen", "version": "1.10"}


def test_all_mistakes_are_told_at_once_with_place_and_cure(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text(
        'redis = "redis://localhost"\nworkers = "many"\nkafka = ["a"]\n\n[profiles.prod]\ndurability = "fsnyc"\n'
    )

    with pytest.raises(SettingsError) as caught:
        load(tmp_path, HEADRACE_PARTITIONS="0")

    assert str(caught.value).splitlines() == [
        "Settings can't be used:",
        "headrace.toml:6 (profile prod)  durability: 'fsnyc' is not one of fast, fsync, replicas, replicas:2, "
        "replicas:3, replicas:4, replicas:5. Did you mean fsync?",
        "headrace.toml:1  redis: there is no such setting. Did you mean redis_url?",
        "headrace.toml:2  workers: 'many' is not a whole number from 1 on. Write a whole number from 1 on",
        "headrace.toml:3  kafka: is a table. Write it as [kafka] with one line for each of its values",
        "HEADRACE_PARTITIONS  partitions: '0' is not a whole number from 1 on. Write a whole number from 1 on",
    ]


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("workers = 2\nredis_url = \n")

    with pytest.raises(SettingsError, match=r"headrace.toml  file: is no TOML: .*at line 2"):
        load(tmp_path)


def test_somebody_elses_broken_pyproject_is_none_of_our_business(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")

    assert load(tmp_path).settings.workers == 1


def test_a_profile_that_is_not_there(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"--profile  pord: there is no such profile. Did you mean prod\?"):
        load(project, profile="pord")


def test_a_variable_that_is_nearly_a_setting_is_noted(tmp_path: Path) -> None:
    loaded = load(tmp_path, HEADRACE_REDIS="redis://x", HEADRACE_SERVICE_HOST="10.0.0.1", HEADRACE_CRASH_AT="x")

    assert loaded.notes == ("HEADRACE_REDIS is not read. Did you mean HEADRACE_REDIS_URL?",)


@pytest.mark.parametrize(
    ("path", "value", "seen"),
    [
        (("redis_url",), "redis://user:pa:ss@host:6379/0", "redis://user:******@host:6379/0"),
        (("redis_url",), "redis://host:6379/0", "redis://host:6379/0"),
        (("redis_url",), "redis://host:6379/0?password=geheim&db=1", "redis://host:6379/0?password=******&db=1"),
        (("redis_url",), "redis://host:6379/0?password=file:/run/x", "redis://host:6379/0?password=file:/run/x"),
        (("redis_url",), "env:REDIS_URL", "env:REDIS_URL"),
        (("kafka", "sasl_plain_password"), "geheim", "******"),
        (("kafka", "sasl_plain_password"), "file:/run/secrets/kafka", "file:/run/secrets/kafka"),
        (("kafka", "security_protocol"), "SASL_SSL", "SASL_SSL"),
        (("settings", "api_key"), "k", "******"),
        (("settings", "limit"), 5, 5),
    ],
)
def test_secrets_are_hidden_and_references_shown(path: tuple[str, ...], value: object, seen: object) -> None:
    assert shown(path, value) == seen


def test_an_error_tells_no_secret(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('[settings]\npassword = ["geheim"]\n')

    with pytest.raises(SettingsError) as caught:
        load(tmp_path)

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "line"),
    [(("a",), 1), (("t", "b"), 3), (("t", "c", "d"), 4), (("t", "c"), 4), (("t", "e", "x"), 5), (("u", "v"), 7)],
)
def test_the_line_of_a_key(path: tuple[str, ...], line: int) -> None:
    text = 'a = 1\n[ t ] # c\nb = 2\n"c".d = 3\ne = {x = 1}\n[u.w]\n[u.v]\n'

    assert line_of(text, path) == line


def test_every_setting_is_described_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text()

    for field in FIELDS:
        assert f"| `{field}` |" in page, field
        if depth_of(field) == 0:
            assert f"`HEADRACE_{field.upper()}`" in page, field
