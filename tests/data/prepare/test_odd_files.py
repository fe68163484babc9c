"""Odd files of the reference data through the command: what each gives, and that none is changed."""

from __future__ import annotations

import hashlib

import pyarrow.parquet as pq
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.shards import ShardSet

GAP, ENERGY = "data.units.gap=eV", "data.units.energy=Hartree"
BOTH = (GAP, ENERGY)

# file, overrides, kept, set aside, what the command says or the details of what it sets aside
READ = [
    ("c02_utf16.csv", [GAP], 2, 0, []),
    ("c03_decimal_comma.csv", [GAP], 2, 0, []),
    ("c07_missing.csv", [GAP], 10, 1, ["5 values are missing", "'<0.1'"]),
    ("c10_sep.csv", [GAP], 1, 0, []),
    ("c11_trailing.csv", [GAP], 2, 0, []),
    ("c13_comment.csv", [GAP], 1, 0, []),
    ("c17_cr.csv", [GAP], 2, 0, []),
    ("hard_smiles.csv", [GAP], 6, 0, ["geometry by UFF", "geometry by ETKDGv3 alone"]),
    ("mixed", BOTH, 2, 0, ["labels of 2 of 2 molecules"]),
    ("p04_decimal.parquet", [GAP], 2, 0, []),
    ("p05_stringview.parquet", [GAP], 2, 0, []),
    ("p06c_symbols_lower.parquet", [GAP], 2, 0, []),
    ("p10_upper.parquet", [GAP], 2, 0, []),
    ("p12_nulltarget.parquet", [GAP, "data.units.homo=eV"], 2, 0, []),
    ("p13_padded.parquet", [GAP], 2, 0, ["zeros behind the atoms"]),
    ("p14_pos_only_names.parquet", [GAP], 2, 0, ["geometries are read from 'pos'"]),
    ("p18_boolstr.parquet", [GAP], 2, 0, []),
    ("p20_transposed.parquet", [GAP], 2, 0, ["is [3][n]"]),
    ("s01_cat_mol.sdf", [GAP], 3, 0, ["labels of 3 of 3"]),
    ("s03_same_title.sdf", [ENERGY], 4, 0, ["they are numbered"]),
    ("s13_values.sdf", [ENERGY], 1, 3, ["energy stands twice", "has a decimal comma", "in the unit behind"]),
    ("s16_polar.sdf", [GAP, "data.add_hydrogens=true"], 1, 0, ["hydrogens"]),
    ("x03b_comma.xyz", BOTH, 1, 0, []),
    ("x08_deuterium.xyz", [ENERGY], 2, 0, []),
    ("x13_bom.xyz", [ENERGY], 2, 0, []),
    ("x14_utf16.xyz", [ENERGY], 1, 0, []),
    ("x27_props.xyz", [ENERGY], 3, 0, []),
    ("x31_array.xyz", [ENERGY, "data.targets={mu: {column: dipole, unit: D}}"], 2, 0, []),
    ("x41_crest.xyz", ["data.targets={energy: {column: comment, unit: Hartree}}"], 2, 0, []),
    ("x50_names.extxyz", [ENERGY], 600, 0, ["REF_energy (looks like energy)"]),
    ("z04.xyz.xz", [ENERGY], 1, 0, []),
]
REFUSED = [
    ("c30.smi", [GAP], ["data.units names 'gap'", "its columns are smiles, id", "a further source"]),
    ("p12_nulltarget.parquet", [GAP], ["the unit of column 'homo' is not given"]),
    ("p15_positions_without_z.parquet", [GAP], ["has positions ('positions')", "atomic_numbers"]),
    ("p29_pyg_eV.parquet", [], ["they look like eV", "data.units.homo=eV"]),
    ("s01_cat_mol.sdf", [ENERGY], ["data.units names 'energy'", "its data fields are none"]),
    ("s16_polar.sdf", [], ["data.add_hydrogens=true"]),
    ("x06_labels.xyz", [ENERGY], ["'O1' is no element (a label? write O)"]),
    ("x07_ghost.xyz", [ENERGY], ["'Bq' is no element (a ghost atom?"]),
    ("x30_smiles.xyz", [ENERGY], ["C3H7NO2 by its SMILES, H2O by its atoms"]),
    ("x41_crest.xyz", [ENERGY], ["the comment of its first frame is '-5.07054444'", "column: comment"]),
]
IDS = {
    "s01_cat_mol.sdf": ("ethanol", "methanol", "methane"),
    "s16_polar.sdf": ("s16_polar",),
}  # without labels


def state(path):
    files = sorted(path.rglob("*") if path.is_dir() else path.parent.iterdir())
    return [
        (file.name, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
        if file.is_file()
    ]


@pytest.fixture
def odd(shared):
    folder = shared / "cases/data"
    if not folder.is_dir():
        pytest.skip("no odd files beside the checkout")
    return folder


@pytest.mark.shared
@pytest.mark.parametrize(("name", "words", "kept", "aside", "says"), READ)
def test_odd_files_are_read(odd, tmp_path, capsys, name, words, kept, aside, says):
    before = state(odd / name)
    sources = [str(odd / name)]
    if name in IDS:
        table = tmp_path / "labels.csv"
        table.write_text("\n".join(["id,gap", *(f"{own},1.0" for own in IDS[name])]))
        sources.append(str(table))
    command = ["data", "prepare", *sources, "--to", str(tmp_path / "set"), "data.max_bad_fraction=1.0"]
    assert main([*command, *words]) == 0
    told = "".join(capsys.readouterr())
    shards = ShardSet.open(tmp_path / "set")
    details = pq.read_table(tmp_path / "set" / "quarantine.parquet")["detail"].to_pylist()
    assert (shards.manifest["counts"]["kept"], len(details)) == (kept, aside)
    assert shards.manifest["counts"]["in"] == kept + aside
    for part in says:
        assert part in told or any(part in detail for detail in details)
    assert state(odd / name) == before


@pytest.mark.shared
@pytest.mark.parametrize(("name", "words", "says"), REFUSED)
def test_odd_files_are_refused_in_one_line(odd, tmp_path, capsys, name, words, says):
    before = state(odd / name)
    assert main(["data", "prepare", str(odd / name), "--to", str(tmp_path / "set"), *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("prepare ")]
    assert len(lines) == 1
    for part in says:
        assert part in lines[0]
    assert state(odd / name) == before and not list(tmp_path.iterdir())
