"""A signed call to somebody's URL as a sink: what users write (later release)."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import ClassVar, Generic

from typing_extensions import TypeVar

from headrace.workflows.ports import Sink

D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class WebhookSink(Sink[D], Generic[D]):
    """Data are sent to a URL, by the rules of Standard Webhooks."""

    type: builtins.type[D]
    url: str | None = field(default=None, kw_only=True)
    """None: the callback address that came with the run."""
    name: str = field(default="webhook", kw_only=True)

    kind: ClassVar[str] = "webhook"
    available: ClassVar[bool] = False
