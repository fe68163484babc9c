"""The public surface: light to import, typed, and what PyTorch Geometric gets of a shard set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_export import SMALL, make_export

import mmgnn_dist
from mmgnn_dist.errors import UserError


def test_the_names_are_there_and_nothing_heavy_is_loaded():
    program = (
        "import sys, mmgnn_dist\n"
        "heavy = {'torch', 'ray', 'pyarrow', 'numpy', 'rdkit', 'ase', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(mmgnn_dist.__all__) <= set(dir(mmgnn_dist))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in mmgnn_dist.__all__:
        assert getattr(mmgnn_dist, name) is not None
    assert (Path(mmgnn_dist.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = mmgnn_dist.lode


@pytest.fixture(scope="module")
def data(few_shards):
    return mmgnn_dist.MoleculeDataset(few_shards.path, part="test", targets=["gap", "energy"])


def test_a_data_set_has_the_molecules_of_its_source(data, sample):
    """Numbers, positions, labels and text are those of the Parquet file that was prepared."""
    rows = {row["id"]: row for row in pq.read_table(sample).to_pylist()}
    assert 30 < len(data) < 50
    for molecule in data:
        row = rows[molecule.id]
        assert molecule.z.tolist() == row["atomic_numbers"]
        np.testing.assert_allclose(molecule.pos.flatten(), row["positions"], atol=1e-6)
        np.testing.assert_allclose(molecule.y, [[row["gap"], row["energy"]]], rtol=1e-12)
        assert molecule.iupac_name == (row["iupac_name"] or "")
        assert (molecule.charge.item(), molecule.multiplicity.item()) == (0, 1)


def test_batches_of_both_loaders_have_each_molecule_once(data):
    from torch_geometric.loader import DataLoader

    collated = list(DataLoader(data, batch_size=16))
    assert sum(len(batch.z) for batch in collated) == sum(len(molecule.z) for molecule in data)
    own = [batch.rows.clone() for batch in data.batches(16, seed=3)]
    assert sorted(torch.cat(own).tolist()) == sorted(data.rows.tolist())
    plain = next(iter(data.batches(16, shuffle=False)))
    assert plain.y.tolist() == [row for molecule in list(data)[: plain.size] for row in molecule.y.tolist()]


def test_wrong_parts_and_targets_are_one_line(few_shards):
    with pytest.raises(UserError, match="unknown target 'gapp' .did you mean 'gap'"):
        mmgnn_dist.MoleculeDataset(few_shards.path, targets=["gapp"])
    with pytest.raises(UserError, match="part 'vall': give one of train, val, test"):
        mmgnn_dist.MoleculeDataset(few_shards.path, part="vall")


def test_a_model_reads_the_molecules_of_a_data_set(data, few_shards, tmp_path):
    """PyG's `Data` gives the numbers of RDKit's molecule with the same geometry, also for one molecule."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    run = make_export(
        tmp_path / "run",
        few_shards.path,
        targets=["gap", "energy"],
        model={"modality": "graph", "backbone": {"name": "schnet", **SMALL["schnet"]}},
    )
    model = mmgnn_dist.load(run.path)
    molecule = data[0]
    symbols = [Chem.GetPeriodicTable().GetElementSymbol(number) for number in molecule.z.tolist()]
    lines = [" ".join([s, *map(str, xyz)]) for s, xyz in zip(symbols, molecule.pos.tolist(), strict=True)]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(lines)), "", *lines]))
    rdDetermineBonds.DetermineBonds(mol)
    found = model.predict(list(data)[:5])
    assert found["reason"].to_pylist() == [None] * 5
    one = model.predict(mol)
    assert one["energy"][0].as_py() == pytest.approx(found["energy"][0].as_py(), abs=1e-4)
    assert found.schema.field("energy").metadata == {b"unit": b"eV"}
    assert b"older version: it has no intervals" in found.schema.metadata[b"mmgnn.notes"]


def test_size_and_charge_are_told(few_shards, tmp_path):
    """A molecule beyond the sizes of the training is flagged; a model of neutral ones refuses an ion."""
    from ase import Atoms
    from ase.build import molecule

    run = make_export(
        tmp_path / "run",
        few_shards.path,
        targets=["gap"],
        model={"modality": "graph", "backbone": {"name": "schnet", **SMALL["schnet"]}},
    )
    atoms = [molecule("CH3CH2OH"), Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), molecule("NH3")]
    atoms[2].info["charge"] = 1
    atoms[2].info["spin"] = 2
    long = Atoms("C30", [[1.3 * k, 0, 0] for k in range(30)])
    found = mmgnn_dist.load(run.path).predict([*atoms, long]).to_pylist()
    small, large = "smaller than in training", "larger than in training"
    assert [row["flags"] for row in found] == [None, small, None, large]
    assert [row["gap"] is None for row in found] == [False, False, True, False]
    assert "charge" in found[2]["reason"]
