"""Errors of Headrace: a small tree under `HeadraceError`, each with attributes and a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PATH = re.compile(r" - at `(?:key in )?(\$[^`]*)`")


class HeadraceError(Exception):
    """Base of all errors that Headrace raises on purpose.

    Attributes:
        code: Stable word for the class, which `headrace explain` and the documentation know: `store-unavailable`.
        final: The same event would fail in the same way again: no node's `retry=` tries it.
    """

    code: ClassVar[str] = "headrace"
    final: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "code" not in cls.__dict__:
            cls.code = _WORD.sub("-", cls.__name__.lstrip("_").removesuffix("Error")).lower()


class ServerUnreachable(HeadraceError):
    """A server that is needed (Ray, Kafka, Redis) can't be reached, or not used, from here."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a workflow, as the build found it."""

    where: str
    """`file.py:38`: the line that wrote it."""
    subject: str
    """Name of the node, source, sink or workflow it is about."""
    code: str
    """Stable word for tools: `no-route`, `type`, `unreached` ..."""
    message: str
    """What is wrong."""
    cure: str
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.where}  {self.subject}: {self.message}. {self.cure}"


class WorkflowError(HeadraceError):
    """A workflow can't be built; lists everything that is wrong with it at once.

    Attributes:
        workflow: Name of the workflow.
        problems: All mistakes found, by line.
    """

    def __init__(self, workflow: str, problems: Sequence[Problem]) -> None:
        self.workflow = workflow
        self.problems = list(problems)
        count = len(self.problems)
        head = f"workflow {workflow!r} has {count} problem{'' if count == 1 else 's'}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[WorkflowError], tuple[str, list[Problem]]]:
        return WorkflowError, (self.workflow, self.problems)


class CodecError(HeadraceError):
    """Bytes don't fit a type, or a value can't be written so that it comes back equal.

    Attributes:
        path: The field that does not fit, from the root `$`: `$.celsius`.
    """

    final = True

    def __init__(self, message: str, path: str = "$") -> None:
        self.message = message
        self.path = path
        super().__init__(message if path == "$" or f"`{path}`" in message else f"{message} - at `{path}`")

    @classmethod
    def of(cls, error: Exception) -> CodecError:
        """The same as what msgspec raised, with the path taken from its text."""
        text = str(error)
        found = _PATH.search(text)
        return cls(text, found.group(1) if found else "$")

    def __reduce__(self) -> tuple[type[CodecError], tuple[str, str]]:
        return CodecError, (self.message, self.path)


class SourceClosed(HeadraceError):
    """The source takes no more events: it was closed, or its workflow has ended.

    Attributes:
        source: Name of the source.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(f"source {source!r} is closed; it takes no more events")

    def __reduce__(self) -> tuple[type[SourceClosed], tuple[str]]:
        return SourceClosed, (self.source,)
