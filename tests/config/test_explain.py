"""A recipe explains itself: every key, in the terminal, in the documentation, in an editor."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.config.explain import every_key, explain_key, explain_recipe, recipe_schema, sections_in
from mmgnn_dist.errors import UserError

ROOT = Path(__file__).parents[2]
TREE = explain_recipe()
KEYS = every_key(TREE)
EDITOR = jsonschema.Draft202012Validator(recipe_schema())


def sections(kind=Recipe):
    """Every class of a section."""
    yield kind
    for info in kind.model_fields.values():
        for inner in sections_in(info.annotation):
            yield from sections(inner)


@pytest.mark.parametrize(
    "kind", sorted(set(sections()), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_every_key_has_a_description(kind):
    for name, info in kind.model_fields.items():
        if not sections_in(info.annotation):
            assert info.description and len(info.description) > 10, f"{kind.__name__}.{name}"
    assert kind.__doc__


def test_every_key_of_every_section_is_explained():
    explained = {entry.key for entry in KEYS} | {section.key for section in TREE.walk()}
    backbones = sections_in(
        type(load_recipe()).model_fields["model"].annotation.model_fields["backbone"].annotation
    )
    for kind in backbones:
        assert {f"model.backbone.{name}" for name in kind.model_fields} <= explained
    raw = load_recipe().model_dump()
    assert {f"train.{name}" for name in raw["train"]} <= explained
    assert {"sweep.space.KEY.kind", "study.arms", "data.pubchem.max_age", "track.tags"} <= explained
    assert all(entry.description and entry.type for entry in KEYS)


def test_keys_go_with_keys_that_there_are_in_both_directions():
    names = {entry.key for entry in KEYS} | {section.key for section in TREE.walk()}
    partners = {(entry.key, other) for entry in KEYS for other in entry.goes_with}
    assert {other for _, other in partners} <= names
    keys = {entry.key for entry in KEYS}
    assert {(b, a) for a, b in partners if b in keys} <= partners
    assert ("train.offload", "train.zero_stage") in partners and ("text.mode", "model.fusion") in partners


def test_a_key_tells_type_bounds_default_choices_and_partners():
    (lr,) = explain_key("train.optim.lr")
    assert (lr.type, lr.bounds, lr.default, lr.choices) == ("number", "above 0", "0.001", ())
    (mode,) = explain_key("text.mode")
    assert mode.choices == ("frozen", "lora", "full") and "text.lora_rank" in mode.goes_with
    (stage,) = explain_key("train.zero_stage")
    assert stage.choices == (0, 1, 2, 3)
    (weights,) = explain_key("train.weights")
    assert (weights.type, weights.default) == ("mapping of names to numbers", "{}")
    assert weights.bounds == "each above 0, each finite"


def test_a_key_of_the_backbones_is_told_for_each():
    cutoffs = {name: entry for entry in explain_key("model.backbone.cutoff") for name in entry.variants}
    assert cutoffs["schnet"].default == "10.0" and cutoffs["faenet"].default == "6.0"
    assert "Å" in cutoffs["painn"].description
    partners = {
        name: entry.goes_with for entry in explain_key("model.backbone.hidden") for name in entry.variants
    }
    assert "model.backbone.properties" in partners["faenet"] and partners["schnet"] == ()


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("train.optim.lrr", "did you mean 'train.optim.lr'"),
        ("lr_text", "did you mean 'train.optim.lr_text'"),
        ("trian", "did you mean 'train'"),
        ("model.backbone.cutof", "did you mean 'model.backbone.cutoff'"),
        ("zzz", "'mmgnn recipe' lists the sections"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, says):
    with pytest.raises(UserError) as caught:
        explain_key(key)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.fusion=gatte", "(did you mean 'gate'?)"),
        ("text.mode=frozenn", "(did you mean 'frozen'?)"),
        ("train.loss=hubr", "(did you mean 'huber'?)"),
        ("data.providers=[tabel]", "(did you mean 'table'?)"),
        ("sweep={space: {train.optim.lr: {kind: flaot, low: 1, high: 2}}}", "(did you mean 'float'?)"),
    ],
)
def test_a_wrong_choice_names_the_nearest(override, says):
    with pytest.raises(UserError) as caught:
        load_recipe(None, [override])
    assert says in str(caught.value)


def test_the_documentation_is_of_today(capsys):
    assert main(["recipe", "--markdown"]) == 0
    stale = "docs/recipe.md is stale: write it anew by 'make docs-recipe'"
    assert capsys.readouterr().out == (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8"), stale


@pytest.mark.parametrize("path", sorted((ROOT / "launch").rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_schema(path):
    EDITOR.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_schema_is_one():
    EDITOR.check_schema(EDITOR.schema)
    assert "Å" in json.dumps(
        EDITOR.schema["$defs"]["PaiNNConfig"]["properties"]["cutoff"], ensure_ascii=False
    )


@pytest.mark.parametrize(
    ("recipe", "fits"),
    [
        ({"model": {"backbone": {"hidden": 64}}}, True),  # SchNet unless named
        ({"model": {"backbone": {"name": "painn", "radial": 30}}}, True),
        ({"model": {"backbone": {"name": "painn", "radal": 30}}}, False),
        ({"trian": {}}, False),
        ({"train": {"optim": {"lr": 0}}}, False),
        ({"text": {"mode": "ful"}}, False),
        (load_recipe().model_dump(mode="json"), True),
    ],
)
def test_the_schema_judges_as_the_recipe_does(recipe, fits):
    assert EDITOR.is_valid(recipe) is fits
    if fits:
        Recipe.model_validate(recipe)


def test_the_verb_prints_sections_keys_and_json(capsys):
    def told(*words):
        assert main(["recipe", *words]) == 0
        return capsys.readouterr().out

    assert "train" in told() and "What the language model reads" in told()
    assert "peak learning rate of the backbone" in told("train.optim")
    text = told("train.optim.lr")
    assert "number, above 0" in text and "0.001" in text
    assert "name: equiformer" in told("model.backbone")
    assert json.loads(told("--json"))["sections"]["data"]
    assert json.loads(told("train.optim.lr", "--json"))["entries"][0]["default"] == 0.001
    assert json.loads(told("--json-schema"))["additionalProperties"] is False
    assert main(["recipe", "train.optim.lrr"]) == 2
    assert main(["recipe", "train", "--markdown"]) == 2
    assert "leave train out" in capsys.readouterr().err
