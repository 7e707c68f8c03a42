"""What can be set of a gateway: the table `[gateway]` of the settings."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from headrace.actors.rates import Rate
from headrace.gateway.callback_targets import networks_of
from headrace.gateway.cors import origins_of
from headrace.sources.standard_webhooks import secrets_of
from headrace.workflows.errors import HeadraceError

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400 * 30)]
_Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class GatewayOptionError(HeadraceError):
    """An option of the gateway can't be used.

    Attributes:
        option: Its name.
    """

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"gateway.{option}: {reason}")
        self.option = option


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and addresses of a gateway; the defaults are right for most."""

    host: str = "127.0.0.1"
    """Address to listen at. Others reach it only if it is not this machine's own: `0.0.0.0`, or `::`."""
    port: _Port = 8080
    """Port to listen at; 0: any that is free."""
    processes: _Count = 1
    """Processes that answer, all at one port."""
    body_bytes: _Count = 1 << 20
    """Bytes of the body of a request; workers take no event above 1 MiB."""
    ingest_bytes: _Count = 16 << 20
    """Bytes of the body of `POST /events`, which has many events."""
    ingest_events: _Count = 10_000
    """Events that one body may have."""
    depth: _Count = 100
    """Levels of JSON within each other."""
    body_seconds: _Seconds = 10.0
    """Time for a body to come; and for the client of a session to read what is told."""
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """How long a process that gets SIGTERM goes on as before, while `/readyz` says that it is about to end."""
    wait_seconds: _Seconds = 10.0
    """How long a caller waits for its answer that doesn't say."""
    longest_wait_seconds: _Seconds = 30.0
    """How long a caller may wait."""
    waiting: _Count = 10_000
    """Callers that may wait at the same time, in one process."""
    idempotency_seconds: _Seconds = 86_400.0
    """How long an Idempotency-Key is remembered."""
    cors_origins: str = ""
    """Origins whose pages may ask from browsers, separated by spaces: `http://localhost:8000`; `*`: any."""
    callback_secrets: str = ""
    """Secrets that callbacks are signed with: `whsec_...`, the newest first; two while one is changed. None: there are
    no callbacks."""
    callback_networks: str = ""
    """Networks that callbacks may go to though they are not public: `10.0.0.0/8, fd00::/8`."""
    callback_plain: bool = False
    """Callbacks may go to `http://`."""
    callback_seconds: _Seconds = 15.0
    """Time for a receiver to answer."""
    callback_first_pause: _Seconds = 5.0
    """Seconds before the second attempt, at most; each pause is longer than the one before."""
    callback_give_up: _Seconds = 86_400.0
    """Seconds for which a callback is tried."""
    callback_per_target: _Count = 8
    """Calls to one receiver at the same time, by one process."""
    callbacks_waiting: _Count = 10_000
    """Callbacks of one partition that may wait; beyond, no more are promised."""
    authentication: Literal["none", "required"] | None = None
    """Whether callers need credentials; None: they don't, and the gateway listens to this machine's programs only."""
    credentials_seconds: _Seconds = 5.0
    """How long a key is taken for good, or for none, as it was looked up: a key that is revoked counts that long."""
    rate: str = ""
    """How often each caller with credentials may ask, as `100/s`; empty: as often as they want."""
    total_rate: str = ""
    """How often all together may."""
    jwt_jwks_url: str = ""
    """Where the keys of an issuer of JSON Web Tokens are."""
    jwt_public_key: str = ""
    """The key itself, in PEM: `file:/path`."""
    jwt_secret: str = ""
    """A secret that the issuer shares: `file:/path`, `env:NAME`."""
    jwt_algorithms: str = ""
    """How tokens may be signed, with commas between."""
    jwt_issuer: str = ""
    """Whose tokens count."""
    jwt_audience: str = ""
    """For whom they have to be made."""
    jwt_tenant_claim: str = ""
    """The claim that names the tenant; empty: all are of the tenant `default`."""
    jwt_scopes_claim: str = "scope"
    """The claim that has the scopes: text with blanks between, or a list."""
    jwt_leeway_seconds: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0
    """How far clocks may be apart."""

    @property
    def takes_tokens(self) -> bool:
        """Whether JSON Web Tokens are credentials."""
        return bool(self.jwt_jwks_url or self.jwt_public_key or self.jwt_secret)


DEFAULTS: Final = GatewaySettings()


def gateway_settings(table: Mapping[str, Any]) -> GatewaySettings:
    """Settings from a table; numbers may be text, as in the environment.

    Raises:
        GatewayOptionError: There is no such option, or it can't have this value.

    Examples:
        >>> gateway_settings({"port": "9000"}).port
        9000
    """
    names = GatewaySettings.__struct_fields__
    for name in table:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            cure = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names)}"
            raise GatewayOptionError(name, f"there is no such option. {cure}")
        try:
            msgspec.convert({name: table[name]}, GatewaySettings, strict=False)
        except msgspec.ValidationError as error:
            raise GatewayOptionError(name, f"{table[name]!r} can't be used. {error}") from None
    _check("callback_secrets", secrets_of, table)
    _check("callback_networks", networks_of, table)
    _check("cors_origins", origins_of, table)
    for option in ("rate", "total_rate"):
        _check(option, _rate, table)
    return msgspec.convert(dict(table), GatewaySettings, strict=False)


def _rate(text: str) -> object:
    return Rate.parse(text) if text else None


def _check(option: str, parse: Callable[[str], object], table: Mapping[str, Any]) -> None:
    try:
        parse(str(table.get(option, "")))
    except ValueError as error:
        raise GatewayOptionError(option, str(error)) from None


def check_exposed(settings: GatewaySettings) -> None:
    """Make sure that nobody opens a gateway to other machines without having thought of who may use it.

    Raises:
        GatewayOptionError: It would listen there, and nothing is said of credentials.
    """
    if settings.authentication is None and not is_loopback(settings.host):
        raise GatewayOptionError(
            "authentication",
            f"at {settings.host!r} other machines could do everything. Ask for credentials: --authentication required,"
            " and `headrace keys create NAME`; or say --authentication none if a proxy or network keeps others out.",
        )


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
