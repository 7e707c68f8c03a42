"""What the store holds of a deployment, on a real server."""

from __future__ import annotations

from headrace.actors.deployments import claim_incarnation
from headrace.actors.store_registry import Registry


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
