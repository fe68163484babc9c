"""A run gives up tabulated filters when they become inexact, notes it, and continues so after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import journal
from worlds import BASE

from mmgnn_dist.config import load_recipe
from mmgnn_dist.files import read_json
from mmgnn_dist.models.backbones.schnet import SchNet
from mmgnn_dist.models.table_watch import TableWatch
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train import run as entry
from mmgnn_dist.train.checkpoint.train_state import TrainState

WORDS = ["model.modality=graph", "train.max_steps=6", "train.checkpoint_every=2", "train.keep_checkpoints=9"]


def train(folder: Path, shards: Path, *words: str) -> RunDir:
    folder.mkdir(exist_ok=True)
    load_recipe(None, [*BASE, f"data.shards={shards}", *WORDS, *words]).save(folder / "recipe.yaml")
    assert entry.run(folder, quiet=True) == 0
    return RunDir(folder)


def states(run: RunDir) -> dict[int, bool]:
    """Whether each checkpoint says that filters are tabulated."""
    folders = run.checkpoints.glob("step_*")
    return {int(f.name.split("_")[1]): read_json(f / "state.json")["tables"] for f in folders}


def test_a_run_goes_on_directly_and_continues_so(small_shards, tmp_path, monkeypatch):
    forms = []
    features = SchNet.features

    def noting(self, graph):
        if self.training:
            forms.append(self.tabulated)
        return features(self, graph)

    monkeypatch.setattr(SchNet, "features", noting)
    monkeypatch.setattr(TableWatch, "exceeded", lambda self, step: step == 2 and self._backbone.tabulated)
    run = train(tmp_path / "run", small_shards)
    assert forms == [True] * 3 + [False] * 3
    (line,) = journal(run.path, "direct")
    assert line["step"] == 3 and "computed directly" in line["why"]
    assert states(run) == {2: True, 4: False, 6: False}
    losses = [line["loss"] for line in journal(run.path)]

    # from the checkpoint before: the same steps and the same line again; from the one after: directly at once
    for step, expected in ((2, [True, False, False, False]), (4, [False, False])):
        forms.clear()
        run.metrics.unlink()
        for folder in run.checkpoints.glob("step_*"):
            if int(folder.name.split("_")[1]) > step:
                for path in sorted(folder.rglob("*"), reverse=True):
                    path.unlink() if path.is_file() else path.rmdir()
                folder.rmdir()
        assert entry.run(run.path, quiet=True) == 0
        assert forms == expected
        assert len(journal(run.path, "direct")) == 1
        assert [line["loss"] for line in journal(run.path)] == losses


def test_older_states_and_direct_recipes_have_no_tables(small_shards, tmp_path):
    old = TrainState(tables=True).values()
    del old["tables"]
    assert TrainState(**old).tables is False
    run = train(tmp_path / "run", small_shards, "model.radial=direct", "train.max_steps=2")
    assert states(run) == {2: False}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
