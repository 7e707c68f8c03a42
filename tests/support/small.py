"""Workflows of one file, deployed and not started, for workers without Ray; and what they leave in the store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.workflows.commit import DeadLetter
from ledger import FLOWS


@dataclass(frozen=True)
class Small:
    """One of the workflows in `faults/flows`, in a folder of the test's own."""

    deployment: Deployment
    folder: Path

    @classmethod
    def of(cls, flow: str, folder: Path, redis_url: str) -> Small:
        """Copy it there, with a name of its own: a module is imported once by each process."""
        file = folder / f"{flow}_{folder.name}.py"
        file.write_text((FLOWS / f"{flow}.py").read_text())
        code, workflow = load_workflow(file.name, folder)
        return cls(deployment_of(workflow.compile(fuse="all"), code, redis_url, fuse=True), folder)

    def run(self, key: str = "", partition: int = 0) -> dict[str, bytes]:
        """A run as it is in the store now; empty if there is none."""

        async def look() -> dict[str, bytes]:
            async with Store(self.deployment.redis_url, self.deployment.workflow, connections=1) as store:
                return await store.run(partition, key)

        return asyncio.run(look())

    def dead_letters(self, partition: int = 0) -> list[DeadLetter]:
        """Those of a partition."""

        async def look() -> list[DeadLetter]:
            async with Store(self.deployment.redis_url, self.deployment.workflow, connections=1) as store:
                return [letter for _, letter in await store.dead_letters(partition)]

        return asyncio.run(look())
