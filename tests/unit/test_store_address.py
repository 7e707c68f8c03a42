"""Addresses of stores: what each form means, what is refused, and that secrets stay out of what is shown."""

from __future__ import annotations

import pytest

from headrace.sources.references import ReferenceUnresolved
from headrace.sources.store_address import StoreAddress, StoreAddressError, Tls, address_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6380/3", "localhost:6380/3"),
        ("redis://", "localhost:6379/0"),
        ("redis://[::1]:6380", "::1:6380/0"),
        ("unix:///run/valkey.sock?db=2", "unix:/run/valkey.sock"),
        ("redis+sentinel://a,b:26380/orders/1", "orders of Sentinels a:26379,b:26380/1"),
        ("rediss+cluster://a:7000,b:7001", "cluster a:7000,b:7001"),
    ],
)
def test_each_form_is_understood(url: str, shown: str) -> None:
    assert StoreAddress.parse(url).shown == shown


def test_user_password_and_certificates() -> None:
    url = "rediss://us%40er:pass%2Fword@host/0?ca=/ca.pem&cert=/c.pem&key=/c.key&check_hostname=no"

    address = StoreAddress.parse(url)

    assert (address.login.username, address.login.password) == ("us@er", "pass/word")
    assert address.tls == Tls("/ca.pem", "/c.pem", "/c.key", check_hostname=False)
    assert "pass" not in repr(address) + address.shown


@pytest.mark.parametrize(
    "url",
    ["redis://user:env:SECRET@host", "redis://user@host?password=env:SECRET", "redis://host?username=user&password=env:SECRET"],
)  # fmt: skip
def test_a_password_may_say_where_it_lies(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = StoreAddress.parse(url).login.provider
    assert provider is not None

    for secret in ("one", "renewed"):
        monkeypatch.setenv("SECRET", secret)
        assert provider.get_credentials() == ("user", secret)


def test_the_whole_address_may_say_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReferenceUnresolved, match="STORE"):
        StoreAddress.parse("env:STORE")
    assert address_of("env:STORE") == "env:STORE"

    monkeypatch.setenv("STORE", "redis://user:secret@host:1/0")

    assert StoreAddress.parse("env:STORE").login.password == "secret"
    assert address_of("env:STORE") == "host:1/0"


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("localhost:6379", "begins with none"),
        ("http://localhost", "begins with none"),
        ("redis://host:port", "HOST:PORT"),
        ("redis://host/zero", "no number"),
        ("redis://host/0/1", "too many parts"),
        ("redis+sentinel://host", "which service"),
        ("redis+cluster://host/1", "no databases"),
        ("redis://host?ca=/ca.pem", "rediss://"),
        ("rediss://host?cert=/c.pem", "go together"),
        ("rediss://host?insecure=yes", "'insecure'"),
        ("rediss://host?check_hostname=maybe", "yes or no"),
        ("redis://user:pass/w0rd@host", "no number"),
        ("redis://user:pass?w0rd=1@host", "malformed"),
        ("redis://user:pass#w0rd@host", "malformed"),
    ],
)
def test_what_is_no_address_is_refused_without_telling_its_secrets(url: str, cause: str) -> None:
    with pytest.raises(StoreAddressError, match=cause) as refused:
        StoreAddress.parse(url)

    assert "w0rd" not in str(refused.value)
