"""Whose run a key is: no caller reaches another tenant's, whatever they write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.workflows.tenants import is_reserved, is_tenant, key_for, key_within, shown_key, tenant_of

TENANTS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
KEYS = st.text(min_size=1).filter(lambda key: not is_reserved(key))
"""What callers can choose."""


@given(TENANTS, KEYS, TENANTS, KEYS)
def test_runs_of_different_tenants_never_have_the_same_key(one: str, key: str, other: str, others_key: str) -> None:
    assert (key_for(one, key) == key_for(other, others_key)) == ((one, key) == (other, others_key))


@given(TENANTS, KEYS)
def test_a_key_tells_whose_it_is_and_what_they_call_it(tenant: str, key: str) -> None:
    assert (tenant_of(key_for(tenant, key)), shown_key(key_for(tenant, key))) == (tenant, key)


@given(KEYS)
def test_keys_of_the_default_tenant_are_as_they_are(key: str) -> None:
    assert key_for("default", key) == key


@pytest.mark.parametrize("key", ["tenant:", "tenant:x", "tenant::x", "tenant:A:x", "tenant:default:x"])
def test_what_only_looks_like_a_tenants_is_nobodys(key: str) -> None:
    assert tenant_of(key) == ""


@pytest.mark.parametrize("name", ["", "a:b", "A", "-a", "a" * 64, "a/b", "a\n"])
def test_names_that_no_tenant_can_have(name: str) -> None:
    assert not is_tenant(name)


def test_the_data_of_a_request_name_a_run_of_the_tenant_that_it_came_from() -> None:
    assert key_within(b"tenant:acme:", "4711") == "tenant:acme:4711"
    assert key_within(b"4711", "4711") == "4711"
    with pytest.raises(ValueError, match="no caller can choose"):
        key_within(b"4711", "tenant:acme:4711")
