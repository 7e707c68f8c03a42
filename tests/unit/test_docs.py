"""What the documents show works as it stands there, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from documents import ROOT, blocks_of, documents, follow

LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


WITH_FILES = [document for document in documents() if any(block.title for block in blocks_of(document))]


@pytest.mark.parametrize("document", WITH_FILES, ids=name_of)
def test_files_and_commands_of_a_document_work(document: Path, tmp_path: Path) -> None:
    follow(document, tmp_path)


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_python_is_python(document: Path) -> None:
    for block in blocks_of(document):
        if block.language == "python":
            ast.parse(block.text)


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_links_lead_to_files(document: Path) -> None:
    targets = [document.parent / link for link in LINK.findall(document.read_text())]

    assert [str(target) for target in targets if not target.exists()] == []


def test_every_document_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs" / "README.md"
    linked = {(contents.parent / link).resolve() for link in LINK.findall(contents.read_text())}

    missing = [name_of(document) for document in documents()[1:] if document != contents and document not in linked]
    assert missing == []
