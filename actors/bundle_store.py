"""Bundles in the store: put there by `deploy`, fetched by every process of the workflow, swept by the next version.

Each workflow has bundles of its own, also where two have equal code: so removing one takes nothing from another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
import structlog

from headrace.actors.bundle import Bundle, cache_folder, unpack
from headrace.actors.bundle_files import BundleError
from headrace.actors.bundle_sweep import hold, sweep
from headrace.actors.spec import CodeRef
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.store import StoreUnavailable

log = structlog.get_logger(__name__)

PATIENCE: Final = 30.0
"""Seconds that a process waits for a store that is away before it says that it has no code."""
_PERIOD: Final = 0.5


def bundle_key(workflow: str, version: str) -> str:
    """Where a version of a workflow's code lies; removed with the workflow."""
    return f"hr:{{{workflow}}}:bundle:{version}"


async def put_bundle(registry: Registry, workflow: str, bundle: Bundle) -> None:
    """Store the code of a version; again does no harm.

    Raises:
        StoreUnavailable: Ask again.
        StoreFull: The store has no memory left for it.
    """
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(bundle_key(workflow, bundle.version), bundle.archive)


async def get_bundle(registry: Registry, workflow: str, version: str) -> bytes:
    """The archive of a version.

    Raises:
        BundleError: It is not there.
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        archive: bytes | None = await registry.client.get(bundle_key(workflow, version))  # type: ignore[assignment]  # its types say: text
    if archive is None:
        raise BundleError(f"Version {version} of {workflow} is not in the store at {registry.address}. Deploy again.")
    return archive


async def sweep_bundles(registry: Registry, workflow: str, keep: Collection[str]) -> int:
    """Take out all versions but those; returns how many there were."""
    kept = {bundle_key(workflow, version) for version in keep}
    removed = 0
    with store_errors(registry.address):
        pattern = bundle_key(workflow, "*")
        found = [key.decode() async for key in registry.client.scan_iter(match=pattern, count=1000)]
    for key in found:
        if key not in kept:
            with store_errors(registry.address), effect(Effect.REMOVE):
                removed += int(await registry.client.unlink(key))
    return removed


def local_code(code: CodeRef, redis_url: str, workflow: str, *, patience: float = PATIENCE) -> CodeRef:
    """The same code with a folder of this machine: fetched from the store and unpacked, if it isn't yet.

    Args:
        code: A bundle's; any other is returned as it is.
        redis_url: The store.
        workflow: Whose code it is.
        patience: Seconds to wait for a store that is away.

    Raises:
        BundleError: It is not in the store, damaged, or can't be unpacked.
        StoreUnavailable: The store was away for too long.
    """
    if not code.bundle:
        return code
    cache = cache_folder()
    root = cache / code.version
    while hold(root) is None:  # to the end of this process
        unpack(asyncio.run(_fetch(code, redis_url, workflow, patience)), code.version, cache)
        log.info("code_unpacked", workflow=workflow, version=code.version, folder=str(root))
        sweep(cache)
    return msgspec.structs.replace(code, folder=str(Path(root, code.folder)), bundle=False)


async def _fetch(code: CodeRef, redis_url: str, workflow: str, patience: float) -> bytes:
    deadline = time.monotonic() + patience
    registry = Registry(redis_url, connections=1)
    try:
        while True:
            try:
                return await get_bundle(registry, workflow, code.version)
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_PERIOD)
    finally:
        await registry.close()
