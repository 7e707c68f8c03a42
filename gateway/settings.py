"""What can be set of a gateway: the table `[gateway]` of the settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from headrace.gateway.cors import origins_of
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
    """Time for a body to come."""
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
    settings = msgspec.convert(dict(table), GatewaySettings, strict=False)
    try:
        origins_of(settings.cors_origins)
    except ValueError as error:
        raise GatewayOptionError("cors_origins", str(error)) from None
    return settings
