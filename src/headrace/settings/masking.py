"""What of a setting may be shown: never a password, always where it would come from."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from headrace.settings.model import Path

HIDDEN: Final = "******"
_SECRET: Final = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|credential|(api|private|access)_?key$|jaas", re.IGNORECASE
)
_IN_OPTIONS: Final = re.compile(r"([?&][a-z_]*password=)(?!env:|file:)[^&#]+")
_REFERENCE: Final = re.compile(r"^(env|file):")


def sounds_secret(name: str) -> bool:
    """Whether a setting of this name is taken for a secret: `password`, `api_token`, `secret` ..."""
    return _SECRET.search(name) is not None


def shown(path: Path, value: Any) -> Any:
    """A value as it may be printed.

    Secrets are hidden: values of names that sound like one (`sasl_plain_password`), and passwords in URLs.
    References (`env:NAME`, `file:/path`) hold none and are shown as they are.
    """
    if not isinstance(value, str) or _REFERENCE.match(value):
        return value
    if sounds_secret(path[-1]) or path == ("traces", "headers"):
        return HIDDEN if value else value
    return _without_password(value)


def _without_password(text: str) -> str:
    if "://" not in text:
        return text
    text = _IN_OPTIONS.sub(rf"\1{HIDDEN}", text)
    parts = urlsplit(text)
    user, _, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    if not colon:
        return text
    return urlunsplit(parts._replace(netloc=f"{name}:{HIDDEN}@{host}"))
