"""Keys of runs in addresses: plain where URLs allow it, else `~` and base64url."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._~-]*")


def encode_key(key: str) -> str:
    """How a key is written in an address.

    Examples:
        >>> encode_key("s1"), encode_key("a/b")
        ('s1', '~YS9i')
    """
    if _PLAIN.fullmatch(key):
        return key
    return "~" + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_key(text: str) -> str:
    """The key that an address speaks of.

    Raises:
        ValueError: It is no key.

    Examples:
        >>> decode_key("~YS9i")
        'a/b'
    """
    if _PLAIN.fullmatch(text):
        return text
    if not text.startswith("~"):
        raise ValueError(f"{text!r} has characters outside A-Z a-z 0-9 . _ ~ -; write ~ and the key in base64url")
    packed = text[1:]
    try:
        key = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{text!r} is not ~ and base64url of a key in UTF-8") from error
    if not key:
        raise ValueError("a key has one character at least")
    return key
