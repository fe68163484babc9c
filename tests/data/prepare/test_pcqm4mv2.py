"""PCQM4Mv2 in its layout through the real preparation: geometries, labels, and its own split."""

import gzip

import numpy as np
import pyarrow.parquet as pq
import pytest
from pcqm_files import gap_of, write_pcqm4mv2
from rdkit import Chem

from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.errors import UserError

TRAIN, VALID, TEST = 60, 5, 7
DATA = DataConfig(rows_per_shard=16, max_bad_fraction=0.5)


@pytest.mark.usefixtures("ray_once")
def test_the_published_parts_are_a_split(tmp_path):
    archive = write_pcqm4mv2(tmp_path / "raw", TRAIN, VALID, TEST)
    _spoil(tmp_path / "raw/data.csv.gz", {7: "C"})  # another molecule than the record
    _spoil(tmp_path / "raw/data.csv.gz", {60: "CCCCO", 61: "CCCCN", 62: "COC", 63: "CC=O", 64: "C=C"})
    result = prepare([str(archive)], tmp_path / "set", data=DATA)
    assert result.counts["in"] == TRAIN + VALID and result.counts["reasons"].popitem()[1] == 1
    [aside] = pq.read_table(tmp_path / "set/quarantine.parquet").to_pylist()
    assert (aside["id"], aside["row"]) == ("pcqm4mv2-0000007", 7) and "other atoms" in aside["detail"]
    shards = ShardSet.open(tmp_path / "set")
    ids = shards.column("id").to_pylist()
    rows = [int(name.removeprefix("pcqm4mv2-")) for name in ids]
    assert rows == [row for row in range(TRAIN + VALID) if row != 7]
    y = np.concatenate([shard.y for shard in shards.shards])
    assert list(shards.targets) == ["gap"] and y.ravel() == pytest.approx([gap_of(row) for row in rows])
    split = load_split(shards, "pcqm4mv2")
    assert [rows[place] for place in split["val"]] == list(range(TRAIN, TRAIN + VALID))
    assert all(rows[place] < TRAIN for part in ("train", "test") for place in split[part])
    keys = shards.column("inchikey").to_pylist()
    assert not {keys[k] for k in split["test"]} & {keys[k] for part in ("train", "val") for k in split[part]}
    counts = [len(z) for z in shards.column("z").to_pylist()]
    smiles = shards.column("smiles").to_pylist()
    assert counts == [Chem.AddHs(Chem.MolFromSmiles(text)).GetNumAtoms() for text in smiles]
    notes = " ".join(result.notes)
    assert f"{TEST} molecules of its test parts have no gap" in notes
    assert f"{VALID} more its validation part, with conformers" in notes


def test_folder_and_words_mean_the_same_two_sources(tmp_path):
    archive = write_pcqm4mv2(tmp_path / "raw", 6, 2)
    labels = archive.with_name("data.csv.gz")
    for words in ([archive.parent], [archive], [archive, labels], [labels, archive]):
        sources = find_sources([str(word) for word in words], {})
        assert [(source.part, source.rows) for source in sources] == [("train", 6), ("val", 2)]


def test_labels_that_do_not_fit_are_refused(tmp_path):
    archive = write_pcqm4mv2(tmp_path, 4)
    content = gzip.decompress((tmp_path / "data.csv.gz").read_bytes()).decode().splitlines()
    for lines, says in (
        (content[:-1], "has 3 molecules and"),
        ([content[0], *content[2:]], "row 0 is not idx 0"),
    ):
        (tmp_path / "data.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
        with pytest.raises(UserError, match=says):
            find_sources([str(archive)], {})


def _spoil(path, smiles):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    for row, text in smiles.items():
        idx, _, gap = lines[row + 1].split(",")
        lines[row + 1] = f"{idx},{text},{gap}"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
