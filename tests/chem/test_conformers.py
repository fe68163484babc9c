"""Geometries from SMILES through `prepare`: several for a molecule, other force fields, atom-map numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.conformers import embed_smiles
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import ConformerConfig
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split


def prepared(tmp_path: Path, rows: list[str], *overrides: str) -> ShardSet:
    table, to = tmp_path / "table.csv", tmp_path / "set"
    table.write_text("\n".join(["id,smiles,gap", *rows]))
    words = ["data", "prepare", str(table), "--to", str(to), "data.units.gap=eV", "data.max_bad_fraction=0.9"]
    assert main([*words, *overrides]) == 0
    return ShardSet.open(to)


def geometries(shards: ShardSet) -> dict[str, np.ndarray]:
    positions = (np.reshape(flat, (-1, 3)) for flat in shards.column("pos").to_pylist())
    return dict(zip(shards.ids().tolist(), positions, strict=True))


def test_each_force_field_that_stands_in_is_said_for_its_molecule(tmp_path, capsys):
    rows = ["boronic,OB(O)c1ccccc1,1", "selenophene,c1cc[se]c1,2", "radical,CO[O],3", "bad,C1CC,4"]
    rows += ["mapped,[CH3:1][CH2:2][OH:3],5", "plain,CCO,6", "radical,CO[O],7"]
    shards = prepared(tmp_path, rows)
    out = capsys.readouterr().out
    assert shards.ids().tolist() == ["boronic", "selenophene", "radical", "mapped", "plain"]
    uff = "geometry by UFF: MMFF94 has no parameters for some of its atoms"
    notes = pq.read_table(shards.path / "notes.parquet").to_pylist()
    assert [(note["id"], note["row"]) for note in notes] == [
        ("boronic", 0),
        ("selenophene", 1),
        ("radical", 2),
    ]
    assert notes[0]["note"] == notes[2]["note"] == uff
    assert notes[1]["note"].startswith("geometry by ETKDGv3 alone: ") and "UFF has no" in notes[1]["note"]
    assert f"2 molecules, {uff} (see notes.parquet)" in out
    assert shards.manifest["notes"][uff] == 2 and shards.manifest["counts"]["set_aside"] == 2
    found = geometries(shards)
    assert np.array_equal(found["mapped"], found["plain"])
    keys = dict(zip(shards.ids(), shards.column("inchikey").to_pylist(), strict=True))
    assert keys["mapped"] == keys["plain"] == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
    lengths = np.linalg.norm(found["boronic"][:, None] - found["boronic"][None], axis=-1)
    assert 1.3 < lengths[1, 0] < 1.5  # between O and B, Å


def test_a_geometry_by_uff_is_at_the_bottom_of_uff():
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers

    made = embed_smiles("CO[O]")
    mol = Chem.AddHs(Chem.MolFromSmiles(Chem.CanonSmiles("CO[O]")))
    holder = Chem.Conformer(mol.GetNumAtoms())
    holder.SetPositions(np.reshape(made.positions[0], (-1, 3)))
    mol.AddConformer(holder)
    assert np.abs(rdForceFieldHelpers.UFFGetMoleculeForceField(mol).CalcGrad()).max() < 0.05  # kcal/mol/Å


def test_all_conformers_of_a_molecule_stay_on_one_side(tmp_path, capsys):
    rows = [f"m{k},{'C' * (k + 3)}O,{k}" for k in range(4)] + ["methane,C,9", "bad,C1CC,4", "m0,CN,0"]
    overrides = ["data.conformers={count: 4, keep: all}", "data.rows_per_shard=3"]
    shards = prepared(tmp_path, rows, *overrides)
    counts, out = shards.manifest["counts"], capsys.readouterr().out
    ids = shards.ids().tolist()
    assert counts["in"] == counts["kept"] + counts["set_aside"] and counts["kept"] == len(ids)
    assert f"7 SMILES and geometries gave {counts['in']} molecules" in out
    assert {"m0-1", "m0-2", "m3-3", "methane-1"} <= set(ids) and "methane-2" not in ids
    aside = {row["id"]: row for row in pq.read_table(shards.path / "quarantine.parquet").to_pylist()}
    assert aside["bad-1"]["row"] == 5 and aside["m0-1"]["row"] == 6  # told by its own row, not by its place
    parts = load_split(shards, "random")
    side = {ids[row].rsplit("-", 1)[0]: set() for row in range(len(ids))}
    for part, chosen in parts.items():
        for row in chosen:
            side[ids[row].rsplit("-", 1)[0]].add(part)
    assert all(len(found) == 1 for found in side.values())
    found = geometries(shards)
    assert not np.allclose(found["m3-1"], found["m3-2"])


def test_the_lowest_of_several_is_the_one_of_least_energy():
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers

    every = embed_smiles("OCCCC(N)C", ConformerConfig(count=6, keep="all"))
    lowest = embed_smiles("OCCCC(N)C", ConformerConfig(count=6))
    mol = Chem.AddHs(Chem.MolFromSmiles(Chem.CanonSmiles("OCCCC(N)C")))
    energies = []
    for flat in every.positions:
        holder = Chem.Conformer(mol.GetNumAtoms())
        holder.SetPositions(np.reshape(flat, (-1, 3)))
        number = mol.AddConformer(holder, assignId=True)
        parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters, confId=number)
        energies.append(field.CalcEnergy())
    assert len(energies) > 2 and energies == sorted(energies)
    assert len(lowest.positions) == 1 and np.array_equal(lowest.positions[0], every.positions[0])


def test_an_embedding_that_fails_is_tried_from_random_coordinates(monkeypatch):
    from rdkit.Chem import rdDistGeom

    embed = rdDistGeom.EmbedMultipleConfs

    def picky(mol, count, settings):
        return embed(mol, count, settings) if settings.useRandomCoords else ()

    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", picky)
    made = embed_smiles("CCO")
    assert made.note == "geometry from random coordinates" and "from its own start" in made.why
    assert len(made.positions[0]) == 3 * len(made.z) == 27


@pytest.mark.shared
def test_hard_smiles_are_all_read(shared, tmp_path):
    table = (shared / "cases/data/hard_smiles.csv").read_text().splitlines()[1:]
    shards = prepared(tmp_path, table)
    assert shards.manifest["counts"]["kept"] == len(table) == 6
    assert pq.read_table(shards.path / "notes.parquet").num_rows == 4


@pytest.mark.parametrize("smiles", ["[Na+].[Cl-]", "CC(=O)[O-].[Na+]", "O.O"])
def test_the_parts_of_a_salt_lie_apart(smiles):
    """RDKit puts parts that it embeds separately in one place, which is no fault of their author."""
    pos = embed_smiles(smiles).positions[0].reshape(-1, 3)
    assert np.linalg.norm(pos[:, None] - pos[None], axis=-1)[np.triu_indices(len(pos), 1)].min() > 0.7


def test_a_dummy_atom_and_a_wrong_smiles_are_shown():
    with pytest.raises(BadRecord, match=r"atom 1: '\*' is no element"):
        embed_smiles("*C")
    with pytest.raises(BadRecord, match="^invalid SMILES: SMILES Parse Error"):  # without the time of day
        embed_smiles("C1CC")
