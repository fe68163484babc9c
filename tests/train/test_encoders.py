"""Language models of every family through training's own entry: what moves, what stays, in which order."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import journal, mmgnn
from make_encoder import LAYERS, make_encoder
from safetensors.torch import load_file
from small_set import make_set

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.run import run

FAMILIES = ["bert", "roberta", "distilbert", "t5", "clip", "deberta-v2"]
# a bias of the keys shifts all scores of a row alike, and softmax gives that no gradient but rounding
NO_GRADIENT = ("key.bias", "k_lin.bias", "k_proj.bias", "key_proj.bias")
DECODER = "qwen3"  # its text ends in a token of its own and is padded on the left
PART = {0: "val", 1: "test"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    made = make_set(tmp_path_factory.mktemp("set"), (30, 20))
    ids = made.column("id").combine_chunks()
    parts = pa.array([PART.get(i % 5, "train") for i in range(len(ids))])
    (made.path / "splits").mkdir()
    pq.write_table(pa.table({"id": ids, "fold_0": parts}), made.path / "splits" / "random.parquet")
    return made


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folder of the encoder of a family, made once."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = make_encoder(tmp_path_factory.mktemp(family), family)
        return made[family]

    return of


def train(folder, shards, encoder, *overrides, steps=1):
    """Train a small model for some steps; returns its run directory."""
    recipe = load_recipe(
        None,
        [
            f"data.shards={shards.path}",
            f"text.encoder={encoder}",
            "text.fields=[iupac_name, synonyms]",
            "targets=[gap]",
            "train.batch=8",
            "train.threads=1",
            "train.optim.ema=0",
            "track.wandb=disabled",
            "train.precision=fp32",
            f"train.max_steps={steps}",
            "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 4, cutoff: 4}",
            *overrides,
        ],
    )
    folder.mkdir(exist_ok=True)
    recipe.save(folder / "recipe.yaml")
    assert run(folder, quiet=True) == 0
    return folder


def start(encoder, mode="full"):
    """Weights that the encoder starts from, by their name in the fused model."""
    made = TextEncoder(resolve_encoder(str(encoder)), load_recipe(None, [f"text.mode={mode}"]).text, (2,))
    return {f"encoder.{name}": p.detach() for name, p in made.named_parameters()}


def trained(folder):
    """Weights at the end, by name (the average is of the last step alone)."""
    tensors = load_file(folder / "export" / "model.safetensors")
    return {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.encoder")}


def rates(folder):
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("family", [*FAMILIES, pytest.param(DECODER, marks=pytest.mark.slow)])
def test_in_full_every_parameter_moves(tmp_path, shards, encoders, family):
    """The read-out's last layer starts at zero: the first step moves it alone, the second all before it."""
    before = start(encoders(family))
    words = ["train.optim.weight_decay=0", "train.optim.warmup=0"]
    after = trained(train(tmp_path / "run", shards, encoders(family), *words, steps=2))
    assert after.keys() == before.keys()
    still = {name for name, weight in after.items() if torch.equal(weight, before[name])}
    assert not {name for name in still if not name.endswith(NO_GRADIENT)}


@pytest.mark.parametrize("family", [*FAMILIES, DECODER])
def test_in_lora_only_adapters_move(tmp_path, shards, encoders, family):
    """The frozen weights are not even in the export; B starts at zero, and A moves once B is not."""
    words = ["text.mode=lora", "train.optim.weight_decay=0", "train.optim.warmup=0"]
    if family == DECODER:
        words += ["text.pooling=last", "text.frozen_precision=bf16"]
    after = trained(train(tmp_path / "run", shards, encoders(family), *words, steps=2))
    assert len(after) == 4 * LAYERS and all("lora_" in name for name in after)
    assert all(bool(weight.any()) for weight in after.values())


@pytest.mark.parametrize("family", [*FAMILIES, pytest.param(DECODER, marks=pytest.mark.slow)])
def test_in_frozen_nothing_of_the_encoder_trains(tmp_path, shards, encoders, family):
    folder = train(tmp_path / "run", shards, encoders(family), "text.mode=frozen")
    assert trained(folder) == {}
    about = [json.loads(p.read_text()) for p in shards.path.glob("embeddings/*/manifest.json")]
    assert str(encoders(family)) in {one["encoder"] for one in about}


def test_layers_learn_at_decaying_rates_from_the_top_down(tmp_path, shards, encoders):
    """The rates are recomputed from the words of the recipe: warm-up, cosine, depth, turn."""
    steps, peak = 8, 5e-5
    words = ["text.layer_decay=0.5", "text.unfreeze=0.75", "train.epochs=9", "train.optim.warmup=0.25"]
    folder = train(tmp_path / "run", shards, encoders("bert"), *words, steps=steps)
    found = rates(folder)
    assert len(found) == steps
    for step, rate in enumerate(found):
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 6))
        share = (step + 1) / 3 if step < 2 else cosine
        assert rate["backbone"] == pytest.approx(1e-3 * share)
        for depth in range(LAYERS + 1):
            turn = 0.75 * (LAYERS - depth) / LAYERS * steps  # 6, 4, 2, 0 steps
            expected = peak * 0.5 ** (LAYERS - depth) * share if step >= turn else 0.0
            assert rate[f"text.{depth:02d}"] == pytest.approx(expected)


@pytest.mark.parametrize("stage", [0, 2])
def test_layers_before_their_turn_keep_every_bit(tmp_path, shards, encoders, stage):
    words = ["text.unfreeze=0.75", "train.epochs=9", f"train.zero_stage={stage}"]
    before = start(encoders("roberta"))
    encoder = TextEncoder(resolve_encoder(str(encoders("roberta"))), load_recipe().text, (2,))
    turns = {f"encoder.{name}": 2 * (LAYERS - depth) for name, depth in encoder.depths().items()}
    seen = {}
    step = Trainer._step

    def watch(self, *args):
        done = step(self, *args)
        moved = {
            name
            for name, p in self.parts.engine.module.named_parameters()
            if name in before and not torch.equal(p, before[name])
        }
        seen[self.state.step] = moved
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", watch)
        train(tmp_path / "run", shards, encoders("roberta"), *words, steps=8)
    assert len(seen) == 8
    for count, moved in seen.items():  # after `count` steps; the step of index `turn` is the first that moves
        free = {name for name, turn in turns.items() if turn < count}
        assert moved <= free
        assert count == 1 or not {name for name in free - moved if not name.endswith(NO_GRADIENT)}


def test_a_run_that_dies_amid_unfreezing_ends_the_same(tmp_path, shards, encoders):
    words = [
        "text.layer_decay=0.7",
        "text.unfreeze=0.8",
        "text.checkpointing=true",
        "train.epochs=9",
        "train.checkpoint_every=3",
        "text.field_dropout=0.3",
        "train.optim.ema=0.5",
    ]
    whole = train(tmp_path / "whole", shards, encoders("bert"), *words, steps=9)
    step = Trainer._step

    def dies(self, *args):
        if self.state.step == 5:
            raise KeyboardInterrupt
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_step", dies)
        train(tmp_path / "cut", shards, encoders("bert"), *words, steps=9)
    cut = train(tmp_path / "cut", shards, encoders("bert"), *words, steps=9)
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (whole, cut)]
    assert results[0]["weights"] == results[1]["weights"]
    assert results[0]["averaged_weights"] == results[1]["averaged_weights"]
    assert rates(whole) == rates(cut)


def test_checkpointing_takes_the_same_steps(tmp_path, shards, encoders):
    losses = []
    for number, word in enumerate(("false", "true")):
        folder = tmp_path / f"run{number}"
        train(folder, shards, encoders("t5"), f"text.checkpointing={word}", "train.epochs=9", steps=4)
        lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "train"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_cls_of_t5_is_refused_before_anything_is_written(tmp_path, shards, encoders):
    with pytest.raises(UserError, match="text.pooling=cls"):
        train(tmp_path / "run", shards, encoders("t5"), "text.pooling=cls")
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    folder = train(tmp_path / "run", shards, encoders("clip"), "text.pooling=last")
    assert (folder / "metrics.json").is_file()


def test_fields_that_are_left_out_are_in_the_journal(tmp_path, shards, encoders):
    """As in launch/paper.yaml: CLIP frozen with its projection, one budget for the text, no clipping."""
    folder = train(
        tmp_path / "run",
        shards,
        encoders("clip"),
        *("text.mode=frozen", "text.pooling=last", "text.projection=true", "train.optim.clip=null"),
        *("text.fields=[iupac_name, molecular_formula]", "text.total_tokens=24"),
    )
    start = json.loads((folder / "journal.jsonl").read_text().splitlines()[0])
    assert start["text_left_out"]["molecular_formula"] > 0 and (folder / "metrics.json").is_file()


@pytest.mark.slow
def test_two_processes_unfreeze_as_one_does(tmp_path, shards, encoders):
    """Layers before their turn have gradients on every rank, so nobody waits and the losses are the same.

    The loss is smooth: signs of an L1 loss can cancel but for rounding, and Adam makes a whole step of that.
    """
    losses, lrs = [], []
    for world in (1, 2):
        folder = tmp_path / f"world{world}"
        words = [
            f"data.shards={shards.path}",
            f"text.encoder={encoders('bert')}",
            "text.fields=[iupac_name]",
            "text.unfreeze=0.75",
            "text.layer_decay=0.5",
            "targets=[gap]",
            "train.loss=mse",
            "train.batch=8",
            "train.epochs=9",
            "train.max_steps=12",
            "train.threads=1",
            "train.dropout=false",
            "train.zero_stage=2",
            "train.precision=fp32",
            "track.wandb=disabled",
            "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 4, cutoff: 4}",
        ]
        recipe = tmp_path / "recipe.yaml"
        load_recipe(None, words).save(recipe)
        mmgnn("train", recipe, "--run", folder, "--nproc", world)
        losses.append([line["loss"] for line in journal(folder)])
        lrs.append(rates(folder))
    assert lrs[0] == lrs[1] and len(losses[0]) == 12
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
