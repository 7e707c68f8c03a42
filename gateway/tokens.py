"""JSON Web Tokens (RFC 7519) as credentials: signed by keys that the operator has named, for this audience, in time.

The best practices of RFC 8725 hold: the algorithm is one that was allowed, never what the token says it is; issuer,
audience and expiry have to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from headrace.gateway.idempotency import digest
from headrace.gateway.principal import RIGHTS, Principal
from headrace.gateway.settings import GatewayOptionError, GatewaySettings, is_loopback
from headrace.gateway.token_keys import FETCH, IssuerKeys
from headrace.registry import ExtraMissing
from headrace.sources.references import ReferenceUnresolved, resolve
from headrace.workflows.tenants import DEFAULT_TENANT, is_tenant

_SYMMETRIC: Final = ("HS256", "HS384", "HS512")
_ASYMMETRIC: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_SHORTEST: Final = 32
"""Bytes of a secret, as RFC 7518 has it for HS256."""


class InvalidToken(Exception):
    """A token does not count; its words tell nothing of what is in it."""


class Tokens:
    """Checks tokens.

    Args:
        settings: Where the keys are, and what tokens have to say.

    Raises:
        GatewayOptionError: An option can't be used, or one is missing.
        ExtraMissing: The extra `jwt` is not installed.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        try:
            import jwt  # noqa: PLC0415  of an extra
        except ImportError:
            raise ExtraMissing("jwt", "The gateway is to take JSON Web Tokens") from None
        self._jwt = jwt
        self._settings = settings
        for option in ("jwt_issuer", "jwt_audience"):
            if not getattr(settings, option):
                raise GatewayOptionError(option, "say it: tokens that were made for others would count, too")
        self._key, self._keys = self._keys_by(settings)
        symmetric = bool(settings.jwt_secret)
        self._algorithms = _algorithms(settings.jwt_algorithms, symmetric=symmetric)

    def _keys_by(self, settings: GatewaySettings) -> tuple[str, IssuerKeys | None]:
        given = [name for name in ("jwt_jwks_url", "jwt_public_key", "jwt_secret") if getattr(settings, name)]
        if len(given) > 1:
            raise GatewayOptionError(given[1], f"there is {given[0]}, too: say one of them")
        if settings.jwt_jwks_url:
            url = settings.jwt_jwks_url
            if not url.startswith("https://") and not _is_near(url):
                raise GatewayOptionError("jwt_jwks_url", "it is to be https://, so that nobody can slip in their keys")
            return "", IssuerKeys(self._jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH))
        option = given[0]
        try:
            key = resolve(getattr(settings, option))
        except ReferenceUnresolved as error:
            raise GatewayOptionError(option, str(error)) from None
        if option == "jwt_secret" and len(key.encode()) < _SHORTEST:
            raise GatewayOptionError(option, f"it has less than {_SHORTEST} bytes, so it can be guessed")
        if option == "jwt_public_key":
            _check_pem(key)
        return key, None

    async def principal(self, token: str) -> Principal:
        """Who asks, by a token.

        Raises:
            InvalidToken: It does not count.
            ProblemError: `credentials_unavailable`: the issuer's keys can't be had.
        """
        settings, jwt = self._settings, self._jwt
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in self._algorithms:
                raise InvalidToken("the token is not signed in a way that is taken here")
            key: Any = self._key if self._keys is None else await self._keys.named(header.get("kid"))
            if key is None:
                raise InvalidToken("the token is not signed by a key of its issuer")
            claims = jwt.decode(
                token, key, algorithms=[algorithm], audience=settings.jwt_audience, issuer=settings.jwt_issuer,
                leeway=settings.jwt_leeway_seconds, options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
            until = float(claims["exp"]) + settings.jwt_leeway_seconds
        except jwt.PyJWTError as error:
            raise InvalidToken(_WORDS.get(type(error).__name__, "the token is not valid")) from None
        except OverflowError:  # of times that no clock has
            raise InvalidToken("the token is not valid") from None
        return self._of_claims(claims, until)

    def _of_claims(self, claims: Mapping[str, Any], until: float) -> Principal:
        settings = self._settings
        tenant = claims.get(settings.jwt_tenant_claim) if settings.jwt_tenant_claim else DEFAULT_TENANT
        if not isinstance(tenant, str) or not is_tenant(tenant):
            raise InvalidToken("the token names no tenant that can be")
        said = claims.get(settings.jwt_scopes_claim, "")
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        scopes = frozenset(word for word in words if isinstance(word, str) and word.partition(":")[0] in RIGHTS)
        subject = claims.get("sub")
        who = digest(str(claims["iss"]), str(subject or ""), tenant)
        return Principal(
            tenant=tenant, scopes=scopes, name=f"token of {str(subject)[:100] if subject else who}", id=f"token {who}",
            until=until,
        )  # fmt: skip


_WORDS: Final = {
    "ExpiredSignatureError": "the token has expired",
    "ImmatureSignatureError": "the token does not count yet",
    "InvalidAudienceError": "the token is for another audience",
    "InvalidIssuerError": "the token is of another issuer",
    "InvalidSignatureError": "the token is not signed by its issuer",
    "MissingRequiredClaimError": "the token lacks a claim: exp, iss and aud have to be there",
}
"""What may be told of the library's errors, by their names."""


def _algorithms(text: str, *, symmetric: bool) -> tuple[str, ...]:
    possible = _SYMMETRIC if symmetric else _ASYMMETRIC
    named = tuple(filter(None, text.replace(",", " ").split()))
    for name in named:
        if name not in possible:
            kind = "a secret" if symmetric else "public keys"
            raise GatewayOptionError("jwt_algorithms", f"{name!r} is not for {kind}. There are: {', '.join(possible)}")
    return named or (("HS256",) if symmetric else ("RS256", "PS256", "ES256", "EdDSA"))


def _check_pem(text: str) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  of an extra

    try:
        load_pem_public_key(text.encode())
    except ValueError:
        raise GatewayOptionError("jwt_public_key", "it is no public key in PEM; take file:/path/of/key.pem") from None


def _is_near(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")
