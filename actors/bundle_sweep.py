"""Unpacked code that no process of this machine uses any more is removed, by whoever unpacks more.

Who uses a version holds a shared lock on its folder, to the end of the process: code may be imported as late as that.
Who removes one needs the lock for itself alone, so any number of workflows may share a cache. Where a file system has
no locks nothing is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

REST: Final = 3600.0
"""Seconds that a version stays after a process has begun to use it: for those that come again, and for a roll-back."""


def hold(folder: Path) -> int | None:
    """Use unpacked code: it stays until what is returned is closed, at the latest with the process.

    Returns:
        A file descriptor; None: it is not there, or was removed just now, so unpack it (again).
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        log.info("code_not_locked", folder=str(folder), reason=str(error))
    try:
        there = os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        there = False
    if not there:
        os.close(descriptor)
        return None
    with contextlib.suppress(OSError):  # a cache that others fill, and that can only be read here
        os.utime(folder)
    return descriptor


def sweep(cache: Path, *, rest: float = REST) -> list[str]:
    """Remove versions that no process uses, and what was left half unpacked; returns their names.

    Args:
        cache: Folder of all unpacked code.
        rest: Seconds since the last use.
    """
    removed = []
    for folder in sorted(cache.iterdir()):
        if folder.is_dir() and _removed(folder, rest):
            removed.append(folder.name)
    if removed:
        log.info("code_swept", folder=str(cache), versions=removed)
    return removed


def _removed(folder: Path, rest: float) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # somebody else was quicker
    try:
        if time.time() - os.fstat(descriptor).st_mtime < rest:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".gone.{secrets.token_hex(4)}")
        folder.rename(gone)  # from here on nobody finds half of it under its name
    except OSError:
        return False  # somebody uses it, or there are no locks here
    else:
        shutil.rmtree(gone, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
