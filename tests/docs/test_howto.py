"""The pages of docs/howto do what they say: their files and commands, in order, in a folder of their own.

A block below a line such as "`my_fusion.py`:" is that file, a `diff` changes a copy of the package, `sh` is
run. A command succeeds unless a comment beside it names its exit code.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command_line import Started
from small_set import make_set

from mmgnn_dist.data.shardset.splits import make_split

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
PAGES = sorted(page for page in HOWTO.glob("*.md") if page.name != "README.md")
FENCE = re.compile(r"(?:^`([^`\n]+)`:\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """(file name or '', kind, text) of each block of a page."""
    text = page.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(FENCE.findall(text)), f"a block of {page.name} is not read"
    yield from FENCE.findall(text)


def commands(script: str) -> Iterator[tuple[list[str], int]]:
    """(words, exit code) of each command."""
    for line in script.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            code = re.search(r"# exit code (\d)", line)
            yield words, int(code[1]) if code else 0


def execute(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and output of a command; what has Python's libraries to load is forked from the zygote."""
    if words[:1] == ["pip"]:
        assert words == ["pip", "install", "-e", "."]
        words = ["editable_install", str(folder / "site")]
    module = {"mmgnn": "mmgnn_dist.cli.main"}.get(words[0], words[0])
    if module in ("mmgnn_dist.cli.main", "editable_install", "pytest"):
        # programs of Slurm are not found, so that no cluster is asked
        path = f"{folder / 'site'}:{folder}"
        process = Started(module, words[1:], PYTHONPATH=path, PATH=Path(sys.executable).parent)
        return process.wait(), process.output()
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def change_package(patch: str, folder: Path) -> None:
    """Apply a diff to a copy of the package in a folder."""
    if not (folder / "mmgnn_dist").exists():
        shutil.copytree(
            ROOT / "mmgnn_dist", folder / "mmgnn_dist", ignore=shutil.ignore_patterns("__pycache__")
        )
    subprocess.run(["git", "apply", "-"], input=patch, text=True, check=True, cwd=folder)


def test_the_list_of_pages_is_complete():
    text = (HOWTO / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\((\w+\.md)\)", text)) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    for made in ("slurm", "site"):
        (tmp_path / made).mkdir()
    demo = yaml.safe_load((ROOT / "launch" / "demo.yaml").read_text(encoding="utf-8"))
    make_split(make_set(tmp_path / "shards" / "sample", labels=demo["targets"]))  # stands for the sample
    for name, kind, text in blocks(page):
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "diff":
            change_package(text, tmp_path)
        else:
            assert kind == "sh", f"{page.name}: a block of {kind or 'no kind'} that is no file"
            for words, code in commands(text):
                found, output = execute(words, tmp_path)
                if "Ray does not start" in output:  # as on a busy machine, where it says: run it again
                    found, output = execute(words, tmp_path)
                assert found == code, f"{shlex.join(words)}\n{output}"
