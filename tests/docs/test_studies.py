"""The tables of docs/studies are what its script makes of the published numbers."""

from __future__ import annotations

import runpy
from pathlib import Path

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def test_the_judged_tables_stand_in_the_page(capsys):
    judge = runpy.run_path(str(STUDIES / "judge.py"))
    judge["main"]([str(STUDIES / "pairs"), str(STUDIES / "fields")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    page = (STUDIES / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + 6 + 8
    assert [line for line in lines if line not in page] == []
