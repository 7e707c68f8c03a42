"""What `deploy` says that it would change, and what it checks on the machines of a cluster."""

from __future__ import annotations

import msgspec
import pytest

from brokers import Broker
from headrace import HeadraceError
from headrace.actors.changes import PartitionsFixed, changes_between
from headrace.actors.cluster_probe import requirements_of
from headrace.actors.machine_check import find, missing_of
from headrace.actors.ray_connection import RayAddress, RayAddressInvalid
from headrace.actors.spec import CodeRef, Deployment, UnitSpec
from headrace.sources.kafka_connection import KafkaConnection

BEFORE = Deployment(
    workflow="orders",
    code=CodeRef(folder="", module="flow", version="1", bundle=True),
    redis_url="redis://store:6379/0",
    partitions=8,
    units=(UnitSpec(index=0, name="price"), UnitSpec(index=1, name="ship")),
    cluster="default",
    kafka={"bootstrap_servers": "kafka:9092"},
    settings={"limit": 3, "token": "env:TOKEN"},
)


def said(after: Deployment, before: Deployment | None = BEFORE) -> list[str]:
    return [str(change) for change in changes_between(before, after)]


def test_the_same_is_no_change_whenever_and_from_wherever_it_is_deployed() -> None:
    again = msgspec.structs.replace(
        BEFORE, deployed=12.0, incarnation="x", address="ray://elsewhere:10001", target="./flow.py"
    )

    assert said(again) == []


def test_each_difference_is_named() -> None:
    after = msgspec.structs.replace(
        BEFORE,
        code=CodeRef(folder="", module="flow", version="2", bundle=True),
        workers=3,
        durability="fsync",
        units=(
            UnitSpec(index=0, name="price", replicas=2, resources={"num_gpus": 0.5}),
            UnitSpec(index=1, name="bill"),
        ),
    )

    assert said(after) == [
        "code: 1 -> 2", "workers: 1 -> 3", "durability: fast -> fsync", "node bill: x1",
        "node price: x1 -> x2 gpus=0.5",
        "node ship: x1 -> gone",
    ]  # fmt: skip


def test_to_start_over_is_a_change_and_not_to_say_it_again_is_none() -> None:
    anew = msgspec.structs.replace(BEFORE, start_over=True)

    assert said(anew) == ["start over: yes"]
    assert said(BEFORE, before=anew) == []


def test_values_of_settings_and_of_kafka_options_are_not_told() -> None:
    after = msgspec.structs.replace(
        BEFORE, settings={"limit": "hunter2", "password": "hunter2"}, kafka={"bootstrap_servers": "hunter2:9092"}
    )

    assert said(after) == [
        "setting limit: set -> set anew", "setting password: set", "setting token: set -> gone",
        "kafka bootstrap_servers: set -> set anew",
    ]  # fmt: skip


def test_another_number_of_partitions_is_refused() -> None:
    with pytest.raises(PartitionsFixed, match="8 partitions in this store since its first start, not 9"):
        said(msgspec.structs.replace(BEFORE, partitions=9))


def test_requirements_are_read_as_pip_reads_them() -> None:
    text = "# libraries\nmsgspec>=0.20  # fast\n\n-i https://example.org/simple\nray==2.0; python_version < '3'\n"

    assert requirements_of(text) == ["msgspec>=0.20", 'ray==2.0; python_version < "3"']


def test_a_requirement_that_cannot_be_looked_for_elsewhere_is_refused() -> None:
    with pytest.raises(HeadraceError, match=r"Line 2 of the requirements, '\./mine'"):
        requirements_of("msgspec\n./mine\n")


def test_what_is_missing_is_told_with_what_is_there_instead() -> None:
    missing = missing_of(["msgspec>=0.20", "msgspec<0.1", "no-such-library-at-all", "ray==2.0; python_version < '3'"])

    assert [row.split(" (")[0] for row in missing] == ["msgspec<0.1", "no-such-library-at-all"]
    assert "(has " in missing[0]


def test_a_machine_says_what_it_cannot_reach(redis_url: str, kafka: Broker) -> None:
    nobody = "127.0.0.1:1"

    assert find(redis_url, [KafkaConnection("", f"{nobody},{kafka.bootstrap}")], []).problems == ()
    problems = find(f"redis://{nobody}/0", [KafkaConnection("eu", nobody)], ["no-such-library-at-all"]).problems

    assert problems[0].startswith("the store at 127.0.0.1:1/0 does not answer")
    assert problems[1].startswith("Kafka at eu (127.0.0.1:1) can't be used from there: ")
    assert problems[2].startswith("no-such-library-at-all not installed")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://127.0.0.1:1/orders", "no Sentinel names a primary of this service (none can be reached)"),
        ("redis+cluster://127.0.0.1:1", "the store at cluster 127.0.0.1:1 does not answer"),
        ("rediss://127.0.0.1:1/0?ca=/nowhere.pem", "/nowhere.pem, named in the address of the store, is not there"),
        ("env:HEADRACE_NO_SUCH_VARIABLE", "the environment variable HEADRACE_NO_SUCH_VARIABLE is not set"),
    ],
)
def test_a_machine_asks_the_store_as_the_workflow_will(url: str, sentence: str) -> None:
    """Mechanism: that somebody listens there says nothing of Sentinels, clusters, certificates and secrets."""
    (problem,) = find(url, [], []).problems

    assert sentence in problem


@pytest.mark.parametrize("text", ["auto", "http://head:8265", "head", "ray://head", "ray://head:x", ":6379", ""])
def test_what_is_no_address_of_a_cluster_is_refused_with_the_two_that_are(text: str) -> None:
    with pytest.raises(RayAddressInvalid, match=r"ray://HOST:10001 .*HOST:6379"):
        RayAddress.parse(text)


def test_both_kinds_of_addresses_are_read() -> None:
    assert RayAddress.parse("ray://head:10001") == RayAddress("ray://head:10001", "head", 10001, "client")
    assert RayAddress.parse("[::1]:6379") == RayAddress("[::1]:6379", "::1", 6379, "head")
