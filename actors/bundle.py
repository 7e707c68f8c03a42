"""A workflow's code as one archive, named by its content: packed by `deploy`, unpacked by every process.

A zip archive, so that anybody can look into it. The name is the hash of the files' names and contents, not of
the archive: packing the same files again, anywhere, gives the same name.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from headrace.actors.bundle_files import MAX_BYTES, MAX_FILES, BundleError, choose_files

CACHE: Final = "HEADRACE_CACHE"
"""Environment variable: folder in which processes unpack code; by default `~/.cache/headrace`."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Time of every file in an archive: the earliest that zip knows."""
_LENGTH: Final = 16
"""Hex digits of a version."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Code, packed."""

    version: str
    """Hash of the files' names and contents."""
    archive: bytes
    """A zip archive."""
    files: Mapping[str, int]
    """Name -> bytes."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def pack(folder: Path, *, max_bytes: int = MAX_BYTES) -> Bundle:
    """Pack the code of a folder.

    Raises:
        BundleError: It is too large; see `choose_files`.
    """
    chosen = choose_files(folder, max_bytes=max_bytes)
    try:
        contents = {file.name: file.path.read_bytes() for file in chosen}
        version = _version_of(contents.items())
    except (OSError, UnicodeEncodeError) as error:
        raise BundleError(f"The code in {folder} can't be packed: {error}.") from error
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return Bundle(version, buffer.getvalue(), {name: len(content) for name, content in contents.items()})


def unpack(archive: bytes, version: str, cache: Path) -> Path:
    """The folder with the code, unpacked now or earlier.

    Several processes may do it at the same time: each unpacks beside, and the first one's folder takes the name.

    Args:
        archive: What `pack` made.
        version: The name that it goes by; the content must agree with it.
        cache: Folder of all unpacked code, this user's own.

    Raises:
        BundleError: It is damaged, not what its name says, or would write elsewhere.
    """
    target = cache / version
    if target.is_dir():
        return target
    contents = _contents(archive, version)
    cache.mkdir(parents=True, exist_ok=True)
    beside = cache / f".{version}.{secrets.token_hex(4)}"
    try:
        for name, content in contents.items():
            file = beside.joinpath(*PurePosixPath(name).parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        beside.mkdir(exist_ok=True)
        beside.rename(target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not target.is_dir():
            raise BundleError(
                f"The code can't be unpacked into {cache}: {error}. Set {CACHE} to another folder."
            ) from error
    return target


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this process unpacks code: a folder that nobody else can write to.

    Raises:
        BundleError: It belongs to somebody else, who could put code there that we would run.
    """
    chosen = environment.get(CACHE)
    home = environment.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    user = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    for folder in [Path(chosen)] if chosen else [Path(home) / "headrace", user / "cache"]:
        bundles = folder / "bundles"
        try:
            bundles.mkdir(parents=True, exist_ok=True)
            bundles.chmod(0o700)
        except OSError:
            continue  # a home without a place to write, as in many containers
        status = bundles.stat()
        if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return bundles
    raise BundleError(f"There is no folder of this user's own to unpack code into. Set {CACHE} to one.")


def _contents(archive: bytes, version: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            infos = file.infolist()
            if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
                raise BundleError(f"The bundle {version} is larger than a bundle may be.")
            contents = {_safe(info.filename, version): file.read(info) for info in infos}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise BundleError(f"The bundle {version} is damaged: {error}. Deploy again.") from error
    if _version_of(contents.items()) != version:
        raise BundleError(f"The bundle {version} does not hold what its name says. Deploy again.")
    return contents


def _safe(name: str, version: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or name.endswith("/"):
        raise BundleError(f"The bundle {version} has a file {name!r} that would lie elsewhere. Who has written it?")
    return name


def _version_of(contents: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents):
        digest.update(f"{len(name.encode())}:{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:_LENGTH]
