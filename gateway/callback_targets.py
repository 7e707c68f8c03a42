"""Which addresses may be called: what a caller names must not reach what only this host can reach.

An address is looked at when it comes, and once more when a connection is made: names are resolved here, every address
that a name has must be public, and the connection goes to the one that was looked at. So it doesn't help to have the
name mean something else a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from headrace.workflows.callback_address import Target, shortened, target_of
from headrace.workflows.errors import HeadraceError

RESOLVE_WITHIN: Final = 5.0
"""Seconds."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
_HIDDEN: Final = tuple(map(ipaddress.ip_network, (
    "168.63.129.16/32",  # what Azure's machines ask for their settings
    "192.0.0.0/24", "192.88.99.0/24", "3fff::/20",  # RFC 6890, 7526, 9637
)))  # fmt: skip
"""Not for everybody, whatever Python's tables say."""
_ISATAP: Final = (0x5EFE, 0x0200_5EFE)
"""RFC 5214: what stands before an IPv4 address in the second half of an IPv6 address that leads to it."""
_COMPATIBLE: Final = ipaddress.ip_network("::/96")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to addresses; raises `OSError` where there are none."""


class TargetRefused(HeadraceError):
    """An address may not be called.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}. Give an https address that is reachable for everybody.")
        self.reason = reason


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this host's resolver has them."""
    async with asyncio.timeout(RESOLVE_WITHIN):
        rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class TargetRules:
    """What may be called.

    Args:
        networks: Addresses that may be called though they are not public.
        plain: Whether `http` will do.
        resolver: Finds the addresses of names.
    """

    def __init__(self, networks: Sequence[Network] = (), *, plain: bool = False, resolver: Resolver = resolve) -> None:
        self._networks = tuple(networks)
        self._plain = plain
        self._resolver = resolver

    def target(self, url: str) -> Target:
        """Where an address leads, by how it is written.

        Raises:
            TargetRefused: It can't be called, or may not.
        """
        try:
            target = target_of(url)
        except ValueError as error:
            raise TargetRefused(str(error)) from None
        if target.scheme == "http" and not self._plain:
            raise TargetRefused(f"{shortened(url)} does not begin with https://")
        return target

    async def check(self, url: str) -> Target:
        """Where an address leads, if all that its name means now may be called.

        Raises:
            TargetRefused: It can't be called, or may not.
        """
        target = self.target(url)
        try:
            await self.addresses(target.host, target.port)
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError) or getattr(error, "errno", None) == socket.EAI_AGAIN:
                return target  # it is asked again when it is called
            raise TargetRefused(f"{shortened(target.host)} can't be resolved ({error})") from None
        return target

    async def addresses(self, host: str, port: int) -> list[str]:
        """What a name means now.

        Raises:
            TargetRefused: Some of it may not be called.
            OSError, TimeoutError: It can't be resolved, or not now.
        """
        found = list(await self._resolver(host, port))
        if not found:
            raise OSError(f"{host} has no address")
        for text in found:
            if not self.is_allowed(ipaddress.ip_address(text)):
                raise TargetRefused(f"{shortened(host)} means {text}, which is not public")
        return found

    def is_allowed(self, address: Address) -> bool:
        """Whether this address may be called."""
        inner = embedded(address)
        if inner is not None:
            return self.is_allowed(inner)
        return is_public(address) or any(address in network for network in self._networks)


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, 6to4, Teredo, ISATAP, or by NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    is_own = int(address) in (0, 1)  # unspecified, loopback
    if address in _NAT64 or (address in _COMPATIBLE and not is_own):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_public(address: Address) -> bool:
    """Whether everybody reaches it, so that calling it gives nothing away.

    Examples:
        >>> is_public(ipaddress.ip_address("169.254.169.254"))
        False
    """
    if isinstance(address, ipaddress.IPv6Address) and (
        address.is_site_local or address.scope_id is not None or address in _LOCAL_NAT64
    ):
        return False
    if any(address in network for network in _HIDDEN):
        return False
    hidden = (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified
    )  # fmt: skip
    return address.is_global and not hidden


def networks_of(text: str) -> list[Network]:
    """Networks from a setting: `10.0.0.0/8, fd00::/8`.

    Raises:
        ValueError: One of them is none.
    """
    return [ipaddress.ip_network(part) for part in text.replace(",", " ").split()]
