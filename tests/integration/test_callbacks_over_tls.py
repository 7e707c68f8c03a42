"""Receivers over HTTPS: by certificates of a name, at the address that was looked at."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from headrace.gateway.callback_http import CallbackClient, trusting
from headrace.gateway.callback_targets import TargetRules, networks_of
from headrace.gateway.settings import GatewayOptionError, gateway_settings
from hooks import Hooks


class Authority:
    """Signs certificates, and lets servers say which names they were asked for."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)
        self.names: list[str | None] = []

    def server(self, name: str) -> ssl.SSLContext:
        """With a certificate for this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)
        context.sni_callback = lambda _, asked, __: self.names.append(asked)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def client(trusted: ssl.SSLContext) -> CallbackClient:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    return CallbackClient(TargetRules(networks_of("127.0.0.0/8"), resolver=resolver), within=10, trusted=trusted)


async def test_a_receiver_is_asked_for_its_name_at_the_address_that_was_looked_at(authority: Authority) -> None:
    with Hooks(tls=authority.server("shop.example")) as hooks:
        calling = client(trusting(str(authority.path)))
        called = await calling.post(hooks.url.replace("127.0.0.1", "shop.example"), {}, b"{}")
        await calling.close()

    assert (called.status, called.error) == (204, "")
    assert authority.names == ["shop.example"]
    assert hooks.told[0].headers["host"].startswith("shop.example:")


@pytest.mark.parametrize(("name", "why"), [("other.example", "other.example"), ("127.0.0.1", "127.0.0.1")])
async def test_a_certificate_for_another_name_is_no_receiver_and_may_be_by_the_next_try(
    authority: Authority, name: str, why: str
) -> None:
    with Hooks(tls=authority.server("shop.example")) as hooks:
        calling = client(trusting(str(authority.path)))
        called = await calling.post(hooks.url.replace("127.0.0.1", name), {}, b"{}")
        await calling.close()

    assert (called.status, called.refused) == (0, False)
    assert "certificate" in called.error.lower()
    assert why in called.error
    assert hooks.told == []


async def test_a_certificate_that_nobody_trusted_has_signed_is_no_receiver(authority: Authority) -> None:
    with Hooks(tls=authority.server("shop.example")) as hooks:
        calling = client(trusting())
        called = await calling.post(hooks.url.replace("127.0.0.1", "shop.example"), {}, b"{}")
        await calling.close()

    assert (called.status, called.refused) == (0, False)
    assert "certificate verify failed" in called.error
    assert hooks.told == []


def test_certificates_that_can_t_be_read_are_said_as_the_gateway_starts(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("none.pem", "empty.pem"):
        with pytest.raises(GatewayOptionError, match="callback_authorities"):
            gateway_settings({"callback_authorities": str(tmp_path / name)})
