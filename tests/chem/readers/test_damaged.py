"""Damaged files: nothing crashes or hangs, and every molecule is kept or set aside with a reason."""

import time
from collections import Counter

import numpy as np
import pytest
from damage import make

from mmgnn_dist.chem.checks import REASONS, check_molecules, detail
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.errors import UserError

UNITS = {
    "xyz": "energy",
    "extxyz": "energy",
    "V2000": "energy",
    "V3000": "energy",
    "csv": "energy",
    "parquet": "energy",
    "db": "e",
}
SECONDS = 20  # for one file, on a busy machine


def account(made):
    """(reason of each molecule, "" if kept), or the user's error."""
    column = UNITS.get(made.how.split(":")[0].split(".")[0])
    try:
        [source] = find_sources([str(made.path)], {column: "eV"} if column else {})
    except UserError as error:
        return str(error)
    order = [target.name for _, target, _ in source.targets]
    stream = source.stream(0)
    reasons = []
    try:
        for start in range(0, source.rows, 2):
            rows = min(2, source.rows - start)
            block = source.convert(stream.read(rows), start, order)
            assert len(block) == rows
            verdict = check_molecules(block)
            for place in np.flatnonzero(verdict).tolist():
                assert isinstance(detail(block, place, REASONS[verdict[place]]), str)
            reasons += [REASONS[code] for code in verdict]
            assert all(name and ".." not in name and name[0] != "/" for name in block.id.to_pylist())
    except UserError as error:
        return str(error)
    assert len(reasons) == source.rows
    return reasons


def judge(seeds, folder):
    seen = Counter()
    for seed in seeds:
        made = make(seed, folder)
        began = time.monotonic()
        outcome = account(made)
        assert time.monotonic() - began < SECONDS, made
        if isinstance(outcome, str):
            assert made.kept is None and "\n" not in outcome, (made, outcome)
            seen["refused as a whole"] += 1
        else:
            seen.update(reason or "kept" for reason in outcome)
            if made.kept is not None:
                assert outcome.count("") == made.kept, (made, outcome)
                assert set(outcome) - {""} <= set(made.reasons), (made, outcome)
        made.path.unlink()
    return seen


def test_damaged_files_of_every_format(tmp_path):
    seen = judge(range(400), tmp_path)
    print(dict(seen))
    assert len(seen) > 10


@pytest.mark.slow
def test_five_thousand_damaged_files(tmp_path):
    seen = judge(range(5000), tmp_path)
    print(dict(seen))
    assert len(seen) > 12


@pytest.mark.parametrize("count", [120, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_folder_of_damaged_files_is_prepared(tmp_path, count):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for seed in range(count):
        make(seed, folder, ("xyz", "extxyz", "qm9", "V2000", "V3000"))
    result = prepare(
        [str(folder)], tmp_path / "set", data=DataConfig(units={"energy": "eV"}, max_bad_fraction=1.0)
    )
    counts = result.counts
    print(counts)
    assert counts["in"] == counts["kept"] + counts["set_aside"] >= count
    assert not list(tmp_path.parent.rglob("*evil*"))
