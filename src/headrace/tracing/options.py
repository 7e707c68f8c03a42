"""What is asked for: whether there are traces, where they go, which events are traced.

From the table `traces` of the settings, and, for what that leaves open, from OpenTelemetry's own environment variables.
They are read where a workflow is started or deployed, and travel to its processes with the deployment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from headrace.workflows.errors import HeadraceError
from headrace.workflows.tracing import Sampling

PATH: Final = "/v1/traces"
"""Of an OTLP receiver, behind its address."""
DEFAULT_SAMPLER: Final = "parentbased_always_off"
_SAMPLERS: Final = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}
"""Name -> whether a parent decides, and the share of other events; None: as `sampler_arg` says."""
_VARIABLES: Final = {
    "service": ("OTEL_SERVICE_NAME",),
    "sampler": ("OTEL_TRACES_SAMPLER",),
    "sampler_arg": ("OTEL_TRACES_SAMPLER_ARG",),
    "resource": ("OTEL_RESOURCE_ATTRIBUTES",),
    "certificate": ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
    "compression": ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"),
}
"""Option -> variables, the stronger one first."""
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_PROTOCOL: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OPTIONS: Final = ("endpoint", "headers", "keys", *_VARIABLES)
"""Of the table `traces`."""
_YES: Final = {"true": True, "false": False, "1": True, "0": False}


class TraceOptionError(HeadraceError):
    """Something that is said of traces can't be used.

    Attributes:
        option: The option or variable.
        value: What was said.
    """

    def __init__(self, option: str, value: str, cure: str) -> None:
        self.option, self.value, self.cure = option, value, cure
        super().__init__(f"traces: {option} can't be {value!r}. {cure}")

    def __reduce__(self) -> tuple[type[TraceOptionError], tuple[str, str, str]]:
        return type(self), (self.option, self.value, self.cure)


class TracesNotInstalled(HeadraceError):
    """Traces are asked for, but the packages that export them are not there."""

    def __init__(self) -> None:
        super().__init__(
            'Traces need OpenTelemetry. Type: pip install "headrace[otel]"'
            "\nOr switch them off: OTEL_TRACES_EXPORTER=none"
        )

    def __reduce__(self) -> tuple[type[TracesNotInstalled], tuple[()]]:
        return type(self), ()


class Tracing(msgspec.Struct, frozen=True, kw_only=True):
    """Traces as they are asked for; travels with a deployment. Holds no secrets, only references to them."""

    endpoint: str
    """Where spans go: the whole URL."""
    service: str = ""
    """`service.name`; empty: the workflow's name."""
    parent_based: bool = True
    ratio: float = 0.0
    """See `Sampling`."""
    headers: str = ""
    """Reference to headers for the receiver, `name=value,name=value`: `env:NAME` or `file:/path`."""
    certificate: str = ""
    """File with the authority of the receiver's certificate; empty: the system's."""
    compression: str = "none"
    """`none` or `gzip`."""
    keys: bool = False
    """Spans have the keys of runs, which may be personal data."""
    resource: dict[str, str] = {}
    """More attributes of all spans."""

    @property
    def sampling(self) -> Sampling:
        """Which events are traced."""
        return Sampling(self.parent_based, self.ratio)


def tracing_of(options: Mapping[str, str], environment: Mapping[str, str]) -> Tracing | None:
    """What settings and environment ask for; None: no traces.

    Args:
        options: The table `traces` of the settings; stronger than the environment.
        environment: OpenTelemetry's variables are read from it.

    Raises:
        TraceOptionError: Something can't be used.
        TracesNotInstalled: There are to be traces, but the extra `otel` is not installed.
    """
    for name in options:
        if name not in OPTIONS:
            raise TraceOptionError(name, options[name], f"There are: {', '.join(OPTIONS)}")
    endpoint = _endpoint(options, environment)
    if endpoint is None:
        return None
    said = {name: _first(environment, variables) for name, variables in _VARIABLES.items()}
    said |= {name: value for name, value in options.items() if value}
    parent_based, ratio = _sampler(said["sampler"] or DEFAULT_SAMPLER, said["sampler_arg"])
    found = Tracing(
        endpoint=endpoint, service=said["service"], parent_based=parent_based, ratio=ratio,
        headers=_headers(options, environment), certificate=said["certificate"],
        compression=_one_of("compression", said["compression"] or "none", ("none", "gzip")),
        keys=_YES[_one_of("keys", options.get("keys", "false"), tuple(_YES))],
        resource=_pairs(said["resource"]),
    )  # fmt: skip
    if not installed():
        raise TracesNotInstalled
    return found


def installed() -> bool:
    """Whether the packages of the extra `otel` are there."""
    try:
        needed = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common", "requests")
        return all(find_spec(name) is not None for name in needed)
    except ModuleNotFoundError:
        return False


def _endpoint(options: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """The whole URL; None: traces are off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").replace(" ", "").split(",")
    if "none" in exporters:
        return None
    whole = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = options.get("endpoint") or (environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") if not whole else "")
    if not base and not whole:
        if "otlp" not in exporters:
            return None
        base = "http://localhost:4318"
    protocol = _first(environment, _PROTOCOL)
    if protocol and not options.get("endpoint"):
        _one_of(_PROTOCOL[1], protocol, ("http/protobuf",))
    url = whole if not base else base if base.rstrip("/").endswith(PATH) else base.rstrip("/") + PATH
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TraceOptionError(
            "endpoint", base or whole, "Write the receiver's address for HTTP: http://localhost:4318"
        )
    if parts.username or parts.password:
        raise TraceOptionError("endpoint", parts.hostname, "Take the password out of it: headers may have secrets")
    return url


def _sampler(name: str, argument: str) -> tuple[bool, float]:
    parent_based, share = _SAMPLERS[_one_of("sampler", name, tuple(_SAMPLERS))]
    if share is not None:
        return parent_based, share
    try:
        ratio = float(argument or "1")
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise TraceOptionError("sampler_arg", argument, "Write a share of all events, from 0 to 1: 0.01")
    return parent_based, ratio


def _headers(options: Mapping[str, str], environment: Mapping[str, str]) -> str:
    said = options.get("headers", "")
    if said:
        if not said.startswith(("env:", "file:")):
            raise TraceOptionError("headers", "******", "It may be a secret: write env:NAME or file:/path")
        return said
    return next((f"env:{name}" for name in _HEADERS if environment.get(name)), "")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    small = value.strip().lower()
    if small not in allowed:
        raise TraceOptionError(option, value, f"It is one of: {', '.join(allowed)}")
    return small


def _pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, with percent-encoded values."""
    return pairs_of(text, "resource")


def pairs_of(text: str, option: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded, as OpenTelemetry's variables have them.

    Raises:
        TraceOptionError: It has another form.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise TraceOptionError(option, "******" if option == "headers" else part, "Write name=value,name=value")
        pairs[name.strip()] = unquote(value.strip())
    return pairs


def _first(environment: Mapping[str, str], names: Iterable[str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")
