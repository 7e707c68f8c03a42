"""TLS and SASL on Apache Kafka: every client of ours gets through, wrong credentials are named, secrets stay secret."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from aiokafka.abc import AbstractTokenProvider
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from brokers import CACHE, Choice
from headrace.embedded import ApacheKafka
from headrace.embedded.kafka_listeners import Listener, Security
from headrace.sources.kafka import KafkaSink
from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_group import group_offsets
from headrace.sources.kafka_metadata import ensure_topics
from headrace.sources.kafka_sink import KafkaOutput, SinkUnavailable
from headrace.sources.outlet import Portion
from headrace.workflows.commit import Output
from headrace.workflows.plan import SinkPlan
from kafka_reading import Reading, values
from waiting import until_async

PASSWORD = "tr0ub4dor-and-3"
WRONG = "hunter2-hunter2"


class Tokens(AbstractTokenProvider):
    """Unsigned tokens, as the broker of these tests takes them."""

    async def token(self) -> str:
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": "alice", "iat": now, "exp": now + 600})
        return "".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") + "." for part in parts)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Certificates as files."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    trustme.CA().cert_pem.write_to_path(folder / "another.pem")
    broker = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(broker.private_key_pem.bytes(), None)  # Java reads keys in the newer form only
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "broker.pem").write_bytes(pem + b"".join(chain.bytes() for chain in broker.cert_chain_pems))
    client = authority.issue_cert("client.example")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def secured(broker_choice: Choice, files: dict[str, str]) -> Iterator[ApacheKafka]:
    """A broker that asks for certificates and credentials."""
    if broker_choice.broker is not ApacheKafka:
        pytest.skip("only Apache Kafka has listeners with TLS and SASL")
    security = Security(
        listeners=[
            Listener(protocol="SSL", client_certificate=True),
            Listener(protocol="SASL_SSL", mechanisms=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
            Listener(protocol="SASL_PLAINTEXT", mechanisms=("OAUTHBEARER",)),
        ],
        users={"alice": PASSWORD},
        certificate=Path(files["broker.pem"]),
        authority=Path(files["authority.pem"]),
    )
    with ApacheKafka(cache=CACHE, security=security) as broker:
        yield broker


def options_of(case: str, files: dict[str, str]) -> dict[str, str]:
    protocol, _, mechanism = case.partition(" ")
    options = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_cafile"] = files["authority.pem"]
    if protocol == "SSL":
        options |= {"ssl_certfile": files["client.pem"], "ssl_keyfile": files["client.key"]}
    elif mechanism == "OAUTHBEARER":
        options |= {"sasl_mechanism": mechanism, "sasl_oauth_token_provider": f"{__name__}:Tokens"}
    else:
        options |= {
            "sasl_mechanism": mechanism, "sasl_plain_username": "alice", "sasl_plain_password": "env:KAFKA_SECRET"
        }  # fmt: skip
    return options


def connection_to(secured: ApacheKafka, options: dict[str, str]) -> KafkaConnection:
    return KafkaConnection("vault", secured.address(options["security_protocol"]), options)


def outputs(*data: bytes) -> dict[int, Portion]:
    rows = [Output(0, f"readings/0/{number}:0", "key", 1_700_000_000_000, blob) for number, blob in enumerate(data)]
    return {0: Portion(rows, len(rows))}


CASES = ["SSL", "SASL_SSL PLAIN", "SASL_SSL SCRAM-SHA-256", "SASL_SSL SCRAM-SHA-512", "SASL_PLAINTEXT OAUTHBEARER"]


@pytest.mark.parametrize("case", CASES)
async def test_every_client_gets_through(
    secured: ApacheKafka, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv("KAFKA_SECRET", PASSWORD)
    monkeypatch.setattr("headrace.sources.kafka_group._EVERY", 0.1)
    connection = connection_to(secured, options_of(case, files))
    topic = f"topic-{CASES.index(case)}"

    assert await ensure_topics(connection, {topic: 1}) == [topic]
    sink = KafkaOutput([SinkPlan(index=0, name="out", sink=KafkaSink(topic, dict), type=0)], connection=connection)
    assert await sink.send(outputs(b"one", b"two")) == []
    await sink.close()
    async with Reading(connection, topic, group=f"{topic}-group") as reading:
        await reading.assign()
        assert values(await reading.take(2)) == [b"one", b"two"]
        reading.reader.committed(0, reading.positions)

        async def is_told() -> bool:
            try:
                return await group_offsets(connection, f"{topic}-group") == {(topic, 0): 2}
            except ClusterUnavailable:  # the broker's first group: its topic is being made
                return False

        await until_async(is_told, "the group is told, over the same way")


async def test_wrong_credentials_are_named_and_tried_again_until_they_are_right(
    secured: ApacheKafka, files: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await ensure_topics(KafkaConnection("", secured.bootstrap), {"later": 1})
    secret = tmp_path / "secret"
    secret.write_text(WRONG)
    options = {**options_of("SASL_SSL SCRAM-SHA-256", files), "sasl_plain_password": f"file:{secret}"}
    connection = connection_to(secured, options)
    sink = KafkaOutput([SinkPlan(index=0, name="out", sink=KafkaSink("later", dict), type=0)], connection=connection)

    async with Reading(connection, "later") as reading:
        await reading.assign()
        async with asyncio.timeout(10):
            sentence = await reading.problem("kafka_credentials")
        assert connection.address in sentence
        assert "sasl_plain_password" in sentence
        with pytest.raises(SinkUnavailable, match="does not accept our credentials") as unavailable:
            await sink.send(outputs(b"at last"))

        secret.write_text(PASSWORD + "\n")
        await reading.solved("kafka_credentials")
        assert await sink.send(outputs(b"at last")) == []
        assert values(await reading.take(1)) == [b"at last"]
    await sink.close()

    said = "".join(capfd.readouterr())
    for text in (said, sentence, str(unavailable.value), repr(unavailable.value), repr(connection), repr(reading)):
        assert WRONG not in text
        assert PASSWORD not in text


@pytest.mark.parametrize(
    ("options", "word", "says"),
    [
        ({"ssl_cafile": "another.pem"}, "kafka_tls", "CERTIFICATE_VERIFY_FAILED"),
        ({"ssl_certfile": "client.key"}, "kafka_options", r"client\.key can't be used"),
        ({"ssl_cafile": "none.pem"}, "kafka_options", "No such file"),
    ],
)
async def test_certificates_that_do_not_fit_are_named(
    secured: ApacheKafka, files: dict[str, str], options: dict[str, str], word: str, says: str
) -> None:
    changed = {name: files.get(value, f"/nowhere/{value}") for name, value in options.items()}

    async with Reading(connection_to(secured, {**options_of("SSL", files), **changed}), "any") as reading:
        await reading.assign()
        sentence = await reading.problem(word)

    assert re.search(says, sentence), sentence


@pytest.mark.parametrize("tls", [True, False])
async def test_a_port_that_speaks_something_else_is_named_with_a_hint(
    secured: ApacheKafka, files: dict[str, str], tls: bool
) -> None:
    """TLS to a plain port, and the other way round: brokers just close the connection."""
    options = {"security_protocol": "SSL", "ssl_cafile": files["authority.pem"]} if tls else {}
    connection = KafkaConnection("", secured.bootstrap if tls else secured.address("SSL"), options)

    async with Reading(connection, "any") as reading:
        await reading.assign()
        assert "security_protocol" in await reading.problem("kafka_unreachable")
