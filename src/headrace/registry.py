"""Schema registries that speak Confluent's protocol (Karapace, Apicurio, Redpanda do): for `avro` and `protobuf`.

A value begins with a zero byte and the id of its schema, four bytes, big-endian. HTTP, TLS, and the ways to log in are
those of Confluent's own client: `pip install "headrace[avro]"` or `"headrace[protobuf]"`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from headrace.sources.own_formats import Unavailable
from headrace.sources.references import resolve
from headrace.workflows.errors import HeadraceError

T = TypeVar("T")

_HEAD: Final = struct.Struct(">BI")
HEAD_BYTES: Final = _HEAD.size
_TIMEOUT: Final = 5.0
_NOT_FOUND: Final = 404
_UNPROCESSABLE: Final = (409, 422)
_UNKNOWN_FOR: Final = 30.0
"""Seconds for which a schema that the registry does not have is not asked for again."""


class ExtraMissing(HeadraceError):
    """Libraries that this part of Headrace needs are not installed.

    Attributes:
        extra: What to install: `headrace[extra]`.
    """

    def __init__(self, extra: str, cause: str) -> None:
        self.extra = extra
        self.cause = cause
        super().__init__(f'{cause}. Install what it takes: pip install "headrace[{extra}]"')

    def __reduce__(self) -> tuple[type[ExtraMissing], tuple[str, str]]:
        return ExtraMissing, (self.extra, self.cause)


class WireFormatError(HeadraceError):
    """A value does not begin as a schema registry's do, or its schema is not one to read it by."""


class SchemaRegistry:
    """One registry, and how to reach it. Configuration only, until a decoder or encoder is opened.

    Args:
        url: `https://host:8081`, or several with commas.
        options: Further options of Confluent's client, by its names: `basic.auth.user.info`, `ssl.ca.location`,
            `bearer.auth.…`. A text may say where it lies: `env:NAME`, `file:/path`.

    Example:
        >>> SchemaRegistry("https://registry:8081", {"basic.auth.user.info": "env:REGISTRY_LOGIN"}).url
        'https://registry:8081'
    """

    def __init__(self, url: str, options: Mapping[str, str | int | float] | None = None) -> None:
        self.url = url
        self._options = dict(options or {})
        self._client: Any = None
        self._unknown: dict[int, float] = {}

    def open(self, extra: str) -> None:
        """Load the client; it connects when it is asked.

        Raises:
            ExtraMissing: It is not installed.
            ReferenceUnresolved: An option's reference leads nowhere in this process.
        """
        if self._client is None:
            try:
                from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415  a second, and optional
            except ImportError as error:
                raise ExtraMissing(extra, str(error)) from error
            resolved = {
                name: resolve(value) if isinstance(value, str) else value for name, value in self._options.items()
            }
            # Whoever asks tries again by itself: a decoder that repeats for half a minute would only look stuck.
            self._client = SchemaRegistryClient({"timeout": _TIMEOUT, "max.retries": 0, **resolved, "url": self.url})

    def close(self) -> None:
        """Disconnect; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def schema(self, schema_id: int, fmt: str | None = None) -> Any:
        """The schema of an id, remembered: an object with `schema_str`, `schema_type` and `references`.

        Raises:
            WireFormatError: The registry has none.
            Unavailable: It can't be asked now.
        """
        if time.monotonic() < self._unknown.get(schema_id, 0.0):
            raise WireFormatError(f"the registry at {self.url} has no schema {schema_id}")
        try:
            return self._asked(lambda: self._client.get_schema(schema_id, fmt=fmt))
        except WireFormatError:
            self._unknown[schema_id] = time.monotonic() + _UNKNOWN_FOR
            raise

    def version(self, subject: str, version: int) -> Any:
        """The schema of a subject's version, as `schema` gives it.

        Raises:
            WireFormatError: The registry has none.
            Unavailable: It can't be asked now.
        """
        return self._asked(lambda: self._client.get_version(subject, version)).schema

    def id_of(self, subject: str, schema: Any, *, register: bool) -> int:
        """The id that a schema has under a subject.

        Args:
            subject: Its name.
            schema: Confluent's `Schema`.
            register: Register it there if it is not.

        Raises:
            WireFormatError: It is not there, or the registry refuses it (it is not compatible with earlier ones).
            Unavailable: The registry can't be asked now.
        """
        client = self._client
        if register:
            return int(self._asked(lambda: client.register_schema(subject, schema)))
        return int(self._asked(lambda: client.lookup_schema(subject, schema)).schema_id)

    def latest_version(self, subject: str) -> int:
        """Number of a subject's latest version."""
        return int(self._asked(lambda: self._client.get_latest_version(subject)).version)

    def _asked(self, ask: Callable[[], T]) -> T:
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415  see `open`

        try:
            return ask()
        except SchemaRegistryError as error:
            if error.http_status_code in (_NOT_FOUND, *_UNPROCESSABLE):
                raise WireFormatError(f"the registry at {self.url} says: {error}") from error
            raise Unavailable(f"the schema registry at {self.url} does not answer as it should: {error}") from error
        except Exception as error:  # whatever its HTTP library raises
            raise Unavailable(f"the schema registry at {self.url} can't be reached: {error!r}") from error


def schema_id_of(value: bytes) -> int:
    """The id of the schema that a value was written by; its payload begins after `HEAD_BYTES`.

    Raises:
        WireFormatError: It has none.
    """
    if len(value) < HEAD_BYTES:
        raise WireFormatError(f"{len(value)} bytes, too few for a schema's id")
    magic, schema_id = _HEAD.unpack_from(value)
    if magic != 0:
        raise WireFormatError(f"begins with byte {magic}, not with the 0 of a schema registry's format")
    return int(schema_id)


def head_of(schema_id: int) -> bytes:
    """What a value begins with."""
    return _HEAD.pack(0, schema_id)
