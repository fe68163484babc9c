"""Links of pages in the repository become links of the site.

Pages are written for the repository: `../BENCHMARKS.md#loader`, `../launch/demo.yaml`. In the site a Markdown
file of the repository is a page, and any other file that a page links to is shown on a page of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Markdown files outside of docs/, and the pages that they become
OUTSIDE = {
    "README.md": "index.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "slurm/README.md": "slurm.md",
    "mmgnn_dist/sample/README.md": "sample.md",
}
LINK = re.compile(r"(?<=\]\()([^)#\s]*)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".sh": "bash",
    ".sbatch": "bash",
    ".toml": "toml",
    ".cff": "yaml",
}


class DeadLink(Exception):
    """A page links to something that is not in the repository."""


def outside_fences(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is prose, text) of the parts of a page, cut at its fenced blocks."""
    end = 0
    for fence in FENCE.finditer(text):
        yield True, text[end : fence.start()]
        yield False, fence[0]
        end = fence.end()
    yield True, text[end:]


def repository_path(page: str, target: str) -> str:
    """Path below the repository of a link on a page; a folder with a README is that README.

    Args:
        page: path of the page in the repository.
        target: the link, without its anchor.

    Raises:
        DeadLink: there is no such file.
    """
    path = os.path.normpath(PurePosixPath(page).parent / target)
    if (ROOT / path).is_dir() and (ROOT / path / "README.md").exists():
        path = f"{path}/README.md"
    if path.startswith("..") or not (ROOT / path).exists():
        raise DeadLink(f"{page} links to {target}, which is not there")
    return path


def site_page(path: str) -> str | None:
    """The page or asset of the site that shows a file of the repository; None for a folder."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/") and not path.endswith((".py", ".yaml")):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    return None if (ROOT / path).is_dir() else f"repository/{path}.md"


def linked_files(page: str, text: str) -> set[str]:
    """Files of the repository, other than pages, that a page links to."""
    prose = "".join(part for is_prose, part in outside_fences(text) if is_prose)
    found = {
        repository_path(page, target)
        for target, _ in LINK.findall(prose)
        if target and "://" not in target and not target.startswith("mailto:")
    }
    return {path for path in found if (site_page(path) or "").startswith("repository/")}


def site_links(page: str, text: str) -> str:
    """A page with the links that it has in the site.

    Args:
        page: path of the page in the repository.
        text: its Markdown.

    Raises:
        DeadLink: a link leads nowhere.
    """
    here = PurePosixPath(site_page(page) or page).parent

    def moved(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        place = site_page(repository_path(page, target))
        return link[0] if place is None else os.path.relpath(place, here) + anchor

    def without_folders(prose: str) -> str:
        """Links to folders, which the site has not, become words."""

        def words(link: re.Match[str]) -> str:
            if "://" in link[2] or link[2].startswith("#"):
                return link[0]
            return link[1] if site_page(repository_path(page, link[2].split("#")[0])) is None else link[0]

        return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", words, prose)

    parts = outside_fences(text)
    return "".join(LINK.sub(moved, without_folders(part)) if prose else part for prose, part in parts)


def section(path: str, anchor: str) -> str:
    """The text below a heading of a Markdown file of the repository, up to the next heading of its level.

    Args:
        path: the file.
        anchor: the heading as an anchor, such as `random-faults`.

    Raises:
        DeadLink: the file has no such heading.
    """
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        heading = re.match(r"(#+) (.*)", line)
        if heading and anchor_of(heading[2]) == anchor:
            same = re.compile(rf"#{{1,{len(heading[1])}}} ")
            rest = lines[number + 1 :]
            end = next((n for n, below in enumerate(rest) if same.match(below)), len(rest))
            return "\n".join(rest[:end]).strip()
    raise DeadLink(f"{path} has no heading #{anchor}")


def anchor_of(heading: str) -> str:
    """The anchor that GitHub and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def code_page(path: str) -> str:
    """A page that shows a file of the repository as it is."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"# {path}\n\n`````{language}\n{text.rstrip()}\n`````\n"
