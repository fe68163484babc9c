"""Replicates: one test part, and training and validation parts without a common molecule."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.replicates import TEST, TRAIN, UNUSED, VAL, ReplicateSizes, deal_replicates
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, split_info
from mmgnn_dist.errors import UserError

SIZES = ("--train", "60", "--val", "20", "--test", "100")


def split(shards, *options):
    return main(["data", "split", str(shards.path), "--kind", "replicates", *SIZES, *options])


def test_parts_have_their_sizes_and_share_nothing_but_the_test_part(few_shards, tmp_path, capsys):
    shards = ShardSet.open(shutil.copytree(few_shards.path, tmp_path / "copy"))
    assert split(shards, "--folds", "3", "--name", "three") == 0
    folds = [load_split(shards, "three", fold) for fold in range(3)]
    assert all([len(fold[part]) for part in ("train", "val", "test")] == [60, 20, 100] for fold in folds)
    assert all(np.array_equal(fold["test"], folds[0]["test"]) for fold in folds)
    own = np.concatenate([fold[part] for fold in folds for part in ("train", "val")])
    assert len(np.unique(np.concatenate([own, folds[0]["test"]]))) == 3 * 80 + 100
    settings = {"kind": "replicates", "seed": 42, "folds": 3, "group": "identity"}
    assert split_info(shards, "three") == settings | {"train": 60, "val": 20, "test": 100}
    # the same seed gives the same parts, and the first folds of more are those of fewer
    assert split(shards, "--folds", "2", "--name", "two") == 0
    assert split(shards, "--folds", "2", "--seed", "7", "--name", "seven") == 0
    for fold in range(2):
        found = load_split(shards, "two", fold)
        assert all(np.array_equal(found[part], folds[fold][part]) for part in found)
    assert not np.array_equal(load_split(shards, "seven")["test"], folds[0]["test"])
    capsys.readouterr()
    assert split(shards, "--folds", "30") == 2
    assert "30 replicates need 2500" in (error := capsys.readouterr().err) and "at most 3 --folds" in error
    assert main(["data", "split", str(shards.path), "--kind", "replicates", "--train", "9"]) == 2
    assert "give all of --train, --val and --test" in capsys.readouterr().err
    assert main(["data", "split", str(shards.path), *SIZES]) == 2
    assert "belong to --kind replicates" in capsys.readouterr().err


def test_a_group_is_never_divided():
    """Groups of one to three molecules: a group goes whole to one part of one fold, or to none."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(300), rng.integers(1, 4, 300))
    order = rng.permutation(300)
    folds = deal_replicates(codes, order, 4, ReplicateSizes(50, 10, 99), "SHARDS")
    for parts in folds:
        assert [(parts == part).sum() for part in (TRAIN, VAL, TEST)] == [50, 10, 99]
    places = np.array(folds)
    for group in range(300):
        assert (places[:, codes == group] == places[:, codes == group][:, :1]).all()
    used = places[:, places[0] != TEST] != UNUSED
    assert used.sum(0).max() == 1 and (places == TEST).all(0).sum() == 99
    with pytest.raises(UserError, match="every part has at least one"):
        deal_replicates(codes, order, 4, ReplicateSizes(50, 0, 99), "SHARDS")
