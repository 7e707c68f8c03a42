"""Tests are worth what they find: each planted mistake is found by the test that is named with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted import PLANTED, Planted, copied, is_found

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_where_nothing_is_planted_nothing_is_found(tmp_path: Path) -> None:
    copied(tmp_path, None)

    assert not is_found(tmp_path, {planted.test for planted in PLANTED})


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_mistake_is_found_by_its_test(planted: Planted, tmp_path: Path) -> None:
    copied(tmp_path, planted)

    assert is_found(tmp_path, [planted.test]), f"{planted.test} does not see that {planted.name}"
