"""Damaged files: nothing crashes or hangs, and every molecule is kept or set aside with a reason.

Nothing is made beside a file, the file stays as it is, and what is kept has the geometry that ASE reads.
"""

import io
import resource
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
MEMORY = 1 << 30  # bytes that the process may take at most, with all libraries


def account(made):
    """(reason of each molecule, "" if kept), or the user's error."""
    column = UNITS.get(made.how.split(":")[0].split(".")[0])
    try:
        [source] = find_sources([str(made.path)], {column: "eV"} if column else {})
    except UserError as error:
        return str(error)
    order = [target.name for _, target, _ in source.targets]
    stream = source.stream(0)
    reasons, kept = [], []
    try:
        for start in range(0, source.rows, 2):
            rows = min(2, source.rows - start)
            block = source.convert(stream.read(rows), start, order)
            assert len(block) == rows
            verdict = check_molecules(block)
            for place in np.flatnonzero(verdict).tolist():
                assert isinstance(detail(block, place, REASONS[verdict[place]]), str)
            reasons += [REASONS[code] for code in verdict]
            kept.append(block.keep(verdict == 0))
            assert all(name and ".." not in name and name[0] != "/" for name in block.id.to_pylist())
    except UserError as error:
        return str(error)
    assert len(reasons) == source.rows
    compare_with_ase(made, reasons, kept)
    return reasons


def compare_with_ase(made, reasons, kept):
    """Compare the atoms of what is kept with those that ASE reads in the undamaged molecules of the file."""
    form = made.how.split(":")[0]
    if form not in ("xyz", "extxyz", "V2000") or made.kept is None:
        return
    import ase.io

    texts = made.path.read_text().split("$$$$\n")[:-1] if form == "V2000" else frames(made.path.read_text())
    good = [text for text, reason in zip(texts, reasons, strict=True) if not reason]
    name = "sdf" if form == "V2000" else "xyz"
    atoms = [ase.io.read(io.StringIO(text), format=name) for text in good]
    z = np.concatenate([np.zeros(0, int), *(block.z for block in kept)])
    pos = np.concatenate([np.zeros(0), *(block.pos for block in kept)])
    assert z.tolist() == [number for molecule in atoms for number in molecule.numbers]
    assert pos.reshape(-1, 3) == pytest.approx(
        np.concatenate([np.zeros((0, 3)), *(molecule.positions for molecule in atoms)]), abs=1e-9
    )


def frames(text):
    """The frames of an XYZ file: each begins with a line that is a number alone."""
    cut = []
    for line in text.splitlines(keepends=True):
        if line.strip().isdecimal():
            cut.append("")
        cut[-1] += line
    return cut


def judge(seeds, folder):
    seen = Counter()
    for seed in seeds:
        made = make(seed, folder)
        before = made.path.read_bytes(), made.path.stat().st_mtime_ns
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
        assert (made.path.read_bytes(), made.path.stat().st_mtime_ns) == before, made
        assert list(folder.iterdir()) == [made.path], made
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
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 < MEMORY


@pytest.mark.parametrize("count", [120, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_folder_of_damaged_files_is_prepared(tmp_path, count):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for seed in range(count):
        make(seed, folder, ("xyz", "extxyz", "qm9", "V2000", "V3000"))
    result = prepare(
        [str(folder)], tmp_path / "set", data=DataConfig(units={"energy": "meV"}, max_bad_fraction=1.0)
    )
    counts = result.counts
    print(counts)
    assert counts["in"] == counts["kept"] + counts["set_aside"] >= count
    assert not list(tmp_path.parent.rglob("*evil*"))
