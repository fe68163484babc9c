"""A model trained on ions, applied to ions: one small run, through the command line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command_line import mmgnn

from mmgnn_dist.cli.main import main
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir

SMALL = """
name: charged
targets: [gap]
model:
  modality: graph
  backbone: {name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 8}
train: {epochs: 10, batch: 8, threads: 1, optim: {lr: 0.02, lr_fusion: 0.02, ema: 0.5}}
track: {wandb: disabled}
"""
Z, POS = [8, 1, 1], np.array([0.0, 0, 0, 0, 0.76, 0.59, 0, -0.76, 0.59])


def table(charges, multiplicities=None, **columns):
    rng = np.random.default_rng(0)
    rows = len(charges)
    shaken = [(POS + rng.normal(scale=0.02, size=9)).tolist() for _ in range(rows)]
    states = {"charge": charges, "multiplicity": multiplicities or [1 + abs(c) for c in charges]}
    made = {"atomic_numbers": [Z] * rows, "positions": shaken, **states, **columns}
    return pa.table({name: values for name, values in made.items() if values is not None})


@pytest.fixture(scope="module")
def run(tmp_path_factory, ray_once):
    folder = tmp_path_factory.mktemp("charged")
    charges = [0, 1, -1] * 40
    pq.write_table(table(charges, gap=[6.0 + 2 * c for c in charges]), folder / "ions.parquet")
    mmgnn("data", "prepare", folder / "ions.parquet", "--to", folder / "shards", "data.units.gap=eV")
    (folder / "recipe.yaml").write_text(SMALL)
    mmgnn("train", folder / "recipe.yaml", "--run", folder / "run", f"data.shards={folder / 'shards'}")
    return folder / "run"


def predict(run, source, out, capsys):
    assert main(["predict", str(run), str(source), "-o", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_export_says_on_which_charges_it_was_trained(run):
    about = read_json(RunDir(run).export_about)
    assert about["reads_states"] is True
    assert about["learned_from"]["charges"] == [-1, 0, 1]
    assert about["learned_from"]["multiplicities"] == [1, 2]


def test_ions_of_one_geometry_are_told_apart(run, tmp_path, capsys):
    """Charge 2 and a triplet were not trained on, and are set aside."""
    source = tmp_path / "new.parquet"
    same = table([0, 1, -1, 2, 0], [1, 2, 2, 1, 3], id=["n", "c", "a", "dication", "triplet"])
    positions = pa.array([POS.tolist()] * 5)
    pq.write_table(same.set_column(same.column_names.index("positions"), "positions", positions), source)
    told = predict(run, source, tmp_path / "new.csv", capsys)
    assert told["reasons"] == {"charge or multiplicity not trained on": 2}
    assert "the model was trained on charge -1, 0, 1 and multiplicity 1, 2" in told["notes"]
    found = pyarrow.csv.read_csv(tmp_path / "new.csv")
    assert found["id"].to_pylist() == ["n", "c", "a", "dication", "triplet"]
    neutral, cation, anion, *others = found["gap"].to_pylist()
    assert others == [None, None]
    assert cation > neutral + 0.2 and anion < neutral - 0.2  # trained: 2 eV more, 2 eV less


def test_charges_are_asked_for(run, tmp_path, capsys):
    """Water is taken as neutral, and told; hydroxyl and hydronium without a charge are set aside."""
    plain = table([0], id=["water"]).drop_columns(["charge", "multiplicity"])
    pq.write_table(plain, tmp_path / "plain.parquet")
    told = predict(run, tmp_path / "plain.parquet", tmp_path / "plain.csv", capsys)
    assert told["kept"] == 1
    assert [note for note in told["notes"] if "all molecules are taken as neutral singlets" in note]
    ions = {
        "id": ["OH", "OH3", "OH2"],
        "smiles": [None, "[OH3+]", "O"],
        "atomic_numbers": [[8, 1], [8, 1, 1, 1], Z],
        "positions": [
            [0.0, 0, 0, 0, 0, 0.97],
            [0.0, 0, 0.1, 0, 0.94, -0.2, 0.81, -0.47, -0.2, -0.81, -0.47, -0.2],
            POS.tolist(),
        ],
    }
    pq.write_table(pa.table(ions), tmp_path / "ions.parquet")
    told = predict(run, tmp_path / "ions.parquet", tmp_path / "ions.csv", capsys)
    assert told["kept"] == 1 and told["reasons"] == {"charge not given": 2}
    assert [note for note in told["notes"] if "give columns charge and multiplicity" in note]
