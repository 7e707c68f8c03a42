"""Rules of Standard Webhooks, <https://www.standardwebhooks.com>, for callbacks and webhooks.

A signature is HMAC-SHA256 over id, time and body, with each secret there is.
While a secret is changed there are two: a receiver takes what either of them has signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_LONGEST: Final = 64
"""Bytes of a secret; see "Signature scheme"."""
FINAL: Final = frozenset({400, 405, 410, 413, 415, 422})
"""Answers that say that it will never be taken."""


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


def is_delivered(status: int) -> bool:
    """The receiver has it."""
    return 200 <= status < 300  # noqa: PLR2004  the class of answers that mean yes


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


def retry_after(value: bytes | None) -> float | None:
    """Seconds from a header `Retry-After` of RFC 9110: seconds, or a date; None: there is none, or it says neither."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
