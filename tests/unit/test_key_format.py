"""The format of a workflow's keys: what is refused, and what is said."""

from __future__ import annotations

import pickle

import pytest

from headrace.workflows.key_format import KEY_FORMAT, KeyFormatUnknown, RestoreUnfinished, check_format


def test_keys_from_before_there_was_a_number_are_of_the_first_format() -> None:
    assert KEY_FORMAT == 1
    check_format("orders", None)
    check_format("orders", b'{"format":1,"headrace":"0.1.0"}')


def test_a_newer_format_is_refused_with_the_version_to_use() -> None:
    with pytest.raises(
        KeyFormatUnknown, match=r"format 2; this Headrace knows format 1.*Use Headrace 3\.1\.0 or newer"
    ):
        check_format("orders", b'{"format":2,"headrace":"3.1.0","something":"new"}')


def test_an_older_format_is_refused_with_the_version_to_use() -> None:
    with pytest.raises(KeyFormatUnknown, match=r"Use Headrace 0\.0\.1\. Nothing"):
        check_format("orders", b'{"format":0,"headrace":"0.0.1"}')


def test_keys_that_are_not_all_there_are_refused() -> None:
    with pytest.raises(RestoreUnfinished, match=r"being restored by ada.*headrace restore"):
        check_format("orders", b'{"format":1,"restoring":"ada"}')


@pytest.mark.parametrize("error", [KeyFormatUnknown("orders", 2, "3.1.0"), RestoreUnfinished("orders", "ada")])
def test_its_errors_survive_pickling(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
