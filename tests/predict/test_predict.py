"""Predictions for files of molecules, through the command line."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command_line import mmgnn, start, write_recipe

import mmgnn_dist
import mmgnn_dist.sample
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.errors import UserError


@pytest.fixture(scope="module")
def run(few_shards, tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    recipe = write_recipe(folder, few_shards.path, encoder=tiny_bert)
    mmgnn("train", recipe, "--run", folder / "run")
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
def test_predictions_are_those_of_the_test_part(run, molecules, tmp_path, capsys, suffix):
    """The exported folder alone, on molecules without labels, says what the run said of them."""
    source, bad = molecules
    out = tmp_path / f"new{suffix}"
    assert main(["export", str(run), str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": str(tmp_path / "model")}
    assert main(["predict", str(tmp_path / "model"), str(source), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = pq.read_table(out) if suffix == ".parquet" else pyarrow.csv.read_csv(out)
    expected = pq.read_table(run / "predictions.parquet")
    assert told["in"] == len(found) == len(expected) and told["kept"] == len(expected) - 1
    assert found["id"].to_pylist() == pq.read_table(source)["id"].to_pylist()
    (absent,) = (row for row in found.to_pylist() if row["reason"])
    assert absent["id"] == bad and "non-finite coordinates: atom 1" in absent["reason"]
    assert absent["homo"] is None and absent["gate"] is None
    found = found.filter(
        pc.is_null(found["reason"]) if suffix == ".parquet" else pc.equal(found["reason"], "")
    )
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


def test_elements_that_the_model_has_not_seen_are_set_aside(run, tmp_path, capsys):
    """HBr and HI are not of a model of H, C, N, O and F; ammonia is."""
    table = {
        "id": ["HBr", "HI", "NH3", "UF"],
        "atomic_numbers": [[1, 35], [1, 53], [7, 1, 1, 1], [92, 9]],
        "positions": [[0.0, 0, 0, 0, 0, 1.4]] * 2
        + [[0.0, 0, 0.1, 0, 0.94, -0.28, 0.81, -0.47, -0.28, -0.81, -0.47, -0.28], [0.0, 0, 0, 0, 0, 2.0]],
    }
    pq.write_table(pa.table(table), tmp_path / "new.parquet")
    words = ["predict", str(run), str(tmp_path / "new.parquet"), "-o", str(tmp_path / "deep/er/out.csv")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["reasons"]) == (1, {"element not trained on": 3})
    assert "elements that the model was trained on: H, C, N, O, F" in told["notes"]
    found = pyarrow.csv.read_csv(told["out"]).to_pylist()
    assert [(row["id"], row["homo"] is None) for row in found] == [
        ("HBr", True),
        ("HI", True),
        ("NH3", False),
        ("UF", True),
    ]
    aside = pq.read_table(told["aside"]).to_pylist()
    assert [(row["id"], row["row"]) for row in aside] == [("HBr", 0), ("HI", 1), ("UF", 3)]
    assert "Br" in aside[0]["detail"]


def test_an_evaluation_tells_of_elements_that_the_model_has_not_seen(run, tmp_path, capsys):
    table = {
        "atomic_numbers": [[1, 35], [1, 9], [1, 53]],
        "positions": [[0.0, 0, 0, 0, 0, 1.4], [0.0, 0, 0, 0, 0, 0.9], [0.0, 0, 0, 0, 0, 1.6]],
        **{name: [1.0, 2.0, 3.0] for name in ("homo", "gap", "energy")},
    }
    pq.write_table(pa.table(table), tmp_path / "new.parquet")
    units = [f"data.units.{name}=eV" for name in ("homo", "gap", "energy")]
    assert (
        main(["data", "prepare", str(tmp_path / "new.parquet"), "--to", str(tmp_path / "set"), *units]) == 0
    )
    assert main(["evaluate", str(run), "--data", str(tmp_path / "set")]) == 0
    assert "2 of 3 molecules have Br, I, which the training part has not" in capsys.readouterr().err


def test_labels_are_not_needed_and_text_is_that_of_training(run, tmp_path, capsys):
    """Units of columns that a file lacks are no matter; one molecule suffices; absent text is told."""
    made = tmp_path / "model"
    assert main(["export", str(run), str(made)]) == 0
    text = (made / "recipe.yaml").read_text().replace("units: {}", "units: {gap: eV, energy: Hartree}")
    assert "gap: eV" in text
    (made / "recipe.yaml").write_text(text)
    about = json.loads((made / "export" / "model.json").read_text())
    assert about["learned_from"]["elements"] == ["H", "C", "N", "O", "F"]
    assert about["learned_from"]["providers"] == ["table", "file"]
    assert 0.8 < about["learned_from"]["coverage"]["iupac_name"] < 0.95
    (tmp_path / "one.xyz").write_text("3\n\nO 0 0 0.118\nH 0 0.755 -0.471\nH 0 -0.755 -0.471\n")
    words = ["predict", str(made), str(tmp_path / "one.xyz"), "-o", str(tmp_path / "out.csv"), "--json"]
    capsys.readouterr()
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == 1 and len(told["notes"]) == 1
    assert told["notes"][0].startswith("molecules with text: iupac_name 0% (88% in training)")
    about["learned_from"]["providers"] = ["rdkit"]
    (made / "export" / "model.json").write_text(json.dumps(about))
    table = str(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["one"], "iupac_name": ["oxidane"]}), table)
    assert main([*words, "--text", table]) == 2
    assert "data.providers=['rdkit'] has no 'table'" in capsys.readouterr().err
    assert main([*words, "--text", table, "data.providers=[table]"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_wrong_input_is_one_line(run, molecules, tmp_path, capsys):
    source = str(molecules[0])
    for words, says in (
        (["predict", str(tmp_path), source, "-o", "x.csv"], "no trained model at"),
        (["predict", str(run), source, "-o", "x.xlsx"], "written as .parquet, .csv, .jsonl or .sdf"),
        (["predict", str(run), "none.sdf", "-o", str(tmp_path / "a/b/x.csv"), "--json"], "no file none.sdf"),
        (["predict", str(run), source, "-o", f"{source}/x.csv"], "x.csv cannot be written"),
        (["predict", str(run), "none.sdf", "-o", str(tmp_path / "x.csv"), "--json"], "no file none.sdf"),
        (["export", str(tmp_path), str(tmp_path / "to")], "no trained model at"),
        (["export", str(run), str(run)], "is not empty"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error
    assert not list(tmp_path.iterdir())


LIGHT = """
import importlib.machinery as machinery, sys
names = {"ray", "deepspeed", "submitit", "wandb", "optuna"}
found = machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in names else found(name, path, target)
machinery.PathFinder.find_spec = find_spec
from mmgnn_dist.cli.main import main
code = main(sys.argv[1:])
assert not names & set(sys.modules), names & set(sys.modules)
sys.exit(code)
"""


def test_the_light_extra_is_enough_and_small_inputs_need_no_ray(run, tmp_path):
    """SMILES with own names, a salt, one that the model was trained on; the run was trained with workers."""
    model = tmp_path / "model"
    assert main(["export", str(run), str(model)]) == 0
    recipe = model / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("workers: 0", "workers: 2"))
    trained = pq.read_table(f"{next(iter(mmgnn_dist.sample.__path__))}/molecules.parquet").to_pylist()
    tested = set(pq.read_table(run / "predictions.parquet")["id"].to_pylist())
    split = pq.read_table(load_recipe(run / "recipe.yaml").data.shards / "splits" / "random.parquet")
    learned = {row["id"] for row in split.to_pylist() if row["fold_0"] == "train"}
    old, new = (next(row["smiles"] for row in trained if row["id"] in ids) for ids in (learned, tested))
    lines = ["Name,smiles", f"old,{old}", f"new,{new}", "salt,[Na+].[Cl-]", "mine 4,C", "mine 5,CCO"]
    (tmp_path / "five.csv").write_text("\n".join(lines))
    words = ["predict", model, tmp_path / "five.csv", "-o", tmp_path / "out.csv", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *map(str, words)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    rows = pyarrow.csv.read_csv(tmp_path / "out.csv").to_pylist()
    assert [row["id"] for row in rows] == ["old", "new", "salt", "mine 4", "mine 5"]
    assert [row["gap"] is None for row in rows] == [bool(row["reason"]) for row in rows]
    assert [bool(row["reason"]) for row in rows[:3]] == [False, False, True]
    aside = {row["id"]: row for row in pq.read_table(told["aside"]).to_pylist()}
    assert aside["salt"]["reason"] == "element not trained on"
    assert any("was trained on" in note and "of these" in note for note in told["notes"])


def test_the_python_door_gives_the_numbers_of_the_command_line(run, molecules, tmp_path):
    """As files, as ASE's and RDKit's molecules, as arrays: in order, with a reason where there is none."""
    from ase import Atoms
    from rdkit import Chem

    model = mmgnn_dist.load(run)
    assert model.targets == ["homo", "gap", "energy"] and model.units["gap"] == "eV"
    source, _ = molecules
    expected = pq.read_table(run / "predictions.parquet")
    whole = model.predict(source)
    rows = pq.read_table(source).slice(0, 3).to_pylist()
    pairs = [(row["atomic_numbers"], np.reshape(row["positions"], (-1, 3))) for row in rows]
    names = {"iupac_name": [row["iupac_name"] for row in rows]}
    vectors = model.embed([Atoms(numbers, positions) for numbers, positions in pairs], names)
    assert vectors["graph"].shape == vectors["fused"].shape == (3, 16) and np.isfinite(vectors["fused"]).all()
    for given in ([Atoms(numbers, positions) for numbers, positions in pairs], pairs):
        found = model.predict(given, names)
        for target in model.targets:
            np.testing.assert_allclose(found[target], expected[f"{target}_pred"][:3], rtol=1e-5)
            np.testing.assert_allclose(whole[target][:3], expected[f"{target}_pred"][:3], rtol=1e-5)
    mixed = model.predict([Chem.MolFromSmiles("CCO"), "C(", "[Na+].[Cl-]", "O"])
    assert [bool(reason) for reason in mixed["reason"].to_pylist()] == [False, True, True, False]
    with pytest.raises(UserError, match="some molecules have a geometry"):
        model.predict([pairs[0], "CCO"])
    with pytest.raises(UserError, match="no molecule"):
        model.predict([3])


def test_intervals_are_the_errors_on_the_validation_part_and_evaluate_counts_what_they_cover(
    run, few_shards, capsys
):
    """Worked out from the predictions for the validation part and the labels of the bundled file."""
    table = pq.read_table(f"{next(iter(mmgnn_dist.sample.__path__))}/molecules.parquet")
    rows = {row["id"]: row for row in table.to_pylist()}
    split = pq.read_table(few_shards.path / "splits" / "random.parquet").to_pylist()
    model = mmgnn_dist.load(run)
    parts = {}
    for part in ("val", "test"):
        own = [rows[row["id"]] for row in split if row["fold_0"] == part]
        pairs = [(row["atomic_numbers"], np.reshape(row["positions"], (-1, 3))) for row in own]
        names = {"iupac_name": [row["iupac_name"] for row in own]}
        parts[part] = own, model.predict(pairs, names, level=0.8)
    assert main(["evaluate", str(run), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    told = evaluated["intervals"]
    for target in model.targets:
        parts_told = evaluated["strata"][target]
        by_size = [quality for name, quality in parts_told.items() if "atoms" in name]
        by_text = [parts_told["with text"], parts_told["without text"]]
        for qualities in (by_size, by_text):
            assert sum(quality["molecules"] for quality in qualities) == told[target]["molecules"]
            covered = sum(quality["coverage"] * quality["molecules"] for quality in qualities)
            assert covered == pytest.approx(told[target]["coverage"] * told[target]["molecules"])
        own, found = parts["val"]
        errors = np.sort(np.abs(np.array([row[target] for row in own]) - found[target].to_numpy()))
        count = len(own)
        eighty, ninety = (errors[-(-(count + 1) * tenths // 10) - 1] for tenths in (8, 9))
        own, found = parts["test"]
        predicted, known = found[target].to_numpy(), np.array([row[target] for row in own])
        np.testing.assert_allclose(found[f"{target}_low"], predicted - eighty, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(found[f"{target}_high"], predicted + eighty, rtol=1e-6, atol=1e-4)
        assert told[target]["coverage"] == pytest.approx(np.mean(np.abs(predicted - known) <= ninety + 1e-4))
        assert told[target]["width"] == pytest.approx(2 * ninety, rel=1e-4)
        assert told[target]["molecules"] == len(own) and told[target]["unit"] == "eV"
    assert model.card["calibration"]["gap"]["molecules"] == count
    with pytest.raises(UserError, match="level 0.7: intervals are kept for 0.5, 0.8, 0.9, 0.95, 0.99"):
        model.predict("CCO", level=0.7)


def test_the_verbs_in_python_do_what_the_command_line_does(run):
    """A finished run is found finished; its evaluation has the errors that it recorded."""
    model = mmgnn_dist.train_model(run.parent / "small.yaml", run, quiet=True)
    assert model.path == run and model.targets == ["homo", "gap", "energy"]
    recorded = json.loads((run / "metrics.json").read_text())["metrics"]
    found = mmgnn_dist.evaluate_model(run).metrics
    assert found.keys() == recorded.keys()
    for name, value in recorded.items():
        assert found[name] == pytest.approx(value, rel=1e-6)
    with pytest.raises(UserError, match="overrides change a file"):
        mmgnn_dist.study_models(load_recipe(run / "recipe.yaml"), run, ["train.seed=7"])
    with pytest.raises(UserError, match="study"):
        mmgnn_dist.study_models(run / "recipe.yaml", run.parent / "study")
    with pytest.raises(UserError, match="another recipe"):
        mmgnn_dist.train_model(run.parent / "small.yaml", run, ["train.seed=7"], quiet=True)


def test_an_export_has_a_card_that_the_hub_reads(run, tmp_path):
    """Its numbers are those of the run; an export of the export keeps it."""
    from huggingface_hub import ModelCard

    for source, name in ((run, "model"), (tmp_path / "model", "copy")):
        assert main(["export", str(source), str(tmp_path / name)]) == 0
    text = (tmp_path / "copy" / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.library_name == "mmgnn_dist" and "schnet" in card.data.tags
    metrics = json.loads((run / "metrics.json").read_text())
    (row,) = (line for line in text.splitlines() if line.startswith("| gap |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    named = metrics["metrics"] | metrics["baselines"]
    errors = [f"{named[f'{kind}/mae/gap_eV']:.4g}" for kind in ("test", "mean", "composition")]
    assert cells[:6] == ["gap", "intensive", "eV", *errors] and cells[6].startswith("± ")
    counts = f"train {metrics['molecules']['train']}, "
    for said in (metrics["shards_sha256"], "elements: H, C, N, O, F", "iupac_name 8", counts):
        assert said in text


def test_one_molecule_and_standard_input(run, tmp_path, capsys, monkeypatch):
    words = ["predict", str(run), "--smiles", "CCO", "--smiles", "[Na+].[Cl-]"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CCO" and lines[1].split()[0] == "homo" and "(90%: " in lines[1]
    assert lines[-1].startswith("[Na+].[Cl-]: element not trained on")
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in told["molecules"]] == ["CCO", "[Na+].[Cl-]"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"CCO ethanol\nO water\n")))
    assert main(["predict", str(run), "-", "-o", str(tmp_path / "out.csv"), "--json"]) == 0
    rows = pyarrow.csv.read_csv(tmp_path / "out.csv").to_pylist()
    assert [row["id"] for row in rows] == ["ethanol", "water"]
    assert rows[0]["gap"] == pytest.approx(told["molecules"][0]["gap"], rel=1e-5)
    molecules = tmp_path / "two.smi"
    molecules.write_text("CCO ethanol\n[Na+].[Cl-] salt\n")
    assert main(["predict", str(run), str(molecules), "-o", str(tmp_path / "out.jsonl"), "--json"]) == 0
    ethanol, salt = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert ethanol["gap"] == pytest.approx(rows[0]["gap"], rel=1e-5)
    assert salt["gap"] is None and salt["reason"].startswith("element not trained on")
    for wrong in (["-o", "x.csv"], ["a.sdf"], ["--smiles", "C", "-o", "x.csv"]):
        assert main(["predict", str(run), *wrong]) == 2
        assert "SOURCE" in capsys.readouterr().err


ODD = ["smiles,name", "CCO,a", "not a smiles,b", "C,c,surplus", "[Na+],d", "O,water", "O,water"]


def test_one_row_for_each_row_in_order_in_portions(run, tmp_path, capsys):
    """Rows that no reader parses have their row, twice the same id too; the forms say the same."""
    (tmp_path / "odd.csv").write_text("\n".join(ODD) + "\n")
    found = {}
    for suffix, portion in ((".parquet", 2), (".csv", 2), (".jsonl", 2), (".jsonl", 100)):
        out = tmp_path / f"out{portion}{suffix}"
        words = ["predict", run, tmp_path / "odd.csv", "-o", out, "--json", f"data.rows_per_shard={portion}"]
        assert main([str(word) for word in words]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["in"], told["kept"], told["set_aside"]) == (6, 3, 3)
        if suffix == ".jsonl":
            found[out.name] = [json.loads(line) for line in out.read_text().splitlines()]
        else:
            table = pq.read_table(out) if suffix == ".parquet" else pyarrow.csv.read_csv(out)
            found[out.name] = table.to_pylist()
        assert pq.read_table(told["aside"])["row"].to_pylist() == [1, 2, 3]
    for rows in found.values():
        assert [row["homo"] is None for row in rows] == [False, True, True, True, False, False]
        assert rows[1]["reason"].startswith("invalid SMILES") and "3 fields" in rows[2]["reason"]
        assert rows[4]["gap"] == rows[5]["gap"] == pytest.approx(found["out2.parquet"][4]["gap"], rel=1e-5)
        assert rows[0]["gate"] == pytest.approx(found["out2.parquet"][0]["gate"], rel=1e-5)
    assert not list(tmp_path.glob("*.partial"))


def test_a_shard_set_is_a_source(run, few_shards, tmp_path, capsys):
    """Its rows in order, with the predictions of the test part."""
    out = tmp_path / "out.parquet"
    words = ["predict", str(run), str(few_shards.path), "-o", str(out), "--json"]
    assert main([*words, "data.rows_per_shard=70"]) == 0
    told = json.loads(capsys.readouterr().out)
    found, expected = pq.read_table(out), pq.read_table(run / "predictions.parquet")
    assert found["id"].to_pylist() == few_shards.ids().tolist() and told["kept"] == told["in"] == len(found)
    order = {name: row for row, name in enumerate(found["id"].to_pylist())}
    rows = [order[name] for name in expected["id"].to_pylist()]
    np.testing.assert_allclose(found["gap"].to_numpy()[rows], expected["gap_pred"].to_numpy(), rtol=1e-5)
    assert main([*words, "--text", str(out)]) == 2
    assert "is a shard set and has its text" in capsys.readouterr().err


def sd_file(path):
    """Three molecules with a field of their own, RDKit's; the second is garbage."""
    from rdkit import Chem
    from rdkit.Chem.AllChem import EmbedMolecule

    records = []
    for smiles in ("CCO", "N"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        EmbedMolecule(mol, randomSeed=1)
        records.append(f"{Chem.MolToMolBlock(mol)}>  <own>\nvalue of {smiles}\n\n$$$$\n")
    path.write_text(f"{records[0]}garbage\n\n\n  1  0 bad\n$$$$\n{records[1]}")


def test_records_of_an_sd_file_get_further_fields(run, tmp_path, capsys):
    from rdkit import Chem

    sd_file(tmp_path / "in.sdf")
    assert (
        main(["predict", str(run), str(tmp_path / "in.sdf"), "-o", str(tmp_path / "out.sdf"), "--json"]) == 0
    )
    assert (
        main(["predict", str(run), str(tmp_path / "in.sdf"), "-o", str(tmp_path / "out.csv"), "--json"]) == 0
    )
    rows = pyarrow.csv.read_csv(tmp_path / "out.csv").to_pylist()
    first, bad, last = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert bad is None and b"<mmgnn_reason>\nunreadable record" in (tmp_path / "out.sdf").read_bytes()
    for mol, row, smiles in ((first, rows[0], "CCO"), (last, rows[2], "N")):
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == smiles and mol.GetProp("own") == f"value of {smiles}"
        assert float(mol.GetProp("mmgnn_gap")) == row["gap"]
    (tmp_path / "in.csv").write_text("smiles\nC\n")
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "in.csv"), "-o", str(tmp_path / "x.sdf")]) == 2
    assert "repeats the records of SD files" in capsys.readouterr().err


def kill_after(parts, out, *words):
    """Start a prediction, and kill it and its processes when it has some parts more."""
    folder = out.with_name(f"{out.name}.partial")
    seen = len(list(folder.glob("part-*.json")))
    process = start(*words)
    while process.poll() is None and len(list(folder.glob("part-*.json"))) < seen + parts:
        time.sleep(0.005)
    process.kill()
    process.wait()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_killed_predictions_continue_to_the_same_bytes(run, molecules, tmp_path):
    """Finished portions are not repeated: their files keep their times."""
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    words = ["predict", run, molecules[0], "data.rows_per_shard=4", "train.threads=1", "-o"]
    mmgnn(*words, whole)
    kill_after(2, out, *words, out)
    assert not out.exists()
    first = out.with_name("out.csv.partial") / "part-00000.csv"
    written = first.stat().st_mtime_ns
    kill_after(3, out, *words, out)
    assert first.stat().st_mtime_ns == written
    (first.parent / "job.json").unlink()  # of what the parts are is not known then
    mmgnn(*words, out)
    assert digest(out) == digest(whole) and not list(tmp_path.glob("*.partial"))
    assert digest(tmp_path / "out.set_aside.parquet") == digest(tmp_path / "whole.set_aside.parquet")


@pytest.mark.slow
def test_twenty_kills_and_two_processes_give_the_same_bytes(run, few_shards, sample, tmp_path):
    pq.write_table(pq.read_table(sample).slice(0, 800), tmp_path / "some.parquet")
    words = ["predict", run, tmp_path / "some.parquet", "data.rows_per_shard=10", "train.threads=1", "-o"]
    mmgnn(*words, tmp_path / "whole.csv")
    chance = random.Random(1)
    for kill in range(20):
        two = ("--nproc", "2") if kill % 2 else ()
        kill_after(chance.randrange(1, 6), tmp_path / "out.csv", *words, tmp_path / "out.csv", *two)
    mmgnn(*words, tmp_path / "out.csv", "--nproc", "2")
    assert digest(tmp_path / "out.csv") == digest(tmp_path / "whole.csv")
    for count, out in ((1, tmp_path / "one.parquet"), (2, tmp_path / "two.parquet")):
        mmgnn(*words[:2], few_shards.path, *words[3:], out, "--nproc", count)
    assert digest(tmp_path / "one.parquet") == digest(tmp_path / "two.parquet")


def test_a_dry_run_tells_what_a_prediction_takes(run, sample, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(sample), "-o", str(out), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == pq.read_metadata(sample).num_rows and told["portions"] == 1
    assert told["seconds"] == pytest.approx(told["rows"] / told["rate"]) and told["bytes"] > 50 * told["rows"]
    assert not list(tmp_path.iterdir())
