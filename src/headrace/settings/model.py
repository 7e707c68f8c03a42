"""The settings themselves, and what their paths are.

A *path* names one value: `("workers",)`, `("kafka", "security_protocol")`, `("clusters", "eu", "bootstrap_servers")`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

Durability: TypeAlias = Literal["fast", "fsync", "replicas", "replicas:2", "replicas:3", "replicas:4", "replicas:5"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["auto", "console", "json"]
Scalar: TypeAlias = str | int | float | bool
Path: TypeAlias = tuple[str, ...]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]

BOOTSTRAP: Final = "bootstrap_servers"
"""The option of a Kafka cluster that a plain string stands for: `kafka = "localhost:9092"`."""
PLAIN: Final = {"kafka": BOOTSTRAP, "clusters": BOOTSTRAP, "traces": "endpoint"}
"""Table -> the option that a plain string in its place stands for."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow is run with. Every field is a key of `headrace.toml`, and `HEADRACE_<KEY>` in the environment."""

    redis_url: str = ""
    """Store: `redis://host:6379/0`, `rediss://` by TLS, `redis+sentinel://`, `redis+cluster://`; see `StoreAddress`.
    May be a reference, as may be the password in it."""
    kafka: dict[str, str] = {}
    """Kafka cluster of sources and sinks that name none: `bootstrap_servers`, and any option of the client
    (`security_protocol`, `sasl_mechanism`, ...). A plain string is `bootstrap_servers`."""
    clusters: dict[str, dict[str, str]] = {}
    """Further Kafka clusters, by the name that sources and sinks use: `KafkaSource(..., cluster="eu")`."""
    durability: Durability | None = None
    """When a commit counts: `fast` (at once), `fsync` (on disk), `replicas` (at one replica), `replicas:2`.
    By default the verb's: `dev` takes `fast`; `run` takes `fsync` where the store can, else `fast`."""
    workers: _Count = 1
    """Processes that own partitions."""
    partitions: _Count | None = None
    """Shares of the key space. By default the workflow's, else those of its topics; kept from the first start on."""
    fuse: Literal["all"] | None = None
    """`all`: run all nodes inside the workers."""
    log_level: Level = "warning"
    """Log lines from this level on."""
    log_format: Format = "auto"
    """`auto`: for people on a terminal, else JSON."""
    ray_address: str = ""
    """Ray cluster to deploy to: `ray://host:10001`, or `host:6379` on a machine of the cluster."""
    traces: dict[str, str] = {}
    """Traces by OpenTelemetry: `endpoint`, and what else there is to say; see docs/how-to/trace.md. A plain string is
    `endpoint`. What is not said is taken from OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...)."""
    gateway: dict[str, Scalar] = {}
    """What `headrace serve` goes by: `host`, `port`, `processes`, limits; see docs/how-to/serve.md."""
    settings: dict[str, Scalar] = {}
    """For the nodes of the workflow: text, numbers, true or false, by name."""


_HINTS: Final = get_type_hints(Settings, include_extras=True)
FIELDS: Final = tuple(_HINTS)
"""Names of all settings, in their order."""


def depth_of(field: str) -> int:
    """How many names follow a field in a path: 0 for a single value, 1 for a table, 2 for a table of tables."""
    depth, type_ = 0, _HINTS[field]
    while get_origin(type_) is dict:
        depth, type_ = depth + 1, get_args(type_)[1]
    return depth


def type_at(path: Path) -> Any:
    """The type of the value that a path names."""
    type_ = _HINTS[path[0]]
    for _ in path[1:]:
        type_ = get_args(type_)[1]
    return type_


def dotted(path: Path) -> str:
    """A path as people write it: `kafka.security_protocol`."""
    return ".".join(path)
