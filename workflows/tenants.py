"""Whose run a key is: the keys of tenants begin with `tenant:NAME:`, those of the tenant `default` are as they are.

The gateway puts it there, from who asks, never from what they send; and no caller can choose a key that begins so.
See `docs/decisions/tenants.md`.
"""

from __future__ import annotations

import re
from typing import Final

DEFAULT_TENANT: Final = "default"
MARK: Final = "tenant:"
"""What keys of runs of other tenants begin with."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def is_tenant(name: str) -> bool:
    """Whether a tenant can have this name: small letters, digits, `_` and `-`, at most 63.

    Examples:
        >>> is_tenant("acme"), is_tenant("a:b")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def is_reserved(key: str) -> bool:
    """Whether a key looks like one of a tenant, so that nobody may choose it."""
    return key.startswith(MARK)


def key_for(tenant: str, key: str) -> str:
    """The key of the run that a tenant calls `key`.

    Examples:
        >>> key_for("acme", "4711"), key_for("default", "4711")
        ('tenant:acme:4711', '4711')
    """
    return key if tenant == DEFAULT_TENANT else f"{MARK}{tenant}:{key}"


def tenant_of(key: str) -> str:
    """Whose run it is; nobody's (an empty text) where a key begins like a tenant's and is none.

    Examples:
        >>> tenant_of("tenant:acme:4711"), tenant_of("4711")
        ('acme', 'default')
    """
    if not is_reserved(key):
        return DEFAULT_TENANT
    name, colon, _ = key.removeprefix(MARK).partition(":")
    return name if colon and is_tenant(name) and name != DEFAULT_TENANT else ""


def shown_key(key: str) -> str:
    """What its tenant calls the run with this key.

    Examples:
        >>> shown_key("tenant:acme:a:b"), shown_key("a:b")
        ('a:b', 'a:b')
    """
    return key.split(":", 2)[2] if is_reserved(key) and tenant_of(key) else key


def key_within(came_with: bytes | None, key: str) -> str:
    """The key that data name, for the tenant that they came from.

    Args:
        came_with: The key that the gateway has given the request.
        key: What its data say.

    Raises:
        ValueError: The data name a run of a tenant.
    """
    if is_reserved(key):
        raise ValueError(f"it begins with {MARK!r}, which no caller can choose")
    return key_for(tenant_of((came_with or b"").decode()), key)
