"""Requests and messages that come in through the gateway: what users write."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic

from typing_extensions import TypeVar

from headrace.workflows.ports import Source

D = TypeVar("D")
INBOX_KINDS: Final = ("requests", "messages")
"""Kinds of the sources here: their events lie in the inbox."""


@dataclass(frozen=True, eq=False)
class RequestSource(Source[D], Generic[D]):
    """Requests to the gateway: each is an event, and `ctx.reply` answers its caller."""

    type: builtins.type[D]
    key: str | Callable[[D], str] | None = field(default=None, kw_only=True)
    """Field or function of the data; None: the key in the request's address, or one made for it."""
    reply: builtins.type[Any] | None = field(default=None, kw_only=True)
    """What nodes reply with, for the published interface."""
    name: str = field(default="requests", kw_only=True)

    kind: ClassVar[str] = "requests"
    feeder: ClassVar[str] = "headrace.sources.streams:make_readers"
    urgent: ClassVar[bool] = True
    brings_keys: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class MessageSource(Source[D], Generic[D]):
    """Messages to a run by name, for a wait to receive: by `ctx.send`, or `headrace runs send`.

    A message goes to a run that is there; it is kept until the run gets to a wait on this source.
    """

    name: str
    type: builtins.type[D]
    key: str | Callable[[D], str] | None = field(default=None, init=False)

    kind: ClassVar[str] = "messages"
    feeder: ClassVar[str] = "headrace.sources.streams:make_readers"
    urgent: ClassVar[bool] = True
    brings_keys: ClassVar[bool] = True
