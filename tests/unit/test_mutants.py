"""The random graphs are worth what they find: each planted mistake must be found by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant, survives


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_found(mutant: Mutant, tmp_path: Path) -> None:
    assert survives(mutant, tmp_path) is None, f"no random graph showed that {mutant.name}"
