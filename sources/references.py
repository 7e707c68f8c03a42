"""Settings that say where a secret lies instead of what it is: `env:NAME`, `file:/path`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headrace.workflows.errors import HeadraceError

_ENV: Final = "env:"
_FILE: Final = "file:"


class ReferenceUnresolved(HeadraceError):
    """What a setting refers to is not there, in this process.

    Attributes:
        reference: As it was written; it tells nothing of the secret.
    """

    def __init__(self, reference: str, reason: str) -> None:
        self.reference = reference
        self.reason = reason
        super().__init__(f"{reference} can't be read here: {reason}")

    def __reduce__(self) -> tuple[type[ReferenceUnresolved], tuple[str, str]]:
        return ReferenceUnresolved, (self.reference, self.reason)


def is_reference(value: str) -> bool:
    """Whether a setting says where its value lies."""
    return value.startswith((_ENV, _FILE))


def resolve(value: str, environment: Mapping[str, str] = os.environ) -> str:
    """The value itself, or what its reference leads to, in this process and now.

    Args:
        value: `env:NAME`: an environment variable. `file:/path`: the text of a file, without the line end that
            editors leave (mounted secrets change in place, so it is read each time). Anything else: itself.
        environment: Where variables are looked up.

    Raises:
        ReferenceUnresolved: There is no such variable or file.
    """
    if value.startswith(_ENV):
        name = value.removeprefix(_ENV)
        if name not in environment:
            raise ReferenceUnresolved(value, f"the environment variable {name} is not set")
        return environment[name]
    if value.startswith(_FILE):
        try:
            return Path(value.removeprefix(_FILE)).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ReferenceUnresolved(value, getattr(error, "strerror", None) or "it is no text") from None
    return value
