"""What OpenAPI says of credentials: every guarded route may be refused for who asks, and how often."""

from __future__ import annotations

from typing import Any, Final

from headrace.gateway.documented import answers

_OPEN: Final = ("/healthz", "/readyz")
_REFUSALS: Final = (
    "credentials_repeated", "credentials_missing", "credentials_invalid", "forbidden", "rate_limited",
    "quota_exceeded",
    "credentials_unavailable",
)  # fmt: skip


def add_credentials(document: dict[str, Any]) -> None:
    """Put credentials, and what is answered for want of them, into an OpenAPI document."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {
        "type": "http", "scheme": "bearer",
        "description": "A key of `headrace keys create`, or a JSON Web Token; where the gateway asks for credentials.",
    }  # fmt: skip
    refusals = answers(*_REFUSALS)
    for path, operations in document["paths"].items():
        if path in _OPEN:
            continue
        for operation in operations.values():
            operation["security"] = [{}, {"bearer": []}]
            for status, refusal in refusals.items():
                _merge(operation["responses"], str(status), refusal)


def _merge(responses: dict[str, Any], status: str, refusal: dict[str, Any]) -> None:
    there = responses.setdefault(status, {"description": "", "content": {}})
    if refusal["description"] not in there["description"]:
        there["description"] += f"{'; ' if there['description'] else ''}{refusal['description']}"
    for media, body in refusal["content"].items():
        own = there["content"].setdefault(media, {"schema": body["schema"], "examples": {}})
        own["examples"] = {**own.get("examples", {}), **body["examples"]}
