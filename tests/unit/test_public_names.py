"""What `import headrace` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import headrace

HEAVY = ["ray", "aiokafka", "redis", "fastapi", "uvicorn", "structlog", "typer", "rich"]


def test_importing_the_package_is_light() -> None:
    code = f"import sys, headrace; print([name for name in {HEAVY} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", headrace.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    found = getattr(headrace, name)

    assert found.__doc__


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = headrace.Nothing
