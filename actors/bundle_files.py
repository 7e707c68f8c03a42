"""Which files of a workflow's folder go into its bundle: all but hidden ones, secrets, and what is ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from headrace.workflows.errors import HeadraceError

IGNORE_FILE: Final = ".headraceignore"
"""In the folder: patterns as in `.gitignore`, asked before it; `!pattern` takes in what `.gitignore` leaves out."""
MAX_BYTES: Final = 16 << 20
"""Bytes that all files of a bundle may have; it lies in the store's memory."""
MAX_FILES: Final = 5_000
_LOOK: Final = 4
"""How many times as many files are looked at before it is called too much."""

_NEVER: Final = GitIgnoreSpec.from_lines(
    [
        ".*",  # .env, .git, .venv, .ssh, .aws, .netrc, caches of tools: no module's name starts with a dot
        *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk"),
        *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.tfstate", "*.tfvars", "kubeconfig"),
        *("credentials.json", "client_secret*.json", "service-account*.json", "secrets.toml", "secrets.y*ml"),
    ]
)
"""What no pattern can take in: a bundle is readable for everybody who can read the store."""
_NOT_CODE: Final = GitIgnoreSpec.from_lines(
    ["__pycache__/", "*.py[co]", "node_modules/", "*.egg-info/", "site-packages/"]
)


class BundleError(HeadraceError):
    """A folder can't be made into a bundle."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One file of a bundle."""

    name: str
    """From the folder on, with `/` between its parts."""
    path: Path
    size: int
    """Bytes."""


def choose_files(folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> list[Chosen]:
    """The files that go into the bundle of a folder, by name.

    Left out are hidden files and folders, virtual environments, secrets (keys, credentials), what Python and its
    tools make by themselves, and what `.headraceignore` or a `.gitignore` in the folder or below names. Links to
    files are followed when they stay inside the folder.

    Args:
        folder: The workflow's folder.
        max_bytes: What all of them may have together.
        max_files: How many there may be.

    Raises:
        BundleError: They are too many or too large; names the largest and what to do.
    """
    root = folder.resolve()
    if root in (Path.home().resolve(), Path(root.anchor)):
        raise BundleError(f"{root} is no folder of a workflow. Put the workflow into a folder of its own.")
    chosen: list[Chosen] = []
    for file in _walk(root, root, []):
        chosen.append(file)
        if len(chosen) > _LOOK * max_files:
            break  # a folder of data: enough has been seen
    total = sum(file.size for file in chosen)
    if total > max_bytes or len(chosen) > max_files:
        raise BundleError(_too_large(root, chosen, total, max_bytes, max_files))
    return sorted(chosen, key=lambda file: file.name)


def _walk(root: Path, folder: Path, above: Sequence[tuple[str, GitIgnoreSpec]]) -> Iterator[Chosen]:
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    specs = [*above, *_specs(folder, prefix)]
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name, path = prefix + entry.name, folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            if not _is_left_out(f"{name}/", specs) and not (path / "pyvenv.cfg").is_file():
                yield from _walk(root, path, specs)
        elif entry.is_file() and path.resolve().is_relative_to(root) and not _is_left_out(name, specs):
            yield Chosen(name, path, entry.stat().st_size)


def _specs(folder: Path, prefix: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
    """A folder's own patterns, the weaker ones first."""
    for name in (".gitignore", IGNORE_FILE):
        file = folder / name
        if file.is_file():
            yield prefix, GitIgnoreSpec.from_lines(file.read_text(errors="replace").splitlines())


def _is_left_out(name: str, specs: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    if _NEVER.match_file(name) or _NOT_CODE.match_file(name):
        return True
    for prefix, spec in reversed(specs):  # the deepest folder has the last word, as in git
        said = spec.check_file(name.removeprefix(prefix)).include
        if said is not None:
            return said
    return False


def _too_large(root: Path, chosen: Sequence[Chosen], total: int, max_bytes: int, max_files: int) -> str:
    largest = sorted(chosen, key=lambda file: -file.size)[:5]
    lines = "\n".join(f"  {file.size / 1e6:8.1f} MB  {file.name}" for file in largest)
    return (
        f"The code in {root} is {total / 1e6:.1f} MB in {len(chosen)} files; a bundle may have"
        f" {max_bytes / 1e6:.0f} MB and {max_files} files. The largest:\n{lines}\n"
        f"Name what is not code in {IGNORE_FILE} (patterns as in .gitignore), or say --working-dir FOLDER for a smaller"
        " one. Load models and data in open() of a node, from where they lie."
    )
