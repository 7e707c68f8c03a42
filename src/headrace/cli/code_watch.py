"""Notices when a file of the user's code is saved."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import structlog

from headrace.workflows.errors import HeadraceError

log = structlog.get_logger(__name__)

_STEP_MS: Final = 50
_TOGETHER_MS: Final = 300
"""Saves within this time count as one: editors write several files, or one in several steps."""


class WatchfilesMissing(HeadraceError):
    """The library that watches files is not installed."""

    def __init__(self) -> None:
        super().__init__('--reload needs the package watchfiles. Install it: pip install "headrace[embedded]"')


class CodeWatch:
    """Watches the folders of some files; the folders' other files count only when asked for.

    Raises:
        WatchfilesMissing: Its library is not installed.
    """

    def __init__(self) -> None:
        try:
            import watchfiles  # noqa: PLC0415  an extra, and loaded by --reload only
        except ImportError as error:
            raise WatchfilesMissing from error
        self._library: Any = watchfiles
        self._folders: frozenset[Path] = frozenset()
        self._files: frozenset[str] = frozenset()
        self._any = False
        self._stop = threading.Event()
        self._changed = threading.Event()

    def follow(self, files: Collection[Path], *, any_python: bool = False) -> None:
        """From now on a change of these files counts.

        Args:
            files: Files of the code.
            any_python: Every Python file beside them counts, too: one that was missing may have come.
        """
        self._files, self._any = frozenset(map(str, files)), any_python
        folders = frozenset(path.parent for path in files)
        if folders == self._folders:
            return
        self._folders = folders
        self._stop.set()
        self._stop = threading.Event()
        arguments = (sorted(folders), self._stop)
        threading.Thread(target=self._watch, args=arguments, name="headrace-code-watch", daemon=True).start()

    def changed(self) -> bool:
        """Whether something was saved since the last time this was asked."""
        if not self._changed.is_set():
            return False
        self._changed.clear()
        return True

    def close(self) -> None:
        """Stop watching; idempotent."""
        self._stop.set()

    def _watch(self, folders: Collection[Path], stop: threading.Event) -> None:
        changes = self._library.watch(
            *folders, watch_filter=self._counts, step=_STEP_MS, debounce=_TOGETHER_MS, stop_event=stop,
            rust_timeout=500, raise_interrupt=False, recursive=False,
        )  # fmt: skip
        for change in changes:
            log.debug("code_changed", files=sorted(path for _, path in change))
            self._changed.set()

    def _counts(self, _: Any, path: str) -> bool:
        return path in self._files or (self._any and path.endswith(".py"))
