"""The clock of the test run sees the time of each area on every worker; a budget that is passed fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import groupby
from pathlib import Path

import pytest
from areas import Spent, over_budget
from groups import CLUSTER, group_of, long_groups_first

HERE = Path(__file__).parent
BUSY = """
import subprocess, sys, time
LOOP = "import time; end = time.process_time() + 0.4\\nwhile time.process_time() < end: pass"
def test_a_process_of_its_own_computes(): subprocess.run([sys.executable, "-c", LOOP], check=True)
"""
MANY = "import time\n" + "".join(f"def test_{i}(): time.sleep(0.05)\n" for i in range(8))
IDLE = "import time\ndef test_waits(): time.sleep(0.4)\n"


@pytest.fixture
def suite(tmp_path) -> Path:
    """A suite with the hooks of this one and two areas: one computes in a process of its own, one waits."""
    for name, text in (("chem/test_busy.py", BUSY), ("data/test_idle.py", IDLE)):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    shutil.copy(HERE / "conftest.py", tmp_path / "tests")
    return tmp_path


def run(suite: Path, budgets: str, *words: str) -> tuple[int, str]:
    """Exit code and output of a run of the suite with these budgets."""
    (suite / "budgets.toml").write_text(budgets)
    (suite / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *words,
            "--budgets",
            "budgets.toml",
            "tests",
        ],
        check=False,
        cwd=suite,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        | {"PYTHONPATH": os.pathsep.join((str(HERE.parent), str(HERE / "support")))},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_processor_time_of_other_processes_is_held_against_the_budget(suite):
    """With two workers; waiting costs no processor time, but wall time."""
    code, said = run(suite, "'tests/chem' = {cpu = 0.2}\n'tests/data' = {cpu = 0.2}", "-n2")
    assert code == 1 and "2 passed" in said and "tests/chem took" in said and "tests/data took" not in said
    code, said = run(suite, "'tests/chem' = {cpu = 60}\n'tests/data' = {wall = 0.2}", "-pno:xdist")
    assert code == 1 and "2 passed" in said and "tests/data took" in said and "tests/chem took" not in said


def test_a_run_within_its_budgets_passes_and_prints_minutes(suite):
    code, said = run(suite, "'tests/chem' = {cpu = 60}\n'tests/data' = {wall = 60}", "-pno:xdist")
    assert code == 0 and "minutes by area" in said and "took" not in said
    assert {line.split()[0] for line in said.splitlines() if line.startswith("tests/")} >= {
        "tests/chem",
        "tests/data",
    }


def test_half_above_a_budget_is_the_limit():
    budgets = {"tests/train": {"cpu": 100.0}, "tests/cluster": {"wall": 10.0}}
    within = {"tests/train": Spent(wall=999, cpu=149), "tests/cluster": Spent(wall=14, cpu=999)}
    assert over_budget(within, budgets) == []
    (line,) = over_budget(within | {"tests/train": Spent(wall=0, cpu=151)}, budgets)
    assert "tests/train took 151 s of cpu time, its budget is 100 s" in line
    assert over_budget({"tests/new": Spent(1, 1)}, budgets) == ["tests/new has no budget: give it one"]


def test_every_area_has_a_budget():
    """A folder that is added without one would fail at the end of a long run only."""
    budgets = tomllib.loads((HERE / "budgets.toml").read_text())
    areas = {path.relative_to(HERE).parts[0] for path in HERE.rglob("test_*.py") if path.parent != HERE}
    assert set(budgets) == {"tests", *(f"tests/{area}" for area in areas)}


def test_the_cluster_is_one_group_and_every_other_file_is_one(request):
    """A file whole, so that its fixtures are made once; all that use the one cluster on one worker."""
    items = list(request.session.items)
    long_groups_first(items)
    groups = [group_of(item.nodeid) for item in items]
    of_cluster = [group for item, group in zip(items, groups, strict=True) if "cluster" in item.fixturenames]
    assert set(of_cluster) <= {CLUSTER}
    assert groups == sorted(groups, key=lambda group: group != CLUSTER)
    assert len(list(groupby(groups))) == len(set(groups))


def test_a_file_stays_on_one_worker(suite):
    (suite / "tests" / "chem" / "test_many.py").write_text(MANY)
    (suite / "tests" / "data" / "test_many_more.py").write_text(MANY)
    code, said = run(suite, "'tests/chem' = {cpu = 60}\n'tests/data' = {cpu = 60}", "-n2", "-v")
    of_file = {
        name: set(re.findall(rf"\[(gw\d)\].*{name}\.py", said)) for name in ("test_many", "test_many_more")
    }
    assert code == 0 and all(len(workers) == 1 for workers in of_file.values())
