"""`mmgnn plan` as a user calls it, and its memory beside that of real runs of two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgnn_dist.cli import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.plan import _extend
from mmgnn_dist.train.launch import free_port

SMALL = """
name: planned
targets: [homo, gap]
data: {shards: %s}
text: {fields: [iupac_name], mode: full}
model:
  modality: both
  backbone: {name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 10, cutoff: 5.0}
train: {max_steps: 3, batch: 8, threads: 1, precision: fp32, checkpoint_every: 100, optim: {ema: 0.9}}
track: {wandb: disabled}
"""
# some 43 million random weights: more than all else that a rank holds
BIG = "text.random={num_hidden_layers: 4, hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12}"


@pytest.fixture
def recipe(sample_shards, tmp_path) -> Path:
    path = tmp_path / "planned.yaml"
    path.write_text(SMALL % sample_shards.path)
    return path


@pytest.fixture
def planned(recipe, capsys):
    """Call `mmgnn plan` and read its JSON."""

    def call(*words: object) -> dict:
        capsys.readouterr()
        assert main(["plan", str(recipe), "--json", *map(str, words)]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_stages_messages_and_what_fits(planned):
    found = planned("--world", 4, "--gpu-memory", 1.95, "--rate", 2.0)
    total, trained = found["parameters"], found["trainable"]
    assert total == trained > 22e6
    by = {(c["stage"], c["offload"]): c for c in found["choices"]}
    assert len(by) == 8
    peaks = [by[stage, "none"]["peak"] for stage in range(4)]
    assert peaks[0] > peaks[1] > peaks[2] > peaks[3]
    assert by[3, "parameters"]["peak"] < by[3, "optimizer"]["peak"] < peaks[3]
    assert by[0, "none"]["bytes"]["weights"] == 4 * total and by[0, "none"]["host"] == 0
    assert by[1, "optimizer"]["host"] == pytest.approx(12 * trained / 4)
    # a ring sends each of W parts W - 1 times, once to add and once to spread
    assert by[0, "none"]["sent_per_step"] == by[2, "none"]["sent_per_step"] == 2 * 4 * trained * 3 // 4
    assert by[3, "none"]["sent_per_step"] == 3 * 4 * trained * 3 // 4
    assert found["smallest"]["stage"] == next(s for s in range(4) if by[s, "none"]["fits"])
    assert found["seconds_per_step"] == pytest.approx(found["flop_per_step_and_rank"] / 2e12)
    assert found["checkpoint_bytes"]["stage 0"] == 16 * trained  # 363 MB for MiniLM, as measured


def test_small_models_are_told_that_zero_buys_nothing(recipe, planned, capsys):
    found = planned("model.modality=graph", "--world", 8, "--gpu-memory", 40)
    assert len(found["warnings"]) == 1 and "ZeRO buys nothing" in found["warnings"][0]
    assert found["smallest"]["stage"] == 0 and found["seconds_per_step"] > 0
    assert "nothing fits" in planned("--gpu-memory", 0.5)["warnings"][-1]
    assert main(["plan", str(recipe), "model.modality=graph", "--world", "2"]) == 0
    shown = capsys.readouterr().out
    assert "stage" in shown and "ZeRO buys nothing" in shown
    assert main(["plan", str(recipe), "--world", "0"]) == 2 and "above 0" in capsys.readouterr().err


def test_a_large_encoder_is_extended_from_two_layers(planned, monkeypatch):
    whole = planned(BIG)
    monkeypatch.setattr("mmgnn_dist.plan.LARGE", 1)
    extended = planned(BIG)
    assert extended["extrapolated"] and not whole["extrapolated"]
    assert extended["parameters"] == whole["parameters"]
    assert extended["flop_per_step_and_rank"] == pytest.approx(whole["flop_per_step_and_rank"], rel=1e-6)
    assert extended["choices"][0]["peak"] == pytest.approx(whole["choices"][0]["peak"], rel=1e-3)
    assert _extend({"a": 3, "b": {"c": 1.0}, "d": "x"}, {"a": 5, "b": {"c": 1.5}, "d": "x"}, 4) == {
        "a": 9, "b": {"c": 2.5}, "d": "x",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_peak_memory_of_two_processes(recipe, planned, tmp_path, stage):
    """Within 20 % of what is measured, where the model is most of what a rank holds."""
    predicted = planned(BIG, "--world", 2)["choices"][stage]["peak"]
    (tmp_path / "run").mkdir()
    load_recipe(recipe, [BIG, f"train.zero_stage={stage}"]).save(tmp_path / "run" / "recipe.yaml")
    port, ranks = free_port(), []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        words = [sys.executable, str(Path(__file__).parent / "train" / "peak_rank.py"), str(tmp_path / "run")]
        environment = os.environ | {name: str(value) for name, value in place.items()}
        ranks.append(subprocess.Popen(words, env=environment))
    assert [rank.wait(timeout=500) for rank in ranks] == [0, 0]
    measured = [json.loads((tmp_path / "run" / f"peak_rank_{rank}.json").read_text()) for rank in range(2)]
    print(f"stage {stage}: predicted {predicted / 1e6:.0f} MB, measured {[m / 1e6 for m in measured]}")
    for grown in measured:
        assert predicted == pytest.approx(grown, rel=0.2)
