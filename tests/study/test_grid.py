"""The cells of a study: what differs between two of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_set import make_set

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import load_split, make_split
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_json
from mmgnn_dist.study.grid import make_grid
from mmgnn_dist.train.inputs import fit_scaler, open_inputs

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    made = make_set(tmp_path_factory.mktemp("grid") / "shards", (120, 80))
    make_split(made, "kfold", 3)
    return made


def grid(shards, *words):
    base = [
        f"data.shards={shards.path}",
        "data.split=kfold",
        "targets=[mu, gap]",
        "train.batch=8",
        "train.epochs=4",
        "text.mode=frozen",
        "text.fields=[iupac_name, title, synonyms]",
        "study.backbones.one={model.backbone: {name: schnet, hidden: 16}}",
        "study.backbones.two={model.backbone: {name: painn}}",
    ]
    return make_grid(load_recipe(None, [*base, *words]))


def differences(a, b, above=""):
    out = set()
    for key in a.keys() | b.keys():
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            out |= differences(left, right, f"{above}{key}.")
        elif left != right:
            out.add(above + key)
    return out


def test_arms_differ_in_what_is_read_alone(shards):
    cells = grid(
        shards,
        "study.arms=[graph, text, both, width_matched, zero, shuffled, random, same_formula, again]",
        "study.seeds=[0, 1]",
    )
    assert len(cells) == 2 * 9 * 3 * 2 and [cell.number for cell in cells] == list(range(108))
    assert len({cell.name for cell in cells}) == len({r.fingerprint() for r in cells.values()}) == 108
    at = {(c.backbone, c.arm, c.fold, c.seed): r.model_dump(mode="json") for c, r in cells.items()}
    for (backbone, arm, fold, seed), recipe in at.items():
        found = differences(recipe, at[backbone, "both", fold, seed]) - {"name"}
        control = arm in ("zero", "shuffled", "random", "same_formula")
        if arm == "again":
            assert differences(recipe, at[backbone, "graph", fold, seed]) == {"name", "train.seed"}
            assert recipe["train"]["seed"] == seed + 10_000
            continue
        assert found == (set() if arm == "both" else {"text.control"} if control else {"model.modality"})
        assert recipe["study"] is None and recipe["train"]["save_vectors"]
        assert recipe["track"]["group"] == "run"  # the study's name
        assert (recipe["data"]["fold"], recipe["train"]["seed"]) == (fold, seed)


def test_folds_may_have_seeds_of_their_own(shards):
    """Arms of a fold share the seed, folds and `again` do not; a cell keeps its name."""
    arms = "study.arms=[graph, both, again]"
    cells = grid(shards, arms, "study.own_seeds=true", "study.seeds=[0, 1]")
    seeds = {(c.arm, c.fold, c.seed): r.train.seed for c, r in cells.items()}
    for (arm, fold, seed), found in seeds.items():
        assert found == seed + 1_000_000 * fold + 10_000 * (arm == "again")
    assert len(set(seeds.values())) == 2 * len({fold for _, fold, _ in seeds}) * 2
    assert {cell.name for cell in cells} == {cell.name for cell in grid(shards, arms, "study.seeds=[0, 1]")}


def test_variants_change_one_thing_and_share_what_they_do_not_concern(shards):
    cells = grid(
        shards,
        "study.fusions=[film]",
        "study.modes=[lora]",
        "study.fields=[without, alone]",
        "study.sizes=[20, 40]",
        "study.variants_of=[one]",
        "study.folds=[1]",
    )
    base = {(c.backbone, c.arm): r.model_dump(mode="json") for c, r in cells.items() if c.variant == "base"}
    assert len(base) == 8 and all(c.number < 8 for c in cells if c.variant == "base")
    arms: dict[str, set[str]] = {}
    for cell, recipe in cells.items():
        if cell.variant == "base":
            continue
        assert cell.backbone == "one"
        arms.setdefault(cell.variant, set()).add(cell.arm)
        found = differences(recipe.model_dump(mode="json"), base["one", cell.arm]) - {"name"}
        kind, value = cell.variant.split("-")
        if kind == "size":
            assert found - {"train.epochs", "train.validate_every"} == {"data.train_size", "train.max_steps"}
        else:
            assert found == {{"fusion": "model.fusion", "mode": "text.mode"}.get(kind, "text.fields")}
        if kind == "without":
            assert value not in recipe.text.fields and len(recipe.text.fields) == 2
        if kind == "alone":
            assert recipe.text.fields == [value]
    text = {"both", "shuffled"}
    assert arms["fusion-film"] == arms["size-20"] == text | {"graph"} and arms["mode-lora"] == text
    assert arms["without-title"] == arms["alone-synonyms"] == {"both"}
    assert len([v for v in arms if v.startswith(("without", "alone"))]) == 6


def test_sizes_are_nested_and_take_as_many_steps(shards):
    cells = grid(
        shards, "study.sizes=[20, 40]", "study.folds=[2]", "study.arms=[graph]", "study.variants_of=[two]"
    )
    whole = load_split(shards, "kfold", 2)
    steps = 4 * -(-len(whole["train"]) // 8)
    rows = {}
    for cell, recipe in cells.items():
        if cell.variant == "base":
            continue
        inputs = open_inputs(recipe)
        size = recipe.data.train_size
        rows[size] = set(inputs.split["train"].tolist())
        assert len(rows[size]) == size and rows[size] <= set(whole["train"].tolist())
        assert all(np.array_equal(inputs.split[part], whole[part]) for part in ("val", "test"))
        assert recipe.train.max_steps == steps <= recipe.train.epochs * -(-size // 8)
    assert rows[20] < rows[40]


def test_sizes_take_as_many_steps_as_they_are_told(shards):
    words = ["study.sizes=[20]", "study.arms=[graph]", "study.folds=[0]", "study.variants_of=[two]"]
    cells = grid(shards, *words, "study.size_steps=500", "train.patience=3")
    sized = next(recipe for cell, recipe in cells.items() if cell.variant == "size-20")
    assert (sized.train.min_steps, sized.train.max_steps, sized.train.patience) == (500, 500, 3)
    assert sized.train.epochs * -(-20 // 8) >= 500
    base = next(recipe for cell, recipe in cells.items() if (cell.backbone, cell.variant) == ("two", "base"))
    assert base.train.min_steps == 0


def test_a_model_for_each_target(shards):
    cells = grid(shards, "study.targets=each", "study.folds=[0]", "study.arms=[graph]")
    assert [cell.name for cell in cells][:2] == ["one-graph-mu-f0-s0", "one-graph-gap-f0-s0"]
    assert [recipe.targets for recipe in cells.values()] == [["mu"], ["gap"]] * 2


def test_raw_targets_are_taken_as_they_are(shards):
    words = [f"data.shards={shards.path}", "data.split=kfold", "targets=[mu, gap]", "train.batch=8"]
    scaler = fit_scaler(open_inputs(load_recipe(None, [*words, "train.scaling=raw"])))
    assert scaler.std.tolist() == [1.0, 1.0] and not any(
        v.any() for v in (scaler.mean, scaler.reference, scaler.extent)
    )
    assert fit_scaler(open_inputs(load_recipe(None, words))).mean.any()


def test_a_norm_of_a_dipole_has_no_mean(tmp_path):
    made = make_set(tmp_path / "shards", (60,))
    kinds = [
        {**target, "kind": "dipole"} if target["name"] == "mu" else target
        for target in made.manifest["targets"]
    ]
    write_json(made.path / "manifest.json", made.manifest | {"targets": kinds})
    make_split(made)
    words = [f"data.shards={made.path}", "targets=[mu, gap]", "model.modality=graph"]
    bare = fit_scaler(open_inputs(load_recipe(None, words)))
    for other in ("model.dipoles=with_mean", "model.readout={mu: dipole}", "model.fusion=gate_paper"):
        earlier = fit_scaler(open_inputs(load_recipe(None, [*words, other])))
        assert bare.mean[0] == 0 != earlier.mean[0] and bare.mean[1] == earlier.mean[1] != 0
        assert torch.equal(bare.std, earlier.std)


def test_presets():
    paper, raw = (yaml.safe_load((LAUNCH / f"{name}.yaml").read_text()) for name in ("paper", "paper-raw"))
    assert differences(paper, raw) == {"name", "train.scaling"} and raw["train"]["scaling"] == "raw"
    for name in ("paper", "paper-raw", "quick"):
        assert load_recipe(LAUNCH / f"{name}.yaml").study is not None
    paper = load_recipe(LAUNCH / "paper.yaml")
    assert paper.text.total_tokens == 77 and paper.text.projection  # CLIP's positions, and its projection
    assert paper.train.optim.clip is None and load_recipe(LAUNCH / "paper-raw.yaml").train.optim.clip is None
    widths = {name: keys["model.paper_width"] for name, keys in paper.study.backbones.items()}
    assert widths == {"schnet": 8, "dimenetpp": 16, "equiformer": 32, "faenet": 32}
    quick = load_recipe(LAUNCH / "quick.yaml").study
    assert quick.arms == ["graph", "both", "shuffled", "again"] and list(quick.backbones) == [
        "schnet",
        "painn",
    ]


BY_TARGET = "text.fields={mu: [iupac_name, xlogp], gap: [title]}"


def test_every_target_may_have_fields_and_overrides_of_its_own(shards):
    cells = grid(
        shards,
        BY_TARGET,
        "study.targets=each",
        "study.by_target={gap: {train.optim.lr: 0.002}}",
        "study.fields=[without, alone]",
        "study.arms=[graph, both]",
        "study.folds=[0]",
        "study.variants_of=[one]",
        "train.weights={mu: 2}",
        "model.readout={gap: attention}",
    )
    read = {
        (c.targets, c.variant, c.backbone): (r.text.fields, r.train.optim.lr)
        for c, r in cells.items()
        if c.arm == "both"
    }
    mu, gap = ("mu",), ("gap",)
    for backbone in ("one", "two"):
        assert read.pop((mu, "base", backbone)) == (["iupac_name", "xlogp"], 0.001)
        assert read.pop((gap, "base", backbone)) == (["title"], 0.002)
    names = {"without-iupac_name": ["xlogp"], "without-xlogp": ["iupac_name"]}
    names |= {"alone-iupac_name": ["iupac_name"], "alone-xlogp": ["xlogp"]}
    assert read == {(mu, variant, "one"): (fields, 0.001) for variant, fields in names.items()}
    assert [c.number for c in cells] == list(range(len(cells)))
    for cell, recipe in cells.items():
        assert set(recipe.train.weights) <= set(cell.targets) and set(recipe.model.readout) <= set(
            cell.targets
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([BY_TARGET], r"text.fields by target needs a study with study.targets=each"),
        (
            ["study.targets=each", "text.fields={mu: [title]}"],
            r"one list for each of targets, mu, gap; 'gap'",
        ),
        (
            ["study.targets=each", "study.by_target={nu: {text.mode: full}}"],
            r"by_target.nu: no target of this",
        ),
        (["study.by_target={mu: {text.mode: full}}"], r"study.by_target and .* use study.targets=each"),
        (
            ["study.targets=each", "study.by_target={mu: {data.fold: 1}}"],
            r"by_target.mu: data.fold must be the",
        ),
        (["study.targets=each", "study.by_target={mu: {train.lr: 1}}"], r"unknown key train.lr"),
    ],
)
def test_overrides_of_targets_that_do_not_fit_are_refused(shards, words, message):
    with pytest.raises(UserError, match=message):
        grid(shards, *words)
