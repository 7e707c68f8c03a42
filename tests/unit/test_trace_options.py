"""What is asked for of traces: by settings, by OpenTelemetry's variables, and what can't be used."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.actors.changes import changes_between
from headrace.actors.spec import CodeRef, Deployment
from headrace.settings import SettingsError, load_settings
from headrace.settings.masking import HIDDEN, shown
from headrace.tracing import options
from headrace.tracing.options import TraceOptionError, TracesNotInstalled, Tracing, tracing_of


def test_without_a_word_there_are_none() -> None:
    assert tracing_of({}, {"OTEL_SERVICE_NAME": "w", "OTEL_TRACES_SAMPLER": "always_on"}) is None


@pytest.mark.parametrize(
    ("said", "variables", "url"),
    [
        ({"endpoint": "http://collector:4318"}, {}, "http://collector:4318/v1/traces"),
        ({"endpoint": "https://c/otlp/"}, {}, "https://c/otlp/v1/traces"),
        ({"endpoint": "https://c/v1/traces"}, {}, "https://c/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/in"}, "http://c/in"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x"},
         "http://b/x"),
        ({"endpoint": "http://ours"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x"}, "http://ours/v1/traces"),
        ({}, {"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
    ],
)  # fmt: skip
def test_an_address_switches_them_on(said: dict[str, str], variables: dict[str, str], url: str) -> None:
    found = tracing_of(said, variables)

    assert found == Tracing(endpoint=url), "all else is as by default: only what a parent has sampled"


@pytest.mark.parametrize("variables", [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_opentelemetry_s_own_switches_switch_them_off(variables: dict[str, str]) -> None:
    assert tracing_of({"endpoint": "http://c:4318"}, variables) is None


@pytest.mark.parametrize(
    ("name", "argument", "parent_based", "ratio"),
    [
        ("always_on", "", False, 1.0),
        ("always_off", "", False, 0.0),
        ("traceidratio", "0.25", False, 0.25),
        ("parentbased_always_on", "", True, 1.0),
        ("parentbased_always_off", "0.5", True, 0.0),
        ("parentbased_traceidratio", "0.01", True, 0.01),
        ("parentbased_traceidratio", "", True, 1.0),
    ],
)
def test_samplers_are_those_of_opentelemetry(name: str, argument: str, parent_based: bool, ratio: float) -> None:
    by_variable = tracing_of(
        {"endpoint": "http://c"}, {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    )
    by_setting = tracing_of({"endpoint": "http://c", "sampler": name, "sampler_arg": argument}, {})

    assert by_variable == by_setting
    assert by_setting is not None
    assert (by_setting.parent_based, by_setting.ratio) == (parent_based, ratio)


def test_settings_are_stronger_than_variables_and_secrets_stay_where_they_are() -> None:
    found = tracing_of(
        {"endpoint": "http://c", "service": "mine", "keys": "true", "compression": "gzip"},
        {
            "OTEL_SERVICE_NAME": "theirs",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod,team=a%20b",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        },
    )

    assert found == Tracing(
        endpoint="http://c/v1/traces", service="mine", keys=True, compression="gzip", certificate="/ca.pem",
        headers="env:OTEL_EXPORTER_OTLP_HEADERS", resource={"deployment.environment": "prod", "team": "a b"},
    )  # fmt: skip
    assert b"s3cret" not in msgspec.json.encode(found)


@pytest.mark.parametrize(
    ("said", "variables", "option"),
    [
        ({"endpoint": "collector:4318"}, {}, "endpoint"),
        ({"endpoint": "http://user:pw@c"}, {}, "endpoint"),
        ({"endpoint": "http://c", "sampler": "sometimes"}, {}, "sampler"),
        ({"endpoint": "http://c", "sampler": "traceidratio", "sampler_arg": "1 %"}, {}, "sampler_arg"),
        ({"endpoint": "http://c", "sampler": "traceidratio", "sampler_arg": "2"}, {}, "sampler_arg"),
        ({"endpoint": "http://c", "headers": "authorization=s3cret"}, {}, "headers"),
        ({"endpoint": "http://c", "keys": "maybe"}, {}, "keys"),
        ({"endpoint": "http://c", "resource": "team"}, {}, "resource"),
        ({"adress": "http://c"}, {}, "adress"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
         "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_named(said: dict[str, str], variables: dict[str, str], option: str) -> None:
    with pytest.raises(TraceOptionError) as caught:
        tracing_of(said, variables)

    assert caught.value.option == option
    assert "s3cret" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_without_the_extra_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)

    with pytest.raises(TracesNotInstalled, match=r'pip install "headrace\[otel\]"'):
        tracing_of({"endpoint": "http://c"}, {})
    assert tracing_of({}, {}) is None


def test_settings_take_an_address_alone(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('traces = "http://a:4318"\n')

    alone = load_settings(tmp_path, environment={})
    beside = load_settings(tmp_path, environment={"HEADRACE_TRACES__SAMPLER": "always_on"})
    instead = load_settings(tmp_path, environment={"HEADRACE_TRACES": "http://b:4318"})

    assert alone.settings.traces == {"endpoint": "http://a:4318"}
    assert beside.settings.traces == {"endpoint": "http://a:4318", "sampler": "always_on"}
    assert instead.settings.traces == {"endpoint": "http://b:4318"}


def test_settings_take_numbers_and_truths_as_they_are_written_in_toml(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('[traces]\nendpoint = "http://a"\nsampler_arg = 0.01\nkeys = true\n')

    assert load_settings(tmp_path, environment={}).settings.traces == {
        "endpoint": "http://a", "sampler_arg": "0.01", "keys": "true"
    }  # fmt: skip
    (tmp_path / "headrace.toml").write_text("traces = [1]\n")
    with pytest.raises(SettingsError, match="traces"):
        load_settings(tmp_path, environment={})


def test_headers_are_not_shown_but_where_they_come_from_is() -> None:
    assert shown(("traces", "headers"), "authorization=s3cret") == HIDDEN
    assert shown(("traces", "headers"), "env:HEADERS") == "env:HEADERS"
    assert shown(("traces", "endpoint"), "http://c:4318") == "http://c:4318"


def test_a_deployment_carries_them_and_tells_when_they_change() -> None:
    code = CodeRef(folder="", module="m", version="1")
    before = Deployment(workflow="w", code=code, redis_url="redis://", partitions=1, cluster="c")
    after = msgspec.structs.replace(before, traces=Tracing(endpoint="http://c/v1/traces", ratio=0.5))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(after), type=Deployment) == after
    assert [str(change) for change in changes_between(before, after)] == [
        "traces: none -> http://c/v1/traces (parent_based=True, ratio=0.5, compression=none)"
    ]
