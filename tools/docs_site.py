"""Hooks of the documentation site: its table of contents, pages of error codes, and diagrams as pictures.

Contents come from `docs/README.md`, so that there is one list; the pages of codes from the tables that
`headrace explain` prints; diagrams are drawn while the site is built, so that a reader's browser fetches nothing.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import mermaidx
from mkdocs.structure.files import File

from headrace.explanations import KINDS, Explanation, explanations

sys.modules.setdefault("docs_site", sys.modules[__name__])  # MkDocs loads hooks under a name of its own

ROOT: Final = Path(__file__).parents[1]
_SECTION: Final = re.compile(r"^(?:\*\*(.+)\*\*|## (.+))$")
_LINK: Final = re.compile(r"^- \[(.+)\]\((.+\.md)\)")
_FOLDER: Final = {
    "errors": "Errors",
    "build": "Mistakes in workflows",
    "problems": "Problems",
    "dead_letters": "Dead letters",
}


def on_config(config: Any) -> Any:
    """The table of contents, from the page that people read on a forge."""
    nav: list[Any] = [{"Overview": "README.md"}]
    for line in (ROOT / "docs" / "README.md").read_text(encoding="utf-8").splitlines():
        section, link = _SECTION.match(line), _LINK.match(line)
        if section:
            nav.append({section.group(1) or section.group(2): []})
        elif link and isinstance(nav[-1], dict):
            (pages,) = nav[-1].values()
            if isinstance(pages, list):
                pages.append({link.group(1)[0].upper() + link.group(1)[1:].replace("`", ""): link.group(2)})
    pages = [{_FOLDER[kind]: [{row.code: _path(row)} for row in explanations() if row.kind == kind]} for kind in KINDS]
    config.nav = [*nav, {"Codes": ["errors/index.md", *pages]}, {"API": "api.md"}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Pages that are made here: one for each code, a list of them, and the public names."""
    for row in explanations():
        files.append(File.generated(config, _path(row), content=row.markdown))
    lines = ["# Codes of errors and problems", "", "The command says the same: `headrace explain CODE`.", ""]
    for kind, name in KINDS.items():
        lines += [f"## {_FOLDER[kind]}", "", f"Each is {'an' if name[0] in 'aeiou' else 'a'} {name}.", ""]
        lines += [f"- [`{row.code}`]({kind}/{row.code}.md) {row.means}" for row in explanations() if row.kind == kind]
        lines.append("")
    files.append(File.generated(config, "errors/index.md", content="\n".join(lines)))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that lead out of the documentation, into the repository, become plain text."""
    del config, files
    depth = page.file.src_uri.count("/")
    return re.sub(rf"\[([^\]]+)\]\((?:\.\./){{{depth + 1}}}[^)]*\)", r"\1", markdown)


@lru_cache(maxsize=64)
def _drawn(source: str) -> str:
    svg: str = mermaidx.render(source).svg()
    return svg


def diagram(source: str, language: str, css_class: str, options: Any, md: Any, **_: Any) -> str:
    """A Mermaid fence, as a picture in the page."""
    del language, options, md
    return f'<figure class="{css_class}">{_drawn(source)}</figure>'


def _path(row: Explanation) -> str:
    return f"errors/{row.kind}/{row.code}.md"


def _api() -> str:
    import headrace  # noqa: PLC0415  the hooks are read before the site's settings are

    parts = ["# API", "", "Everything that users import from `headrace`.", ""]
    parts += [f"::: headrace.{name}\n" for name in headrace.__all__]
    parts += ["# Test kit", "", "::: headrace.testing.Harness\n"]
    return "\n".join(parts)
