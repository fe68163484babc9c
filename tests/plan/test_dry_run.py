"""`mmgnn train RECIPE --dry-run` as a user calls it, and its memory against DeepSpeed's own tensors."""

from __future__ import annotations

import json

import pytest
import torch
from command_line import write_recipe

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.models.cost import BRANCHES
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.plan.dry_run import memory
from mmgnn_dist.plan.dry_run_table import scaled
from mmgnn_dist.train.engine import BatchPlan, make_engine
from mmgnn_dist.train.ranks import init_distributed

WIDTH = {"schnet": 16, "painn": 16, "dimenetpp": 16, "equiformer": "[8, 4, 2]", "faenet": 24}


@pytest.fixture
def summary(sample_shards, tmp_path, capsys):
    """Call the dry run and read its JSON; it must leave nothing behind."""

    def call(*words: str, mode: str = "full") -> list[dict]:
        recipe = write_recipe(tmp_path, sample_shards.path, mode)
        run = tmp_path / "run"
        capsys.readouterr()
        assert main(["train", str(recipe), "--run", str(run), "--dry-run", "--json", *words]) == 0
        assert not run.exists()
        return json.loads(capsys.readouterr().out)["runs"]

    return call


@pytest.mark.parametrize("name", WIDTH)
def test_every_backbone(summary, name):
    words = ["model.modality=graph", f"model.backbone={{name: {name}, hidden: {WIDTH[name]}}}"]
    (found,) = summary(*words)
    model = FusedModel(load_recipe(None, words), ["mean", "mean", "sum"], None)
    count = sum(p.numel() for p in model.parameters())
    assert found["parameters"]["all"] == {"total": count, "trainable": count}
    assert list(found["parameters"]) == ["backbone", "fusion", "readout", "all"]
    held, flop = found["memory_bytes_per_rank"], found["flop"]
    assert held["weights"] == 4 * count and held["optimizer"] == 8 * count
    assert held["activations"] > 1000 and held["peak"] == sum(held.values()) - held["peak"]
    by_branch = flop["forward_per_molecule_by_branch"]
    assert flop["forward_per_molecule"] == pytest.approx(sum(by_branch.values()))
    assert by_branch["backbone"] > by_branch["readout"] > 0
    # the gate's four products alone, of atoms and of molecules: all else is told apart
    width, on = model.fusion.norm_graph.normalized_shape[0], found["measured_on"]
    gate = 2 * width**2 * 2 * (on["atoms"] + on["molecules"])
    assert by_branch["fusion"] * on["molecules"] == pytest.approx(gate)
    assert 1.5 < flop["training_per_molecule"] / flop["forward_per_molecule"] < 3.01
    assert flop["text_forward_per_token"] is None and found["text"] is None


def test_text_modes_and_twins(summary, sample_shards):
    both, graph = summary("twins=[graph]")
    assert (both["modality"], graph["modality"]) == ("both", "graph")
    assert set(both["parameters"]) - {"all"} <= set(BRANCHES)
    assert both["parameters"]["text_encoder"] == {"total": 22_565_376, "trainable": 22_565_376}
    assert both["parameters"]["readout"] == graph["parameters"]["readout"]
    rows = len(load_split(sample_shards, "random", 0)["train"])
    steps = both["steps"]
    assert steps["per_epoch"] == -(-rows // 8) and steps["total"] == 12  # the recipe's max_steps
    assert steps["molecules_per_step"] == pytest.approx(rows / steps["per_epoch"])
    assert steps["tokens_per_step"] > 8 and graph["steps"]["tokens_per_step"] == 0
    # MiniLM: six layers of 12 matrices of 384 x 384, and attention and padding on top
    assert 1.0 < both["flop"]["text_forward_per_token"] / (2 * 6 * 12 * 384**2) < 2.5

    (lora,) = summary(mode="lora")
    assert lora["parameters"]["text_encoder"]["trainable"] == 0
    assert lora["parameters"]["adapters"]["trainable"] == lora["parameters"]["adapters"]["total"] > 0
    held = lora["memory_bytes_per_rank"]
    assert held["gradients"] == 4 * lora["parameters"]["all"]["trainable"]

    encoded = set(sample_shards.path.glob("embeddings/*"))
    (frozen,) = summary(mode="frozen")
    assert "text_encoder" not in frozen["parameters"]
    assert frozen["frozen_encoder"]["parameters"] == 22_565_376
    once = frozen["frozen_encoder"]["flop_per_molecule"]
    assert once == pytest.approx(both["flop"]["forward_per_molecule_by_branch"]["text_encoder"], rel=0.01)
    assert set(sample_shards.path.glob("embeddings/*")) == encoded  # nothing is encoded for a summary


@pytest.mark.parametrize(
    ("words", "branches"),
    [
        (["model.modality=text"], ["text_encoder", "fusion", "readout"]),
        (["model.modality=width_matched"], ["backbone", "fusion", "readout"]),
        (["model.fusion=none", "model.modality=graph"], ["backbone", "fusion", "readout"]),
        (["model.fusion=gate_paper"], ["backbone", "text_encoder", "fusion", "readout"]),
        (["model.fusion=cross_attention"], ["backbone", "text_encoder", "fusion", "readout"]),
        (["model.context=true"], ["backbone", "text_encoder", "context", "fusion", "readout"]),
    ],
)
def test_every_modality_and_fusion(summary, words, branches):
    (found,) = summary(*words)
    assert list(found["parameters"]) == [*branches, "all"]
    counts = [count["total"] for count in found["parameters"].values()]
    assert min(counts) > 0 and sum(counts[:-1]) == counts[-1]
    assert found["flop"]["training_per_molecule"] > 1.5 * found["flop"]["forward_per_molecule"]


def test_checkpointing_trades_memory_for_operations(summary):
    plain, saving = summary()[0], summary("text.checkpointing=true")[0]
    held = [one["memory_bytes_per_rank"]["activations"] for one in (plain, saving)]
    work = [one["flop"]["training_per_molecule"] for one in (plain, saving)]
    assert held[1] < 0.5 * held[0] and 1.2 < work[1] / work[0] < 1.4


def test_ranks_share_a_step(summary):
    words = ["model.modality=graph", "train.batch=64", "train.micro_batch=8"]
    alone, two = summary(*words)[0], summary(*words, "--nproc", "2")[0]
    assert {alone["measured_on"]["molecules"], two["measured_on"]["molecules"]} <= {7, 8}
    assert (alone["steps"]["passes_per_step"], two["steps"]["passes_per_step"]) == (8, 4)
    # ZeRO stage 1: moments and the master copy are shared
    held = [one["memory_bytes_per_rank"] for one in (alone, two)]
    assert held[0]["optimizer"] == 2 * held[1]["optimizer"] and held[0]["weights"] == held[1]["weights"]


def test_table_has_units(sample_shards, tmp_path, capsys):
    recipe = write_recipe(tmp_path, sample_shards.path)
    words = ["train", str(recipe), "--run", str(tmp_path / "run"), "--dry-run", "model.modality=graph"]
    assert main(words) == 0
    out = capsys.readouterr().out
    for part in ("backbone", "kFLOP", " kB", "steps: ", "per epoch", "ZeRO stage 1", "atoms"):
        assert part in out, part
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["targets=[gap, homoo]"], "did you mean 'homo'"),
        (["model.readout.energy=mean"], "makes no physical sense"),
        (["--nproc", "500"], "process without molecules"),
    ],
)
def test_what_training_refuses_is_refused(sample_shards, tmp_path, capsys, words, says):
    recipe = write_recipe(tmp_path, sample_shards.path)
    run = str(tmp_path / "run")
    assert main(["train", str(recipe), "--run", run, "--dry-run", "model.modality=graph", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("mmgnn:") == 1 and not (tmp_path / "run").exists()


def test_a_directory_of_another_recipe_is_refused(sample_shards, tmp_path, capsys):
    """A directory that has trained belongs to its recipe; one where nothing was trained belongs to nobody."""
    recipe = write_recipe(tmp_path, sample_shards.path)
    load_recipe(recipe, ["train.seed=5"]).save(tmp_path / "run" / "recipe.yaml")
    (tmp_path / "run" / "journal.jsonl").write_text('{"kind": "train", "step": 1}\n')
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "train.seed differ" in capsys.readouterr().err


@pytest.mark.parametrize("stage", [0, 1])
def test_memory_is_what_deepspeed_holds(stage):
    """Bytes of DeepSpeed's own tensors after a step, on one rank."""
    small = (
        "model.backbone={name: schnet, hidden: 32, filters: 32, interactions: 1, gaussians: 8, cutoff: 5.0}"
    )
    recipe = load_recipe(None, [small, "model.modality=graph", f"train.zero_stage={stage}"])
    model = FusedModel(recipe, ["sum"], None)
    count = sum(p.numel() for p in model.parameters())
    engine = make_engine(model, recipe, BatchPlan(32, 1, 1), init_distributed(1).device)
    engine.backward(sum(p.square().sum() for p in model.parameters()))
    engine.step()
    found = memory(count, count, 0, 0, stage, 1, "none").device
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    moments = [t for state in inner.state.values() for t in state.values() if t.dim()]
    assert _bytes(moments) == pytest.approx(found["optimizer"], rel=1e-3)
    master = getattr(engine.optimizer, "single_partition_of_fp32_groups", [])
    assert _bytes(master) == pytest.approx(found["master_copy"], rel=1e-3)
    assert _bytes(model.parameters()) == found["weights"]


def _bytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_memory_of_many_ranks():
    whole = memory(100, 60, 10, 7, 0, 4, "none")
    assert whole.device == {
        "weights": 400,
        "gradients": 240,
        "optimizer": 480,
        "master_copy": 0,
        "average": 240,
        "gathered": 0,
        "messages": 240,
        "activations": 7,
    }
    assert whole.peak == 1360 + 240 and whole.host == {"checkpoint": 960}  # messages after the activations
    shared = memory(100, 60, 70, 7, 2, 4, "none")
    assert [shared.device[name] for name in ("gradients", "optimizer", "master_copy")] == [60, 120, 60]
    assert shared.device["messages"] == 560  # the largest parameter is above all that is trained
    moved = memory(100, 60, 10, 7, 3, 4, "parameters")
    assert moved.peak == 400 + 2 * 4 * 60 + 7  # what is gathered, two buckets, activations
    assert moved.host == {
        "optimizer": 120,
        "master_copy": 60,
        "weights": 100,
        "average": 60,
        "gradients": 60,
        "checkpoint": 8 * 60 + 12 * 60 // 4,
    }
    # a second pass: the gradient of the largest parameter beside the sum, or a copy of a rank's own sum
    again = [memory(100, 60, 10, 7, stage, 4, "none", 2).device["gradients"] for stage in range(4)]
    assert again == [280, 280, 120, 60]


def test_numbers_are_short():
    assert [scaled(n, "B") for n in (0, 999, 1234, 9.996e8)] == ["0 B", "999 B", "1.23 kB", "1 GB"]


def test_summary_changes_no_random_state_of_a_run(summary):
    """A run seeds each of its steps, so the summary may draw; its own result repeats."""
    torch.manual_seed(1)
    first = summary("model.modality=graph")
    torch.manual_seed(2)
    assert summary("model.modality=graph") == first
