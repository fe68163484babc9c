"""Own columns from a file to predictions: text fields of the user, and an energy under another name."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import mmgnn, write_recipe

from mmgnn_dist.cli.main import main

ROWS = 60
DECLARED = "data.targets={REF_energy: {unit: eV, kind: extensive}}"
TEXT = "data.text_columns={use: Pharmacology and use}"


@pytest.fixture(scope="module")
def runs(sample, tiny_bert, tmp_path_factory):
    """A run on `energy` and one on the same column under another name, both with text of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    table = pq.read_table(sample, columns=["id", "atomic_numbers", "positions", "iupac_name", "energy"])
    table = table.slice(0, ROWS).replace_schema_metadata()
    words = [f"Used as {name or 'nothing'} in the laboratory." for name in table["iupac_name"].to_pylist()]
    table = table.append_column("REF_energy", table["energy"]).append_column(
        "Pharmacology and use", pa.array(words)
    )
    pq.write_table(table, folder / "mine.parquet")
    shards = folder / "set"
    words = ["data", "prepare", str(folder / "mine.parquet"), "--to", str(shards)]
    assert main([*words, "data.units.energy=eV", DECLARED, TEXT, "--json"]) == 0
    recipe = write_recipe(folder, shards, encoder=tiny_bert)
    made = {}
    for target in ("energy", "REF_energy"):
        made[target] = folder / target
        mmgnn(
            *("train", recipe, "--run", made[target], f"targets=[{target}]", "text.fields=[use]"),
            *("train.max_steps=4", "train.batch=16"),
        )
    return folder, made


def errors(run, target):
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    return {name.replace(target, "energy"): value for name, value in metrics.items() if "/mae/" in name}


def test_an_energy_under_another_name_has_the_same_error_bit_for_bit(runs):
    _, made = runs
    assert errors(made["energy"], "energy") == errors(made["REF_energy"], "REF_energy")
    assert any(name.startswith("test/mae/energy") for name in errors(made["energy"], "energy"))


def test_own_text_is_read_from_new_molecules(runs, tmp_path, capsys):
    """Predictions with the text of the file differ from those without it, and absent text is told."""
    folder, made = runs
    table = pq.read_table(folder / "mine.parquet").select(
        ["id", "atomic_numbers", "positions", "Pharmacology and use"]
    )
    found = []
    for number, part in enumerate((table, table.drop_columns(["Pharmacology and use"]))):
        pq.write_table(part, tmp_path / f"new{number}.parquet")
        out = str(tmp_path / f"out{number}.parquet")
        words = ["predict", str(made["REF_energy"]), str(tmp_path / f"new{number}.parquet"), "-o", out]
        assert main([*words, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["kept"] == ROWS and told["units"] == {"REF_energy": "eV"}
        found.append((told["notes"], pq.read_table(out)["REF_energy"].to_pylist()))
    known, absent = found[0][0], found[1][0]
    assert len(known) == 1 and "the model was trained on 48 of these 60 molecules" in known[0]
    assert any("use 0%" in note for note in absent)
    assert found[0][1] != found[1][1]
