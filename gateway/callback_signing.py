"""Signatures of callbacks, by Standard Webhooks: HMAC-SHA256 over id, time and body, with each secret there is.

While a secret is changed there are two: a receiver takes what either of them has signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_LONGEST: Final = 64
"""Bytes of a secret; see Standard Webhooks, "Signature scheme"."""


def secrets_of(text: str) -> tuple[bytes, ...]:
    """Secrets from a setting: `whsec_...`, the newest first, a blank or comma between them.

    Raises:
        ValueError: One of them is none. Says which, but not what it is.

    Examples:
        >>> len(secrets_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")[0])
        24
    """
    found = []
    for place, part in enumerate(text.replace(",", " ").split(), 1):
        if not part.startswith(PREFIX):
            raise ValueError(f"secret {place} does not begin with {PREFIX}")
        try:
            secret = base64.b64decode(part.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"secret {place} is no base64 behind {PREFIX}") from None
        if not _SHORTEST <= len(secret) <= _LONGEST:
            raise ValueError(f"secret {place} has {len(secret)} bytes, not {_SHORTEST} to {_LONGEST}")
        found.append(secret)
    return tuple(found)


def signed_headers(secrets: Sequence[bytes], id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Headers of one call.

    Args:
        secrets: All that are in use.
        id: Of what occurred; the same in each attempt.
        seconds: Of this attempt, since 1970 UTC.
        body: As it is sent.
    """
    content = b".".join((id.encode(), str(seconds).encode(), body))
    signatures = (hmac.new(secret, content, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }
