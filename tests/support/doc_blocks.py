"""The code blocks of README and docs: which are run by a test, and why the others are not.

A block is run if its page is in `RUN`, unless the line above it is `<!-- not run: REASON -->`. A block below
a line such as "`mine.csv`:" is that file. `python tests/support/doc_blocks.py` prints counts and reasons.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOWTO = sorted(
    str(page.relative_to(ROOT)) for page in (ROOT / "docs/howto").glob("*.md") if page.name != "README.md"
)
# pages whose blocks run in `make test`, and those that `make soak` runs, in this order in one folder
QUICK = ["docs/own_data.md", "docs/study.md", *HOWTO]
LONG = ["docs/quickstart.md", "README.md", "docs/training.md", "docs/predict.md", "docs/python.md"]
RUN = [*QUICK, *LONG]
COMMANDS = ("sh", "python", "diff")
OTHERS = ("text", "yaml", "csv", "bibtex", "mermaid", "toml")  # output, files, pictures
FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]+?) -->\n+)?(?:^`(?P<file>[^`\n]+)`:\n)?"
    r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its page, from the root of the repository.
        kind: its language.
        file: the file that it is; "" for none.
        text: its lines, without their common indentation.
        reason: why no test runs it; "" if one does.
    """

    page: str
    kind: str
    file: str
    text: str
    reason: str

    @property
    def is_command(self) -> bool:
        """Whether it is something to run, or a file that commands use."""
        return self.kind in COMMANDS or bool(self.file)


def pages() -> list[str]:
    """All pages with code: README, docs, and the other texts of the repository for people."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "BENCHMARKS.md", "slurm/README.md")]
    found += [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "report.md"]
    return [str(page.relative_to(ROOT)) for page in found]


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(
            page,
            match["kind"],
            match["file"] or "",
            re.sub(rf"(?m)^{match['indent']}", "", match["text"]),
            match["reason"] or "",
        )
        for match in FENCE.finditer(text)
    ]
    marks, fences = (len(re.findall(rf"(?m)^ *{mark}", text)) for mark in ("<!-- not run: ", "```"))
    assert 2 * len(found) == fences, f"a block of {page} is not read"
    assert sum(bool(block.reason) for block in found) == marks, f"{page}: a reason belongs to no block"
    return found


def commands() -> list[Block]:
    """All blocks of all pages that are something to run."""
    return [block for page in pages() for block in blocks(page) if block.is_command]


def report() -> str:
    """Counts of the blocks that are run and of those that are not, with the reasons."""
    found = commands()
    run = Counter("make test" if block.page in QUICK else "make soak" for block in found if not block.reason)
    lines = [f"{len(found)} blocks to run: " + ", ".join(f"{n} in {who}" for who, n in run.items())]
    lines.append(f"{sum(bool(block.reason) for block in found)} not run:")
    lines += [f"  {block.page}: {block.reason}" for block in found if block.reason]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
