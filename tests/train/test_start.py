"""Warm start: a run begins where another one ended, and proves it before its first step."""

from __future__ import annotations

import json
import math

import pytest
from command_line import journal, mmgnn, write_recipe
from safetensors.torch import load_file

from mmgnn_dist.cli.main import main


@pytest.fixture(scope="module")
def source(few_shards, tiny_bert, tmp_path_factory):
    """The recipe, and a run of it that has seen a few steps."""
    folder = tmp_path_factory.mktemp("start")
    recipe = write_recipe(folder, few_shards.path, encoder=tiny_bert)
    mmgnn("train", recipe, "--run", folder / "source")
    return recipe, folder / "source"


def train(recipe, run, *words):
    mmgnn("train", recipe, "--run", run, "train.max_steps=1", "train.optim.warmup=0", *words)
    return json.loads((run / "start.json").read_text()), journal(run, "start_from")


def test_the_score_before_training_is_the_one_that_the_source_recorded(source, tmp_path):
    recipe, run = source
    record, lines = train(recipe, tmp_path / "again", f"train.start_from={run}", "train.seed=5")
    recorded = json.loads((run / "export" / "model.json").read_text())["score"]
    assert record["recorded"] == recorded
    assert record["score"] == pytest.approx(recorded, rel=1e-6)
    assert lines[0]["step"] == 0 and lines[0]["val/score"] == pytest.approx(recorded, rel=1e-6)
    assert record["parts"] == ["backbone", "text", "fusion", "readout"]


def test_a_new_target_starts_at_its_mean_and_the_others_at_the_errors_of_the_source(source, tmp_path):
    """The order of targets is another one; `lumo` has no read-out yet, and predicts the mean."""
    recipe, run = source
    validated = journal(run, "validation")[-1]
    words = ["targets=[energy, lumo, homo]", f"train.start_from={run}"]
    record, lines = train(recipe, tmp_path / "new", *words)
    assert record["recorded"] is None and record["targets"] == ["energy", "homo"]
    for name in ("val/mae/energy_eV", "val/mae/homo_eV"):
        assert lines[0][name] == pytest.approx(validated[name], rel=1e-5)
    weights = load_file(tmp_path / "new" / "export" / "model.safetensors")
    old = load_file(run / "export" / "model.safetensors")
    assert weights["scaler.reference"][:, 0].tolist() == old["scaler.reference"][:, 2].tolist()


def test_parts_are_chosen_and_what_does_not_fit_is_one_line(source, tmp_path, capsys):
    recipe, run = source
    record, lines = train(
        recipe,
        tmp_path / "graph",
        f"train.start_from={run}",
        "train.start_parts=[backbone]",
        "model.modality=graph",
    )
    assert (record["parts"], record["targets"]) == (["backbone"], [])
    assert math.isfinite(lines[0]["val/score"])
    for words, says in (
        ([f"train.start_from={tmp_path}/none"], "no trained model there"),
        (["train.start_parts=[backbone]"], "say what is taken of train.start_from: give it"),
        (
            [f"train.start_from={run}", "model.backbone.cutoff=4"],
            "model.backbone.cutoff is 5.0 there and 4.0 here",
        ),
        ([f"train.start_from={run}", "model.fusion=film"], "model.fusion is gate there and film here"),
        ([f"train.start_from={run}", "text.mode=lora"], "text.mode is full there and lora here"),
        (
            [f"train.start_from={run}", "model.modality=graph", "train.start_parts=[text]"],
            "train.start_parts has text, and this recipe has none",
        ),
    ):
        code = main(["train", str(recipe), "--run", str(tmp_path / "refused"), "--json", *words])
        error = capsys.readouterr().err.strip()
        assert code == 2 and says in error and "\n" not in error, error
    assert not (tmp_path / "refused").exists()
