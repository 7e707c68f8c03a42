"""What callbacks go by: which addresses may be called, when one is tried again, and how it is signed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from headrace.gateway.callback_rules import FAILURES, FIRST_REST, LONGEST_PAUSE, Receivers, pause_before
from headrace.gateway.callback_targets import TargetRefused, TargetRules, networks_of
from headrace.gateway.settings import GatewayOptionError, gateway_settings
from headrace.sources.standard_webhooks import retry_after, secrets_of, signed_headers
from hooks import OTHER_SECRET, SECRET

HIDDEN = [
    "127.0.0.1", "127.255.0.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip
PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


def rules(*answers: str, networks: str = "", plain: bool = False) -> TargetRules:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return answers

    return TargetRules(networks_of(networks), plain=plain, resolver=resolver)


@pytest.mark.parametrize("address", HIDDEN)
def test_what_only_this_host_can_reach_is_not_called(address: str) -> None:
    with pytest.raises(TargetRefused, match="not public"):
        asyncio.run(rules(address).check("https://shop.example/"))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_everybody_reaches_may_be_called(address: str) -> None:
    assert asyncio.run(rules(address).check("https://shop.example/")).name == "shop.example:443"


def test_one_address_of_a_name_that_is_not_public_is_enough_to_refuse_it() -> None:
    with pytest.raises(TargetRefused, match=r"10\.0\.0\.1"):
        asyncio.run(rules("93.184.215.14", "10.0.0.1").check("https://shop.example/"))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_the_operator_may_allow_networks_however_their_addresses_are_written(address: str) -> None:
    allowed = rules(address, networks="10.0.0.0/8, fd00::/8")

    assert asyncio.run(allowed.check("https://shop.example:8443/")).port == 8443


@given(st.integers(0, 2**32 - 1))
def test_any_ipv4_address_is_taken_alike_in_whatever_it_is_wrapped(number: int) -> None:
    bare = rules().is_allowed(ipaddress.IPv4Address(number))
    wrapped = (0xFFFF << 32 | number, 0x64_FF9B << 96 | number, 0x2002 << 112 | number << 80)

    assert [rules().is_allowed(ipaddress.IPv6Address(each)) for each in wrapped] == [bare] * 3


@pytest.mark.parametrize(
    "url",
    ["http://shop.example/", "ftp://shop.example/", "shop.example", "https://", "https:///path", "https://u@h.example/",
     "https://u:p@h.example/", "https://h.example:0/", "https://h.example:99999/", "https://[::1", "https://ü.example/",
     "https://h.example/a b", "https://h.example\\@evil.example/", "https://h.example/" + "x" * 3000],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        asyncio.run(rules("93.184.215.14").check(url))


@pytest.mark.parametrize(("error", "refused"), [(socket.EAI_AGAIN, False), (socket.EAI_NONAME, True)])
def test_a_name_that_does_not_exist_is_refused_but_not_for_a_resolver_that_is_away(error: int, refused: bool) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(error, "no")

    check = TargetRules(resolver=resolver).check("https://shop.example/")
    if refused:
        with pytest.raises(TargetRefused, match="resolved"):
            asyncio.run(check)
    else:
        assert asyncio.run(check).host == "shop.example"


@given(st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_any_pause_is_longer_than_the_one_before_until_they_are_hours(tries: int, one: float, other: float) -> None:
    before, after = pause_before(tries, 5.0, lambda: one), pause_before(tries + 1, 5.0, lambda: other)

    assert after > before or after >= LONGEST_PAUSE / 2
    assert after <= LONGEST_PAUSE


def test_a_receiver_gets_the_time_that_it_asks_for_but_not_for_ever() -> None:
    assert pause_before(1, 5.0, lambda: 0.0, asked=600) == 600
    assert pause_before(1, 5.0, lambda: 0.0, asked=1e9) == 86_400
    assert pause_before(1, 5.0, lambda: 0.0, asked=0) == 2.5


def test_a_receiver_says_how_long_in_seconds_or_by_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True).encode()

    assert retry_after(b"120") == 120
    assert 290 < (retry_after(date) or 0) <= 300
    assert (retry_after(b"soon"), retry_after(None)) == (None, None)


def test_a_receiver_that_fails_again_and_again_is_left_alone_and_tried_by_one_call_first() -> None:
    receivers = Receivers(4)
    for _ in range(FAILURES):
        assert receivers.enter("shop", 0.0) == 0
        receivers.leave("shop", 0.0, well=False)

    assert receivers.enter("shop", 1.0) == FIRST_REST - 1
    assert receivers.enter("other", 1.0) == 0
    assert receivers.enter("shop", FIRST_REST) == 0
    assert receivers.enter("shop", FIRST_REST) > 0  # until the one call says that it is well
    receivers.leave("shop", FIRST_REST, well=False)
    assert receivers.enter("shop", FIRST_REST + 1) == 2 * FIRST_REST - 1
    assert receivers.enter("shop", 3 * FIRST_REST) == 0
    receivers.leave("shop", 3 * FIRST_REST, well=True)
    assert [receivers.enter("shop", 3 * FIRST_REST) for _ in range(5)] == [0, 0, 0, 0, 1.0]


def test_each_secret_signs_so_that_receivers_with_either_take_it() -> None:
    body = b'{"type":"run.completed"}'
    headers = signed_headers(secrets_of(f"{OTHER_SECRET}, {SECRET}"), "msg_1", int(datetime.now(UTC).timestamp()), body)

    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(body, headers) == {"type": "run.completed"}


@pytest.mark.parametrize("secret", ["abc", "whsec_!!", "whsec_c2hvcnQ="])
def test_what_is_no_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(GatewayOptionError, match="secret 1") as caught:
        gateway_settings({"callback_secrets": secret})

    assert secret not in str(caught.value)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(GatewayOptionError, match="callback_networks"):
        gateway_settings({"callback_networks": "10.0.0.0/99"})
