"""Hooks of MkDocs: pages from outside docs/, and what is generated when the site is built.

A page in docs/ holds a mark where something generated stands, and reads well without it in the repository:

- `<!-- include -->[words](../BENCHMARKS.md#loader)`: the section below that heading, in place of the link;
- `<!-- verbs -->`: all verbs of the command line with their options, from its parser;
- `<!-- messages: name -->`: the messages of that entry, from the source.
"""

from __future__ import annotations

import html as html_text
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import site_links
import site_messages
import site_notebooks
import site_pictures
import site_verbs
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

INCLUDE = re.compile(r"<!-- include -->\[[^\]]*\]\((?P<path>[^)#]+)#(?P<anchor>[^)]+)\)")
LISTS = re.compile(r"(?m)^(?!\s|[-*>|#]|\d+\. |<!--)(.+)\n(?=(?:[-*]|\d+\.) )")
SOURCES: dict[str, str] = {}  # path in the repository of each page of the site


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    SOURCES.clear()
    for file in files.documentation_pages():
        SOURCES[file.src_uri] = f"docs/{file.src_uri}"
    for path, page in site_links.OUTSIDE.items():
        SOURCES[page] = path
        files.append(File.generated(config, page, content=read(path)))
    for notebook in sorted((site_links.DOCS / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        SOURCES[page] = f"docs/{page}"
        files.append(File.generated(config, page, content=site_notebooks.as_markdown(notebook)))
    shown: set[str] = set()
    for page, path in SOURCES.items():
        text = files.src_uris[page].content_string
        try:
            shown |= site_links.linked_files(path, with_sections(path, text))
        except site_links.DeadLink as error:
            raise PluginError(str(error)) from None
    for path in sorted(shown):
        files.append(File.generated(config, f"repository/{path}.md", content=site_links.code_page(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the marks of a page, and make its links those of the site."""
    path = SOURCES.get(page.file.src_uri)
    if path is None:  # a file of the repository, shown as it is
        return markdown
    try:
        text = with_sections(path, markdown)
        text = text.replace("<!-- verbs -->", site_verbs.all_verbs())
        text = site_pictures.with_pictures(site_messages.with_messages(text))
        text = site_links.site_links(path, text)
    except (site_links.DeadLink, site_messages.Unknown) as error:
        raise PluginError(str(error)) from None
    return "".join(as_here(part) if prose else part for prose, part in site_links.outside_fences(text))


def on_page_content(html: str, **_: Any) -> str:
    """Formulas become MathML, which browsers show without a script."""
    block = re.compile(
        r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
    )

    def drawn(found: re.Match[str]) -> str:
        display = found["tag"] == "div"
        formula = convert(html_text.unescape(found["tex"]), display="block" if display else "inline")
        return f'<div class="formula">{formula}</div>' if display else formula

    return block.sub(drawn, html)


def with_sections(path: str, text: str) -> str:
    """A page with the sections that it includes; their links are made relative to the page."""

    def text_of(found: re.Match[str]) -> str:
        source = site_links.repository_path(path, found["path"])
        prefix = found["path"].rpartition("/")[0]
        body = site_links.section(source, found["anchor"])
        return re.sub(r"(?<=\]\()(?![a-z]+://|#)([^)]+)(?=\))", lambda to: f"{prefix}/{to[1]}", body)

    return INCLUDE.sub(text_of, text)


def as_here(prose: str) -> str:
    """Prose as Python-Markdown reads it: lists need an empty line before them, [a][b] is no link."""
    prose = re.sub(r"(`[^`\n]*`)|\]\[", lambda found: found[1] or "]\\[", prose)
    return LISTS.sub(r"\1\n\n", prose)


def read(path: str) -> str:
    """Text of a file of the repository."""
    return (site_links.ROOT / path).read_text(encoding="utf-8")
