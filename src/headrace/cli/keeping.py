"""`backup` and `restore`: a workflow's store in a file, and back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec

from headrace.actors.backup import back_up
from headrace.actors.deployments import begin_change, end_change
from headrace.actors.restore import Restored, look_into, refuse_existing
from headrace.actors.restore import restore as restore_file
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import process
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.settings import Loaded

_EVERY: Final = 5.0
"""Seconds between two lines about how far it is."""


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `backup` has written."""

    workflow: str
    file: str
    keys: int
    bytes: int


def backup(workflow: str, path: Path, loaded: Loaded, screen: Screen, *, force: bool, as_json: bool) -> ExitCode:
    """Write a stopped workflow to a file.

    Raises:
        UsageError: The file is there, or can't be.
        HeadraceError: See `found_workflow` and `back_up`.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} is there. Name another file, or say --force.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {path.absolute().parent}. Make it, or name another file.")
    said = _Said(screen, quiet=as_json)

    async def write() -> int:
        async with found_workflow(workflow, loaded, Project(Path.cwd()), f"backup {workflow} FILE") as (registry, _):
            await begin_change(registry, workflow, process())
            try:
                _, keys = await back_up(
                    registry, workflow, path,
                    on_progress=lambda done, keys: said.now_and_then(f"{done} partitions, {keys} keys"),
                )  # fmt: skip
            finally:
                await end_change(registry, workflow, process())
            return keys

    report = BackupReport(workflow=workflow, file=str(path), keys=asyncio.run(write()), bytes=path.stat().st_size)
    if as_json:
        screen.json(report)
    else:
        screen.say(f"{workflow} is in {path}: {report.keys} keys, {report.bytes / 1024:.0f} KiB.")
    return ExitCode.OK


def restore(
    path: Path, loaded: Loaded, screen: Screen, *, replace: bool, dry_run: bool, yes: bool, as_json: bool
) -> ExitCode:
    """Write a file back; what is there of the workflow is replaced only when that is asked for, and agreed to.

    Raises:
        UsageError: No store or no file is named, or nobody can be asked.
        HeadraceError: See `restore`.
    """
    url = loaded.settings.redis_url
    if not url:
        raise UsageError(f"Say where to: headrace restore {path} --redis redis://HOST:6379/0")
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    header, keys = look_into(path)
    taken = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.time))
    what = f"{header.workflow} as of {taken}: {header.partitions} partitions, {keys} keys"

    async def look() -> tuple[bool, str]:
        async with Registry(url, connections=2) as registry:
            return await refuse_existing(registry, header.workflow, replace=replace), registry.address

    there, address = asyncio.run(look())
    if not as_json:
        screen.say(what, "bold")
    if dry_run:
        if as_json:
            screen.json({"workflow": header.workflow, "restored": False, "keys": keys, "replaces": there})
        else:
            screen.say("Nothing was written (--dry-run).")
        return ExitCode.OK
    question = f"Take {header.workflow} at {address} out, for good, and put this in its place?"
    if there and not yes and not screen.confirm(question, "--yes"):
        screen.say("Nothing was written.")
        return ExitCode.PROBLEMS
    said = _Said(screen, quiet=as_json)

    async def write() -> Restored:
        async with Registry(url, connections=2) as registry:
            return await restore_file(
                registry, path, who=process(), replace=replace,
                on_progress=lambda done, of: said.now_and_then(f"{done} of {of} keys"),
            )  # fmt: skip

    done = asyncio.run(write())
    if as_json:
        screen.json({"workflow": header.workflow, "restored": True, "keys": done.keys, "replaces": there})
    else:
        screen.say(f"{header.workflow} is restored, and stopped. It goes on when you deploy or run it.")
    return ExitCode.OK


class _Said:
    """Tells a person how far it is, not too often."""

    def __init__(self, screen: Screen, *, quiet: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._last = time.monotonic()

    def now_and_then(self, text: str) -> None:
        if not self._quiet and time.monotonic() - self._last > _EVERY:
            self._last = time.monotonic()
            self._screen.say(text, "dim")
