"""Predictions for files of molecules, through the command line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command_line import mmgnn, write_recipe

import mmgnn_dist.sample
from mmgnn_dist.cli import main


@pytest.fixture(scope="module")
def run(sample_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    mmgnn("train", write_recipe(folder, sample_shards.path), "--run", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def molecules(run, tmp_path_factory):
    """The test molecules of the run as a file without any target, one of them damaged."""
    path = tmp_path_factory.mktemp("molecules") / "mine.parquet"
    (bundled,) = mmgnn_dist.sample.__path__
    table = pq.read_table(f"{bundled}/molecules.parquet")
    known = pq.read_table(run / "predictions.parquet")["id"].to_pylist()
    rows = [row for row, name in enumerate(table["id"].to_pylist()) if name in set(known)]
    keep = ["id", "atomic_numbers", "positions", "iupac_name"]
    table = table.select(keep).take(rows)
    positions = table["positions"].to_pylist()
    positions[3] = [float("nan")] * len(positions[3])
    field = table.schema.field("positions")
    table = table.set_column(keep.index("positions"), field, pa.array(positions, field.type))
    pq.write_table(table, path)
    return path, table["id"][3].as_py()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_predictions_are_those_of_the_test_part(run, molecules, tmp_path, capsys, ray_once, suffix):
    """The exported folder alone, on molecules without labels, says what the run said of them."""
    source, bad = molecules
    out = tmp_path / f"new{suffix}"
    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "model"), str(source), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = pq.read_table(out) if suffix == ".parquet" else pyarrow.csv.read_csv(out)
    expected = pq.read_table(run / "predictions.parquet")
    assert told["in"] == len(expected) and told["kept"] == len(found) == len(expected) - 1
    assert told["set_aside"] == 1 and told["units"] == {"homo": "eV", "gap": "eV", "energy": "eV"}
    assert pq.read_table(told["aside"])["id"].to_pylist() == [bad]
    order = {name: row for row, name in enumerate(expected["id"].to_pylist())}
    rows = [order[name] for name in found["id"].to_pylist()]
    for target in ("homo", "gap", "energy"):
        np.testing.assert_allclose(
            found[target].to_numpy(), expected[f"{target}_pred"].to_numpy()[rows], rtol=1e-5
        )
    np.testing.assert_allclose(found["gate"].to_numpy(), expected["gap_gate"].to_numpy()[rows], rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", out.name, "new.set_aside.parquet"]


def test_wrong_input_is_one_line(run, molecules, tmp_path, capsys):
    source = str(molecules[0])
    for words, says in (
        (["predict", str(tmp_path), source, "-o", "x.csv"], "no trained model at"),
        (["predict", str(run), source, "-o", "x.xlsx"], "written as .parquet or .csv"),
        (["predict", str(run), "none.sdf", "-o", str(tmp_path / "x.csv"), "--json"], "no file none.sdf"),
        (["export", str(tmp_path), str(tmp_path / "to")], "no trained model at"),
        (["export", str(run), str(run)], "is not empty"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error
    assert not list(tmp_path.iterdir())
