"""Which cluster a source or sink is on, which options a cluster may have, and that secrets stay where they lie."""

from __future__ import annotations

import logging
import pickle
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka.abc import AbstractTokenProvider
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslAuthenticateRequest_v1

from headrace import Context, Event, Workflow
from headrace.sources.kafka import KafkaSink, KafkaSource
from headrace.sources.kafka_connection import (
    ClusterUnavailable,
    KafkaClusters,
    KafkaConnection,
    UnknownCluster,
    connection_of,
)
from headrace.sources.kafka_security import KafkaOptionError, check_options, client_arguments
from headrace.sources.references import ReferenceUnresolved, resolve
from headrace.workflows.errors import WorkflowError

HOME = {"bootstrap_servers": "home:9092"}
SASL = {
    "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "alice",
    "sasl_plain_password": "env:KAFKA_PASSWORD",
}  # fmt: skip
PASSWORD = "correct horse battery staple"


def source(cluster: str | None = None) -> KafkaSource[Any]:
    return KafkaSource("readings", dict, cluster=cluster)


def test_a_port_is_on_the_default_cluster_or_on_the_one_it_names() -> None:
    where = KafkaClusters(HOME, {"eu": {"bootstrap_servers": "eu-1:9093,eu-2:9093", **SASL}})

    assert connection_of(source(), where) == KafkaConnection("", "home:9092", {})
    eu = connection_of(KafkaSink("alerts", dict, cluster="eu"), where)
    assert (eu.name, eu.bootstrap, eu.options) == ("eu", "eu-1:9093,eu-2:9093", SASL)
    assert eu.address == "eu (eu-1:9093,eu-2:9093)"


@pytest.mark.parametrize(
    ("where", "cluster", "says"),
    [
        (KafkaClusters(HOME, {"us": HOME, "asia": HOME}), "eu", "names asia, us"),
        (KafkaClusters(HOME), "eu", "names none"),
        (KafkaClusters(HOME, {"eu": {"security_protocol": "SSL"}}), "eu", "bootstrap_servers"),
        (KafkaClusters(), None, "--kafka HOST:9092"),
    ],
)
def test_a_cluster_that_is_not_named_is_an_error_with_those_that_are(
    where: KafkaClusters, cluster: str | None, says: str
) -> None:
    with pytest.raises(UnknownCluster, match=says) as unknown:
        connection_of(source(cluster), where)

    assert (unknown.value.port, unknown.value.cluster) == ("readings", cluster)
    assert str(pickle.loads(pickle.dumps(unknown.value))) == str(unknown.value)


@pytest.mark.parametrize(
    ("options", "option", "says"),
    [
        ({"sasl_username": "alice"}, "sasl_username", "not known"),
        ({"security_protocol": "TLS"}, "security_protocol", "none of PLAINTEXT, SSL"),
        ({**SASL, "sasl_mechanism": "DIGEST"}, "sasl_mechanism", "SCRAM-SHA-256"),
        ({**SASL, "sasl_plain_password": PASSWORD}, "sasl_plain_password", "env:NAME or file:/path"),
        ({"ssl_cafile": "/ca.pem"}, "ssl_cafile", "security_protocol SSL"),
        ({"security_protocol": "SSL", "sasl_mechanism": "PLAIN"}, "sasl_mechanism", "SASL_SSL"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "sasl_plain_username", "needed"),
        ({**SASL, "sasl_mechanism": "OAUTHBEARER"}, "sasl_oauth_token_provider", "needed"),
        ({"security_protocol": "SSL", "ssl_check_hostname": "no"}, "ssl_check_hostname", "true, false"),
    ],
)
def test_options_that_can_not_work_are_found_before_anything_connects(
    options: dict[str, str], option: str, says: str
) -> None:
    with pytest.raises(KafkaOptionError, match=says) as wrong:
        check_options(options)

    assert wrong.value.option == option
    assert PASSWORD not in str(wrong.value)


def test_a_secret_is_read_where_it_lies_when_a_client_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    options = {**SASL, "sasl_plain_password": f"file:{secret}"}
    secret.write_text("old\n")
    assert client_arguments(options)["sasl_plain_password"] == "old"

    secret.write_text(PASSWORD)
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)

    assert client_arguments(options)["sasl_plain_password"] == PASSWORD
    assert client_arguments(SASL)["sasl_plain_password"] == PASSWORD
    assert client_arguments(SASL)["sasl_mechanism"] == "SCRAM-SHA-512"


async def test_what_can_not_be_read_is_named_without_what_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)

    with pytest.raises(ClusterUnavailable, match="KAFKA_PASSWORD is not set") as unavailable:
        KafkaConnection("eu", "eu:9093", SASL).client()

    assert unavailable.value.word == "kafka_options"
    assert "Headrace keeps trying" in str(unavailable.value)


def test_references_lead_to_variables_and_files(tmp_path: Path) -> None:
    assert resolve("plain: as it is") == "plain: as it is"
    assert resolve("env:A", {"A": "value"}) == "value"
    with pytest.raises(ReferenceUnresolved, match="env:B can't be read here: the environment variable B is not set"):
        resolve("env:B", {"A": "value"})
    with pytest.raises(ReferenceUnresolved, match="No such file"):
        resolve(f"file:{tmp_path}/none")


def test_a_tls_context_checks_who_the_broker_is_unless_told_not_to(tmp_path: Path) -> None:
    context = client_arguments({"security_protocol": "SSL"})["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)

    other = client_arguments({"security_protocol": "SSL", "ssl_check_hostname": "false"})["ssl_context"]
    assert (other.check_hostname, other.verify_mode) == (False, ssl.CERT_REQUIRED)
    with pytest.raises(KafkaOptionError, match=f"{tmp_path}/ca.pem can't be used"):
        client_arguments({"security_protocol": "SSL", "ssl_cafile": f"{tmp_path}/ca.pem"})
    (tmp_path / "client.pem").write_text("nothing of the kind")
    with pytest.raises(KafkaOptionError, match=r"client\.pem can't be used"):
        client_arguments({"security_protocol": "SSL", "ssl_certfile": f"{tmp_path}/client.pem"})


class Tokens(AbstractTokenProvider):
    async def token(self) -> str:
        return "a token"


def test_a_token_provider_is_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    oauth = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}

    made = client_arguments({**oauth, "sasl_oauth_token_provider": f"{__name__}:Tokens"})
    assert isinstance(made["sasl_oauth_token_provider"], AbstractTokenProvider)
    with pytest.raises(KafkaOptionError, match="can't be imported"):
        client_arguments({**oauth, "sasl_oauth_token_provider": "nowhere:Tokens"})
    with pytest.raises(KafkaOptionError, match="AbstractTokenProvider"):
        client_arguments({**oauth, "sasl_oauth_token_provider": "builtins:dict"})


def test_the_clients_own_log_has_no_credentials(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    client_arguments(SASL)
    request = SaslAuthenticateRequest(PASSWORD.encode()).build(SaslAuthenticateRequest_v1)

    with caplog.at_level(logging.DEBUG, logger="aiokafka.conn"):
        logging.getLogger("aiokafka.conn").debug("Request to %s:%d %d: %s", "h", 1, 2, request)
        logging.getLogger("aiokafka.conn").debug("Request to %s", "somebody")

    assert [line.getMessage() for line in caplog.records] == ["Request to somebody"]


def test_a_time_to_begin_at_needs_a_time_zone() -> None:
    now = datetime.now(UTC)
    local: KafkaSource[Any] = KafkaSource("readings", dict, start=datetime(2026, 5, 1))  # noqa: DTZ001  that is the point
    aware: KafkaSource[Any] = KafkaSource("readings", dict, start=datetime(2026, 5, 1, tzinfo=UTC))

    (fault,) = local.check(now, keyed=True)
    assert "time zone" in str(fault)
    assert aware.check(now, keyed=True) == []


def test_a_pattern_needs_a_name_and_may_match_no_topic_that_another_source_reads() -> None:
    def take(event: Event[dict[str, int]], ctx: Context) -> None: ...

    workflow = Workflow("w")
    node = workflow.node(take)
    workflow.source(KafkaSource(re.compile(r"sensors\..*"), dict[str, int])).to(node)
    workflow.source(KafkaSource("sensors.hall", dict[str, int])).to(node)

    with pytest.raises(WorkflowError) as wrong:
        workflow.compile()

    problems = {problem.code: problem for problem in wrong.value.problems}
    assert "name=" in problems["name"].cure
    assert "'sensors.hall'" in problems["topic-twice"].message
