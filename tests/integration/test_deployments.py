"""What the store holds of a deployment, on a real server."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
import pytest

from headrace.actors.deployments import claim_incarnation
from headrace.actors.store_registry import Registry
from headrace.workflows.key_format import KEY_FORMAT, KeyFormat, KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.keyspace import format_key, incarnation_key
from headrace.workflows.store import WorkflowDescriptor


async def test_the_first_incarnation_claimed_stays(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        assert await claim_incarnation(registry, "orders", "first") == "first"

        assert await claim_incarnation(registry, "orders", "second") == "first"
        assert await claim_incarnation(registry, "payments", "second") == "second"


async def test_a_workflow_removed_and_started_again_is_another_one(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        await claim_incarnation(registry, "orders", "first")

        await registry.remove_workflow("orders")

        assert await claim_incarnation(registry, "orders", "second") == "second"


async def stored_format(registry: Registry) -> KeyFormat | None:
    blob: Any = await registry.client.get(format_key("orders"))
    return None if blob is None else msgspec.json.decode(blob, type=KeyFormat)


async def test_the_first_start_says_which_format_the_keys_have(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        await claim_incarnation(registry, "orders", "first")

        found = await stored_format(registry)
        assert found is not None
        assert (found.format, found.headrace) == (KEY_FORMAT, version("headrace"))


async def test_a_workflow_from_before_there_were_formats_stays_as_it_is(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        await registry.client.set(incarnation_key("orders"), "old")

        assert await claim_incarnation(registry, "orders", "new") == "old"
        assert await stored_format(registry) is None


@pytest.mark.parametrize(
    ("document", "error"),
    [(KeyFormat(format=2, headrace="9.0"), KeyFormatUnknown), (KeyFormat(restoring="ada"), RestoreUnfinished)],
)
async def test_keys_of_another_format_are_not_opened(
    redis_url: str, document: KeyFormat, error: type[Exception]
) -> None:
    async with Registry(redis_url) as registry:
        await registry.publish_workflow(WorkflowDescriptor(name="orders", partitions=1))
        await registry.client.set(format_key("orders"), msgspec.json.encode(document))

        with pytest.raises(error):
            await registry.workflow("orders")
        with pytest.raises(error):
            await claim_incarnation(registry, "orders", "first")
        assert await registry.client.get(incarnation_key("orders")) is None
