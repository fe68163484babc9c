"""Loss and labels: weights, missing labels, in the function and through a whole run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import journal, metrics, write_recipe

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import TrainConfig, load_recipe
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.references import fit_references
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.train.loss import scaled_loss, target_weights
from mmgnn_dist.train.run import run

KINDS = {"l1": np.abs, "mse": np.square}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_the_weighted_mean_over_labels(kind):
    """A batch in two parts, its labels patchy, against a loop."""
    rng = np.random.default_rng(0)
    scaled, target, mask = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.random((9, 3)) < 0.6
    mask[:, 2] = False  # a target without any label in this batch
    weights = np.array([2.0, 0.5, 1.0])
    means = [KINDS[kind](scaled - target)[mask[:, t], t].mean() for t in (0, 1)]
    expected = (weights[:2] * means).sum() / weights.sum()
    arrays = [torch.from_numpy(array) for array in (scaled, target, mask)]
    labels = arrays[2].sum(0)
    found = sum(
        scaled_loss(kind, *(a[part] for a in arrays), labels, torch.from_numpy(weights))
        for part in (slice(0, 4), slice(4, 9))
    )
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_missing_label_has_no_gradient():
    scaled = torch.randn(4, 2, requires_grad=True)
    mask = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    target = torch.full((4, 2), 1e9)
    scaled_loss("mse", scaled, target, mask, mask.sum(0), torch.ones(2)).backward()
    assert torch.equal(scaled.grad != 0, mask)


def test_weights_follow_the_targets_order():
    config = TrainConfig(weights={"gap": 2.0})
    assert target_weights(["homo", "gap"], config).tolist() == [1.0, 2.0]


@pytest.fixture(scope="module")
def patchy(tmp_path_factory):
    """240 made molecules: half have no gap, none has a homo; r2 is that of charges."""
    rng = np.random.default_rng(1)
    z = [rng.choice([1, 6, 7, 8], rng.integers(3, 8)).tolist() for _ in range(240)]
    pos = [(1.4 * np.arange(3 * len(one)) % 7 + rng.normal(size=3 * len(one))).tolist() for one in z]
    columns = {
        "id": [f"made-{k:03d}" for k in range(240)],
        "atomic_numbers": z,
        "positions": pos,
        "energy": [float(-10.0 * sum(one) + rng.normal()) for one in z],
        "gap": [None if k % 2 else float(rng.normal(6, 1)) for k in range(240)],
        "homo": [-5.0 if k == 0 else None for k in range(240)],
        "r2": [float(sum(one) * 10 + rng.normal()) for one in z],
    }
    folder = tmp_path_factory.mktemp("patchy")
    units = '{"energy": "eV", "gap": "eV", "homo": "eV", "r2": "a0^2"}'
    pq.write_table(pa.table(columns).replace_schema_metadata({"mmgnn.units": units}), folder / "made.parquet")
    prepare([str(folder / "made.parquet")], folder / "set")
    # a split whose validation part has no gap at all
    parts = ["train" if k % 2 == 0 else "val" if k % 4 == 1 else "test" for k in range(240)]
    split = pa.table({"id": columns["id"], "fold_0": parts})
    pq.write_table(split, folder / "set" / "splits" / "unlucky.parquet")
    return ShardSet.open(folder / "set")


def recipe_for(folder, shards, *overrides):
    """A run directory with a small recipe of graphs alone."""
    base = ["model.modality=graph", "model.fusion=gate", "train.max_steps=8", "train.batch=32"]
    recipe = load_recipe(write_recipe(folder, shards.path), [*base, *overrides])
    (folder / "run").mkdir()
    recipe.save(folder / "run" / "recipe.yaml")
    return folder / "run"


def test_a_target_with_half_its_labels_trains_and_is_tested_on_them(patchy, tmp_path):
    """In one run with others; its scale, loss and error come from its labelled molecules alone."""
    words = ["targets=[energy, gap, r2]", "model.readout.gap=attention", "train.weights={gap: 3}"]
    folder = recipe_for(tmp_path, patchy, *words)
    assert run(folder, quiet=True) == 0
    table = pq.read_table(folder / "predictions.parquet")
    labelled = ~np.isnan(table["gap_true"].to_numpy())
    assert len(table) == 24 and 0 < labelled.sum() < 24
    own = np.array([int(name[-3:]) % 2 == 0 for name in table["id"].to_pylist()])
    assert np.array_equal(labelled, own)
    predicted = table["gap_pred"].to_numpy()
    assert np.isfinite(predicted).all()  # those without a label are predicted all the same
    error = np.abs(predicted - table["gap_true"].to_numpy())[labelled].mean()
    assert metrics(folder)["metrics"]["test/mae/gap_eV"] == pytest.approx(error, rel=1e-12)
    train = load_split(patchy, "random", 0)["train"]
    gaps = np.concatenate([shard.y for shard in patchy.shards])[train, patchy.targets.index("gap")]
    fitted = fit_references(patchy, train, ["gap"])
    assert (fitted.mean[0], fitted.std[0]) == pytest.approx((np.nanmean(gaps), np.nanstd(gaps)))
    score = journal(folder, "validation")[-1]["val/score"]
    assert 0 < score < 10


def test_one_target_alone_trains(patchy, tmp_path):
    folder = recipe_for(tmp_path, patchy, "targets=[r2]", "train.max_steps=2")
    assert run(folder, quiet=True) == 0
    assert list(metrics(folder)["metrics"]) == ["test/mae/r2_a0^2"]


def test_weights_move_the_loss(patchy, tmp_path):
    """The first loss of a run is the weighted mean of those of its targets alone."""
    losses = {}
    for name, words in {
        "gap": ["targets=[gap]"],
        "r2": ["targets=[r2]"],
        "both": ["targets=[gap, r2]", "train.weights={gap: 3}"],
    }.items():
        (tmp_path / name).mkdir()
        folder = recipe_for(tmp_path / name, patchy, *words, "train.max_steps=1")
        assert run(folder, quiet=True) == 0
        losses[name] = journal(folder)[0]["loss"]
    assert losses["both"] == pytest.approx((3 * losses["gap"] + losses["r2"]) / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["targets=[gap, homo]"], "target homo has"),
        (["targets=[gap]", "data.split=unlucky"], "no molecule of the validation part"),
        (["targets=[gap]", "model.readout.gap=sum"], "use mean or attention"),
        (["targets=[gap]", "train.weights={gpa: 2}"], "did you mean 'gap'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    patchy, tmp_path, capsys, overrides, says
):
    recipe = write_recipe(tmp_path, patchy.path)
    words = ["train", str(recipe), "--run", str(tmp_path / "run"), "model.modality=graph", *overrides]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("mmgnn:") == 1 and not (tmp_path / "run").exists()
