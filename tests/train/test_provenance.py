"""A run stays with the recipe, the molecules and the split that it was begun with, at every door."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from command_line import mmgnn, write_recipe
from small_set import make_set

from mmgnn_dist import __version__
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.errors import UserError
from mmgnn_dist.train import provenance
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.run import run as train_rank

WORDS = ["targets=[gap]", "model.modality=graph", "train.max_steps=2"]
SWEEP = "sweep={samples: 1, space: {train.optim.lr: {kind: float, low: 1.0e-4, high: 1.0e-2}}}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Recipe and run directory of a finished run."""
    folder = tmp_path_factory.mktemp("origin")
    make_split(make_set(folder / "shards"))
    recipe = write_recipe(folder, folder / "shards")
    mmgnn("train", recipe, "--run", folder / "run", *WORDS)
    return recipe, folder / "run"


@pytest.fixture
def run(trained):
    """The run directory; shards, split and run are as they were afterwards."""
    folder = trained[1].parent
    kept = {name: shutil.copytree(folder / name, folder / f"{name}.kept") for name in ("run", "shards")}
    yield folder / "run"
    for name, copy in kept.items():
        shutil.rmtree(folder / name)
        copy.rename(folder / name)


def draw_anew(run: Path) -> None:
    (run.parent / "shards" / "splits" / "random.parquet").unlink()
    assert main(["data", "split", str(run.parent / "shards"), "--seed", "7"]) == 0


def prepare_anew(run: Path) -> None:
    split = (run.parent / "shards" / "splits" / "random.parquet").read_bytes()
    shutil.rmtree(run.parent / "shards")
    made = make_set(run.parent / "shards", seed=1)
    (made.path / "splits").mkdir()
    (made.path / "splits" / "random.parquet").write_bytes(split)


def refused(capsys, told: str, *words: object) -> None:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mmgnn: ") and told in error and "another directory" in error


@pytest.mark.parametrize(
    ("change", "told"), [(draw_anew, "another split 'random' (fold 0)"), (prepare_anew, "another content of")]
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_data_under_the_same_name_is_refused(trained, run, capsys, change, told, finished):
    change(run)
    if not finished:
        (run / "metrics.json").unlink()
    refused(capsys, told, "train", trained[0], "--run", run, *WORDS)
    refused(capsys, told, "evaluate", run)
    with pytest.raises(UserError, match="was made with another"):  # as a job that is requeued
        train_rank(run, quiet=True)
    sweep = run.parent / "sweep"
    shutil.copytree(run, sweep / "trials" / "000")
    try:
        refused(capsys, told, "sweep", trained[0], "--dir", sweep, *WORDS, SWEEP)
    finally:
        shutil.rmtree(sweep)


def test_targets_without_error_or_label_are_shown(trained, tmp_path, capsys):
    """A constant target, of which the mean predictor makes no error, and one without a label in the data."""
    recipe, run = trained
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["baselines"] = dict.fromkeys(metrics["baselines"], 0.0)
    shutil.copytree(run, tmp_path / "constant")
    (tmp_path / "constant" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["train", str(recipe), "--run", str(tmp_path / "constant"), *WORDS]) == 0
    empty = make_set(tmp_path / "shards", (20,), gaps=1.0)
    assert main(["evaluate", str(run), "--data", str(empty.path)]) == 0
    assert re.search(r"test/mae/gap_eV +no label", capsys.readouterr().out)


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_in_the_place_of_the_run_is_refused(trained, tmp_path, capsys, below):
    (tmp_path / "file").write_text("mine")
    words = ["train", str(trained[0]), "--run", str(tmp_path / "file" / below), *WORDS]
    assert main(words) == 2
    assert "file is a file: give a directory" in capsys.readouterr().err.splitlines()[-1]


def test_a_recipe_that_was_edited_in_the_run_directory_is_refused(run, capsys):
    edited = load_recipe(run / "recipe.yaml", ["train.optim.lr=0.5"])
    edited.save(run / "recipe.yaml")
    refused(capsys, "another recipe", "train", run / "recipe.yaml", "--run", run)


def test_the_same_split_written_otherwise_is_the_same(trained, run, capsys):
    """Folds that are added later, or a file written by another version, are no other split."""
    assert main(["data", "split", str(run.parent / "shards"), "--folds", "3"]) == 0
    assert main(["train", str(trained[0]), "--run", str(run), *WORDS]) == 0


def test_runs_of_earlier_versions_are_taken_as_they_are(trained, run, capsys):
    (manifest,) = [
        folder / checkpoint.CHECKPOINT_MANIFEST for folder in checkpoint.complete(run / "checkpoints")
    ]
    for path in (run / "metrics.json", manifest):
        written = json.loads(path.read_text())
        for key in ("shards_sha256", "split_sha256"):
            del written[key]
        path.write_text(json.dumps(written))
    draw_anew(run)
    capsys.readouterr()
    assert main(["train", str(trained[0]), "--run", str(run), *WORDS, "--json"]) == 0
    assert "another" not in "".join(capsys.readouterr())


def test_versions_where_the_package_is_copied_and_not_installed(monkeypatch):
    """As in containers: the package has no metadata there."""

    def installed(name: str) -> str:
        if name == "mmgnn_dist":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(provenance, "version", installed)
    found = provenance.versions()
    assert found["mmgnn_dist"] == __version__ and found["torch"] == "1"
