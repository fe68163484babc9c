"""The audit through the command line: overlaps that were planted are counted, and fail above a threshold."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.groups import NONE, text_hashes
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import make_split


@pytest.fixture
def shards(sample_shards, tmp_path):
    return ShardSet.open(shutil.copytree(sample_shards.path, tmp_path / "copy"))


def run(capsys, *words):
    code = main(["data", "audit", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_what_is_shared_is_counted(shards, capsys):
    make_split(shards, "scaffold")
    code, out, _ = run(capsys, shards.path, "--json")
    assert code == 0
    found = {
        (o["split"], o["way"], o["first"], o["second"]): o
        for o in json.loads(out)["overlaps"]
        if o["fold"] == 0
    }
    assert len(found) == 2 * 3 * 3
    assert all(o["molecules"] == 0 for key, o in found.items() if key[1] == "identity")
    assert all(o["molecules"] == 0 for key, o in found.items() if key[:2] == ("scaffold", "scaffold"))
    # counted again without any hash
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    table = pq.read_table(shards.path / "splits" / "random.parquet")
    parts = np.array(table["fold_0"].to_pylist())
    names = np.array([MurckoScaffoldSmiles(s) for s in shards.column("smiles").to_pylist()])
    train = set(names[parts == "train"]) - {""}
    test = [name for name in names[parts == "test"] if name]
    overlap = found["random", "scaffold", "train", "test"]
    assert (overlap["of"], overlap["molecules"]) == (len(test), sum(name in train for name in test))
    assert overlap["groups"] == len(train & set(test)) and overlap["share"] == overlap["molecules"] / len(
        test
    )


def test_a_planted_identity_fails(columns, save, tmp_path, capsys):
    made = columns(60)
    made["inchikey"] = [f"{chr(65 + k // 26)}{chr(65 + k % 26)}{'X' * 12}-UHFFFAOYSA-N" for k in range(60)]
    made["inchikey"][41] = made["inchikey"][7][:14] + "-ABCDEFGHSA-N"
    path = save(made, units='{"energy": "eV", "gap": "eV"}')
    prepare([str(path)], tmp_path / "set")
    assert run(capsys, tmp_path / "set")[0] == 0
    parts = ["train" if k < 40 else "test" if k < 50 else "val" for k in range(60)]
    table = pa.table({"id": made["id"], "fold_0": parts})
    pq.write_table(table, tmp_path / "set" / "splits" / "mine.parquet")
    code, out, err = run(capsys, tmp_path / "set", "--split", "mine")
    assert code == 2 and "identity" in out and err.count("\n") == 1
    said = "mine fold 0: 1 of 10 molecules of test share their identity with train (allowed 0)"
    assert err.startswith(f"mmgnn: {said}")
    assert run(capsys, tmp_path / "set", "--max-identity", "0.5")[0] == 0


def test_a_split_that_cannot_be_read_is_one_line(shards, capsys):
    (shards.path / "splits" / "mine.parquet").write_bytes(b"no parquet")
    for verb in ("audit", "inspect"):
        assert main(["data", verb, str(shards.path)]) == 2
        assert "mine.parquet cannot be read: make it again" in capsys.readouterr().err


def test_thresholds_and_fields(shards, capsys):
    code, _, err = run(capsys, shards.path, "--max-scaffold", "0.01")
    assert code == 2 and "scaffold" in err
    code, out, _ = run(capsys, shards.path, "--json", "--fields", "h_bond_donor_count")
    text = [o for o in json.loads(out)["overlaps"] if o["way"] == "text"]
    assert code == 0 and all(o["share"] > 0.9 and o["groups"] < 10 for o in text)
    assert run(capsys, shards.path, "--max-text", "0.5", "--fields", "h_bond_donor_count")[0] == 2
    code, _, err = run(capsys, shards.path, "--fields", "iupac")
    assert code == 2 and "did you mean 'iupac_name'" in err
    code, _, err = run(capsys, shards.path, "--split", "randon")
    assert code == 2 and "did you mean 'random'" in err
    shutil.rmtree(shards.path / "splits")
    assert "has no split" in run(capsys, shards.path)[2]


def test_texts_are_equal_where_all_fields_are(shards):
    rows = shards.column("iupac_name").to_pylist()
    columns = [
        [str(v) for v in (shards.column("synonyms").to_pylist())],
        [str(v) for v in shards.column("title").to_pylist()],
        rows,
        [str(v) for v in shards.column("molecular_formula").to_pylist()],
        [str(v) for v in shards.column("context").to_pylist()],
    ]
    whole = ["|".join(map(str, row)) for row in zip(*columns, strict=True)]
    hashes = text_hashes(shards, TEXT_FIELDS)
    assert len(set(hashes.tolist())) == len(set(whole))
    name = text_hashes(shards, ["iupac_name"])
    assert [h == NONE for h in name] == [row is None for row in rows]
    assert len(set(name.tolist()) - {int(NONE)}) == len(set(rows) - {None})
