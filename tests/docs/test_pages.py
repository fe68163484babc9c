"""The pages for contributors: paths and links lead somewhere, the picture is that of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "BENCHMARKS.md")] + sorted(
    page for page in (ROOT / "docs").rglob("*.md") if "studies" not in page.parts
)
MADE_BY_USERS = {"mine", "NAME"}  # examples of files that a user writes
SOUGHT = (
    "a backbone",
    "a text provider",
    "a reader",
    "a target",
    "a profile",
    "the optimiser",
    "a fusion",
    "a metric",
)


def test_each_place_of_the_newcomers_map_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = dict(re.findall(r"^\| (\S[^|]*?) \| `([^`]+)` \|$", text, re.MULTILINE))
    assert tuple(places) == SOUGHT
    for sought, place in places.items():
        path = ROOT / place
        assert path.is_dir() if place.endswith("/") else path.is_file(), f"{sought}: there is no {place}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_that_texts_and_scripts_name_are_there():
    """In pages, batch scripts, recipes and docstrings: what moves takes its mentions with it."""
    folders = ("mmgnn_dist", "tests", "tools", "docs", "launch", "slurm")
    name = re.compile(
        rf"(?<![\w./-])(?:{'|'.join(folders)})/[\w./-]*\.(?:py|md|yaml|sh|sbatch|csv|parquet)\b"
    )
    kinds = ("*.md", "*.py", "*.yaml", "*.sbatch", "*.sh")
    files = [path for folder in folders for kind in kinds for path in (ROOT / folder).rglob(kind)]
    gone = {
        (str(path.relative_to(ROOT)), match)
        for path in (*PAGES, *files)
        for match in name.findall(re.sub(r"\$\w+/", "", path.read_text(encoding="utf-8")))
        if not (ROOT / match).exists() and Path(match).stem not in MADE_BY_USERS
    }
    assert not gone


def test_the_picture_of_the_wings_is_that_of_the_code():
    command = [sys.executable, str(ROOT / "tools" / "draw_wings.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run python tools/draw_wings.py"


def test_the_glossary_is_in_order_and_short():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=^- |\Z)", text, re.MULTILINE | re.DOTALL)
    words = [re.sub(r"\W", "", word).lower() for word, _ in entries]
    assert words == sorted(set(words))
    assert len(words) == len(re.findall(r"^- ", text, re.MULTILINE))
    long = [word for word, meaning in entries if len(re.findall(r"[.;](?:\s|$)", meaning)) > 3]
    assert not long
