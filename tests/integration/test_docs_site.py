"""The documentation builds as a site that shows everything without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from documents import ROOT
from headrace.explanations import explanations

FETCHED = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']https?://[^"']+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": "tools", "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))

    assert len(pages) > 100
    assert [page.name for page in pages if FETCHED.search(page.read_text())] == []


def test_diagrams_are_pictures(site: Path) -> None:
    page = (site / "explanation" / "architecture.html").read_text()
    fences = (ROOT / "docs" / "explanation" / "architecture.md").read_text().count("```mermaid")

    assert page.count('<figure class="mermaid"><svg') == fences > 0
    assert "owns partitions" in page


def test_every_code_has_a_page(site: Path) -> None:
    missing = [row.code for row in explanations() if not (site / "errors" / row.kind / f"{row.code}.html").exists()]

    assert missing == []


def test_public_names_are_in_the_reference(site: Path) -> None:
    page = (site / "api.html").read_text()

    assert 'id="headrace.Workflow.node"' in page
    assert "on_gap" in page
