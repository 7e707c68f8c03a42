"""A run's partition is the one that Kafka's producers choose for its key."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as kafkas
from hypothesis import given
from hypothesis import strategies as st

from headrace.workflows.keyspace import PartitionKeys, murmur2, partition_of


@given(st.binary(max_size=64))
def test_the_hash_is_kafkas(data: bytes) -> None:
    assert murmur2(data) == kafkas(data) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_the_hash_of_kafkas_own_examples(data: bytes, expected: int) -> None:
    """From org.apache.kafka.common.utils.UtilsTest."""
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.text(min_size=1, max_size=20), st.integers(1, 64))
def test_the_partition_is_the_one_a_producer_chooses(key: str, partitions: int) -> None:
    every = list(range(partitions))

    assert partition_of(key, partitions) == DefaultPartitioner()(key.encode(), every, every)
    assert partition_of(key.encode(), partitions) == partition_of(key, partitions)


def test_everything_of_a_partition_has_one_hash_tag() -> None:
    keys = PartitionKeys("orders", 7)

    names = [keys.head, keys.positions, keys.outbox, keys.dead, keys.inbox, keys.channels, keys.run("a}b{c")]
    names += [keys.stream("channel:lines"), keys.credits("lines"), keys.reply("r1")]
    assert {name[name.index("{") + 1 : name.index("}")] for name in names} == {"orders/7"}
