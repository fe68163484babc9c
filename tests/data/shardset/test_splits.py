import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_atoms import with_real_atoms

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.groups import scaffold_groups
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, make_split, split_info, split_sha256
from mmgnn_dist.errors import UserError


@pytest.fixture
def shards(sample_shards, tmp_path):
    return ShardSet.open(shutil.copytree(sample_shards.path, tmp_path / "copy"))


def test_the_default_split_is_disjoint_and_complete(sample_shards):
    parts = load_split(sample_shards, "random", 0)
    rows = np.concatenate(list(parts.values()))
    assert np.array_equal(np.sort(rows), np.arange(sample_shards.rows))
    assert all(np.all(np.diff(part) > 0) for part in parts.values())
    shares = [len(parts[name]) / sample_shards.rows for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert split_info(sample_shards, "random") == {
        "kind": "random",
        "seed": 42,
        "folds": 1,
        "group": "identity",
    }


def test_every_molecule_is_tested_once_in_a_kfold(shards):
    make_split(shards, "kfold", folds=3)
    folds = [load_split(shards, "kfold", fold) for fold in range(3)]
    tested = np.concatenate([fold["test"] for fold in folds])
    assert np.array_equal(np.sort(tested), np.arange(shards.rows))
    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate(list(fold.values()))), np.arange(shards.rows))
        assert len(fold["val"]) == pytest.approx(shards.rows * 2 / 30, abs=3)


def test_folds_and_seeds_differ_and_repeat(shards):
    make_split(shards, "random", folds=2, name="a")
    make_split(shards, "random", folds=2, name="b")
    make_split(shards, "random", folds=2, seed=7, name="c")
    a0, a1 = (load_split(shards, "a", fold)["test"] for fold in (0, 1))
    assert np.array_equal(a0, load_split(shards, "b", 0)["test"])
    assert len(np.intersect1d(a0, a1)) < len(a0) / 2
    assert len(np.intersect1d(a0, load_split(shards, "c", 0)["test"])) < len(a0) / 2


def test_an_identity_never_straddles_and_order_does_not_matter(columns, save, tmp_path):
    made = columns(400)
    made["inchikey"] = [f"{'ABCDEFGHIJKLM'}{chr(65 + k // 3 % 26)}-{'ABCDEFGHSA'}-N" for k in range(400)]
    made["inchikey"][::5] = [None] * 80
    units = '{"energy": "eV", "gap": "eV"}'
    backwards = {name: values[::-1] for name, values in made.items()}
    tested = []
    for name, table in (("forth", made), ("back", backwards)):
        prepare([str(save(table, f"{name}.parquet", units=units))], tmp_path / name)
        shards = ShardSet.open(tmp_path / name)
        make_split(shards, "kfold", folds=3)
        keys = shards.column("inchikey").to_pylist()
        for split, fold in (("random", 0), ("kfold", 0), ("kfold", 1), ("kfold", 2)):
            parts = load_split(shards, split, fold)
            groups = [{keys[row][:14] for row in part if keys[row]} for part in parts.values()]
            assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
        tested.append(set(shards.ids(load_split(shards, "random", 0)["test"])))
    assert tested[0] == tested[1]


def test_conformers_without_a_key_stay_together(columns, save, tmp_path, capsys):
    """Of 40 molecules with five conformers each, spelled in two ways; `nan` is no key."""
    from rdkit import Chem

    made = columns(200)
    names = [Chem.CanonSmiles("C" * (1 + k // 4) + "OCNF"[k % 4]) for k in range(40)]
    backwards = [Chem.MolToSmiles(Chem.MolFromSmiles(name), rootedAtAtom=len(name) - 1) for name in names]
    assert backwards[3] != names[3]
    made["smiles"] = [names[k % 40] if k % 3 else backwards[k % 40] for k in range(200)]
    made["inchikey"] = ["nan"] * 100 + [None] * 100
    made = with_real_atoms(made)
    result = prepare([str(save(made, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "set")
    assert not any("id alone" in line for line in result.lines)
    shards = ShardSet.open(tmp_path / "set")
    assert shards.manifest["identities"] == {"inchikey": 200, "smiles": 0, "id": 0, "distinct": 40}
    expected = [Chem.MolToInchiKey(Chem.MolFromSmiles(names[k % 40])) for k in range(200)]
    assert shards.column("inchikey").to_pylist() == expected
    for kind, number in (("random", 1), ("kfold", 3)):
        make_split(shards, kind, number)
        for fold in range(number):
            sets = [{expected[row] for row in part} for part in load_split(shards, kind, fold).values()]
            assert sum(map(len, sets)) == 40
    assert main(["data", "audit", str(tmp_path / "set")]) == 0
    assert "cannot be told" not in capsys.readouterr().out


def test_molecules_known_by_id_alone_are_told(columns, save, tmp_path, capsys):
    made = columns(60)
    made["smiles"] = ["not a SMILES"] * 30 + [None] * 30  # the first go together all the same
    result = prepare([str(save(made, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "set")
    said = "\n".join(result.lines)
    assert (
        "30 molecules have neither InChIKey nor SMILES" in said and "30 molecules without InChIKey go" in said
    )
    shards = ShardSet.open(tmp_path / "set")
    together = [len({*part} & {*range(30)}) for part in load_split(shards, "random").values()]
    assert sorted(together) == [0, 0, 30]
    assert main(["data", "audit", str(tmp_path / "set"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["by_id_alone"] == 30 and sum(o["of"] for o in told["overlaps"] if o["way"] == "identity") <= 60
    )
    with pytest.raises(UserError, match="has no scaffold"):
        make_split(shards, "scaffold")


@pytest.mark.parametrize("number", [1, 2])
def test_too_few_molecules_to_split_are_prepared(columns, save, tmp_path, number):
    made = columns(20)
    made["smiles"] = ["CCO", "CCN"][:number] * (20 // number)
    made = with_real_atoms(made)
    result = prepare([str(save(made, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "set")
    assert result.counts["kept"] == 20
    assert f"no split: {number} distinct molecules, a split takes 3" in result.lines
    shards = ShardSet.open(tmp_path / "set")
    with pytest.raises(UserError, match="too few to split"):
        make_split(shards)


def test_wrong_splits_are_the_users_error(shards):
    for call, message in [
        (lambda: load_split(shards, "randon"), "no split 'randon' .did you mean 'random'"),
        (lambda: load_split(shards, "random", 3), "no fold 3"),
        (lambda: make_split(shards, "rnd"), "unknown kind"),
        (lambda: make_split(shards, "kfold", folds=2), "3 folds or more"),
        (lambda: make_split(shards, group="x"), "unknown grouping"),
        (lambda: make_split(shards, name="../x"), "no name for a split"),
        (lambda: make_split(shards, "scaffold", group="none"), "keeps identities together"),
        (lambda: make_split(shards, "size", folds=3), "one fold, not 3"),
        (lambda: make_split(shards, seed=-1), "seed of a split is a whole number from 0"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_splits_made_by_hand(shards):
    ids = shards.ids().tolist()
    path = shards.path / "splits" / "mine.parquet"

    def write(names, parts):
        pq.write_table(pa.table({"id": names, "fold_0": parts}), path)

    parts = ["train", "val", "test"] * (len(ids) // 3) + ["train"] * (len(ids) % 3)
    write(ids[::-1], parts[::-1])  # any order will do
    assert load_split(shards, "mine")["val"].tolist() == [k for k, p in enumerate(parts) if p == "val"]
    write(ids, ["train"] * len(ids))
    with pytest.raises(UserError, match="empty split: part 'val'"):
        load_split(shards, "mine")
    write([*ids[:-2], "a", "b", "c"], [*parts, "train"])
    with pytest.raises(UserError, match="2 of the shard set are not in it, 3 of it are not"):
        load_split(shards, "mine")
    write(ids, ["trian", *parts[1:]])
    with pytest.raises(UserError, match="values other than"):
        load_split(shards, "mine")


def test_a_scaffold_never_straddles(shards):
    """Scaffolds found again with RDKit's own function; identities and draws as in a random split."""
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    make_split(shards, "scaffold", folds=2)
    names = [MurckoScaffoldSmiles(smiles) for smiles in shards.column("smiles").to_pylist()]
    keys = [key[:14] for key in shards.column("inchikey").to_pylist()]
    tested = []
    for fold in range(2):
        parts = load_split(shards, "scaffold", fold)
        assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(shards.rows))
        for labels in (names, keys):
            seen = [{labels[row] for row in part if labels[row]} for part in parts.values()]
            assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
        tested.append(parts["test"])
        acyclic = [row for row in parts["test"] if not names[row]]
        assert acyclic  # chains are dealt out one by one, not all to one part
        assert len(parts["test"]) > 0.05 * shards.rows
    assert len(np.intersect1d(*tested)) < len(tested[0]) / 2


def test_linked_scaffolds_stay_together(columns, save, tmp_path):
    """Tautomers of one identity with two scaffolds tie both scaffolds' molecules to each other."""
    made = columns(90)
    made["smiles"] = [["c1ccccc1", "C1CCCCC1", "CCO"][k % 3] for k in range(90)]
    made["inchikey"] = [f"{chr(65 + k // 26)}{chr(65 + k % 26)}{'X' * 12}-UHFFFAOYSA-N" for k in range(90)]
    made = with_real_atoms(made)
    make = str(save(made, units='{"energy": "eV", "gap": "eV"}'))
    prepare([make], tmp_path / "apart")
    made["inchikey"][1] = made["inchikey"][0]
    prepare([str(save(made, "b.parquet", units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "linked")
    rings = {"apart": 2, "linked": 1}
    for name, number in rings.items():
        shards = ShardSet.open(tmp_path / name)
        groups = scaffold_groups(shards).indices.to_numpy()
        assert len(set(groups)) == number + 30
        assert len(set(groups[::3])) == len(set(groups[1::3])) == 1
        assert (groups[0] == groups[1]) == (name == "linked")


def test_size_splits_extrapolate(shards):
    make_split(shards, "size")
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])
    parts = {name: atoms[rows] for name, rows in load_split(shards, "size").items()}
    assert parts["train"].max() < parts["val"].min() and parts["val"].max() < parts["test"].min()
    assert [len(part) / shards.rows for part in parts.values()] == pytest.approx([0.8, 0.1, 0.1], abs=0.08)
    assert split_info(shards, "size")["kind"] == "size"


def test_size_splits_need_three_sizes(columns, save, tmp_path):
    made = columns(30)
    made["atomic_numbers"] = [z[:3] for z in made["atomic_numbers"]]
    made["positions"] = [pos[:9] for pos in made["positions"]]
    prepare([str(save(made, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "set")
    with pytest.raises(UserError, match="molecules of 1 sizes"):
        make_split(ShardSet.open(tmp_path / "set"), "size")


def test_a_split_that_runs_may_have_learned_from_is_not_replaced(shards, capsys):
    words = ["data", "split", str(shards.path)]
    path = shards.path / "splits" / "random.parquet"
    before = path.stat().st_mtime_ns
    assert main([*words, "--seed", "7"]) == 2
    error = capsys.readouterr().err
    assert "another split 'random'" in error and "--name" in error and error.count("\n") == 1
    assert main(words) == 0 and "up to date" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    old = split_sha256(load_split(shards, "random"))
    assert main([*words, "--folds", "3"]) == 0 and "written" in capsys.readouterr().out
    assert split_sha256(load_split(shards, "random")) == old  # folds are added, the one that stood is kept
    assert main([*words, "--folds", "2"]) == 2  # one would go
    assert main([*words, "--seed", "7", "--name", "seven"]) == 0
    assert split_sha256(load_split(shards, "seven")) != old
    path.write_bytes(path.read_bytes()[:-50])
    assert main([*words, "--seed", "7"]) == 0  # of no use to anyone: made again
