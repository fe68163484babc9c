"""Under a umask that lets everybody write, nothing that the verbs write is open to group or others."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import write_recipe
from listeners import open_to_others

import mmgnn_dist.sample
from mmgnn_dist.cli.main import main


@pytest.fixture
def open_umask():
    previous = os.umask(0)
    yield
    os.umask(previous)


def do(*words: object) -> None:
    os.umask(0)
    assert main([str(word) for word in words]) == 0


@pytest.mark.slow
def test_nothing_is_open_to_others(open_umask, tiny_bert, tmp_path):
    """Preparation, training with W&B, a study, export, prediction, evaluation, a report."""
    (bundled,) = mmgnn_dist.sample.__path__
    table = pq.read_table(f"{bundled}/molecules.parquet")
    os.umask(0o022)
    base = tmp_path / "all"
    base.mkdir()
    pq.write_table(table.slice(0, 120), base / "source.parquet")
    do("data", "prepare", base / "source.parquet", "--to", base / "shards")
    do("data", "split", base / "shards", "--kind", "kfold", "--folds", 3)
    recipe = write_recipe(tmp_path, base / "shards", encoder=tiny_bert)
    do("train", recipe, "--run", base / "run", "train.max_steps=3", "track.wandb=offline")
    do("export", base / "run", base / "model")
    do("predict", base / "model", base / "source.parquet", "-o", base / "new" / "out.csv")
    do("evaluate", base / "run", "--data", base / "shards")
    assert {path.name for path in base.iterdir()} == {"source.parquet", "shards", "run", "model", "new"}
    assert (base / "run" / "checkpoints").is_dir() and list(base.glob("run/wandb/offline-run-*"))
    assert open_to_others(Path(base)) == []
