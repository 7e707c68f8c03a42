"""`keys`: made for callers of the gateway, listed, taken back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from headrace.actors.access_keys import AccessKey, create_key, list_keys, revoke_key
from headrace.actors.rates import Rate
from headrace.actors.store_registry import Registry
from headrace.cli import overview
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.times import ago, duration, length
from headrace.settings import Loaded
from headrace.workflows.tenants import is_tenant

T = TypeVar("T")
_LONGEST_NAME: Final = 100
_SCOPES: Final = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Order:
    """A key that is wanted."""

    name: str
    tenant: str
    scopes: Sequence[str]
    workflows: Sequence[str]
    """Empty: all."""
    expires: str | None
    rate: str

    @property
    def rights(self) -> list[str]:
        """Scopes as keys have them: `read`, or `read:orders`."""
        if not self.workflows:
            return list(dict.fromkeys(self.scopes))
        return list(dict.fromkeys(f"{scope}:{workflow}" for workflow in self.workflows for scope in self.scopes))

    def lifetime(self) -> float | None:
        """Seconds that it counts; None: for ever.

        Raises:
            UsageError: Something that was typed can't be.
        """
        if not self.name.strip() or len(self.name) > _LONGEST_NAME or not self.name.isprintable():
            raise UsageError(f"A key's name has 1 to {_LONGEST_NAME} characters, all of which can be printed.")
        if not is_tenant(self.tenant):
            raise UsageError(f"{self.tenant!r} is no name of a tenant: a-z 0-9 _ -, at most 63.")
        wrong = [scope for scope in self.scopes if scope not in _SCOPES]
        if wrong:
            raise UsageError(f"There is no scope {wrong[0]!r}. There are: {', '.join(_SCOPES)}")
        try:
            Rate.parse(self.rate or "1/s")
        except ValueError as error:
            raise UsageError(f"--rate: {error}") from None
        if self.expires is None:
            return None
        seconds = length(self.expires).total_seconds()
        if seconds <= 0:
            raise UsageError("--expires: it would have expired already.")
        return seconds


def create(order: Order, loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Make a key, and show it: this once.

    Raises:
        UsageError: Something that was typed can't be.
        HeadraceError: See `Registry`.
    """
    lifetime = order.lifetime()

    async def work(registry: Registry) -> tuple[AccessKey, str]:
        return await create_key(
            registry, order.name, order.tenant, order.rights, lifetime=lifetime, rate=order.rate
        )  # fmt: skip

    key, text = _with(loaded, "keys create", work)
    if as_json:
        screen.json({**_row(key), "key": text})
        return ExitCode.OK
    until = "never expires" if lifetime is None else f"expires in {duration(lifetime)}"
    screen.say(f"Key {key.id} for {key.name}, tenant {key.tenant}: {', '.join(key.scopes)}; {until}.")
    screen.say("It is shown this once, and kept nowhere:", "dim")
    screen.raw(text)
    return ExitCode.OK


def show_list(loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Print what is known of all keys.

    Raises:
        HeadraceError: See `Registry`.
    """
    keys = _with(loaded, "keys list", list_keys)
    if as_json:
        screen.json([_row(key) for key in keys])
        return ExitCode.OK
    if not keys:
        screen.say("There are no keys. Make one: headrace keys create NAME")
        return ExitCode.OK
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "name", "tenant", "scopes", "rate", "made", "expires"):
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for key in keys:
        over = key.is_over(time.time())
        row = (key.id, key.name, key.tenant, ", ".join(key.scopes), key.rate, ago(key.created), _expiry(key))
        table.add_row(*map(Text, row), style="dim" if over else "")
    screen.show(table)
    return ExitCode.OK


def revoke(id_: str, loaded: Loaded, screen: Screen) -> ExitCode:
    """Take a key back.

    Raises:
        NothingRuns: There is none of that id.
        HeadraceError: See `Registry`.
    """

    async def work(registry: Registry) -> bool:
        return await revoke_key(registry, id_)

    if not _with(loaded, "keys revoke", work):
        raise NothingRuns("There is no key with this id. There are: headrace keys list")
    screen.say(f"Key {id_} is revoked: gateways take it for some more seconds (gateway.credentials_seconds).")
    return ExitCode.OK


def _with(loaded: Loaded, verb: str, work: Callable[[Registry], Awaitable[T]]) -> T:
    url = overview.urls_of(None, loaded, Project(Path.cwd()), verb)[0]

    async def connected() -> T:
        async with Registry(url, connections=2) as registry:
            return await work(registry)

    return asyncio.run(connected())


def _row(key: AccessKey) -> dict[str, object]:
    row = msgspec.structs.asdict(key)
    del row["digest"]
    return row


def _expiry(key: AccessKey) -> str:
    if key.expires is None:
        return "never"
    left = key.expires / 1000 - time.time()
    return f"in {duration(left)}" if left > 0 else "expired"
