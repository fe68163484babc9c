from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmgnn_dist.config import load_recipe, load_stored_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.train.stored.claims import refuse_other

LAUNCH = Path(__file__).parents[1] / "launch"


@pytest.mark.parametrize(
    "path", sorted(LAUNCH.rglob("*.yaml")), ids=lambda p: p.relative_to(LAUNCH).as_posix()
)
def test_shipped_recipes_are_valid(path):
    load_recipe(path)


def test_canonical_form_reads_back_equal(tmp_path):
    recipe = load_recipe(None, ["train.optim.lr=3e-4", "text.fields=[title, xlogp]", "data.units={gap: eV}"])
    recipe.save(tmp_path / "recipe.yaml")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe and again.fingerprint() == recipe.fingerprint()
    assert again.train.optim.lr == 3e-4


@pytest.mark.parametrize("name", ["schnet", "painn", "dimenetpp"])
def test_a_backbone_is_chosen_by_name(name, tmp_path):
    recipe = load_recipe(None, [f"model.backbone.name={name}", "model.backbone.hidden=48"])
    assert recipe.model.backbone.name == name and recipe.model.backbone.hidden == 48
    recipe.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_fingerprint_follows_what_decides_the_result():
    base = load_recipe(None, [])
    assert load_recipe(None, ["track.wandb=disabled"]).fingerprint() == base.fingerprint()
    assert load_recipe(None, ["train.seed=1"]).fingerprint() != base.fingerprint()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trian.epochs=3", "did you mean 'train'"),
        ("train.epoch=3", "did you mean 'epochs'"),
        ("train.optim.lr_txt=1", "did you mean 'lr_text'"),
        ("model.backbone.hiden=3", "key model.backbone.hiden (did you mean 'hidden'"),
        ("model.backbone={name: painn, radal: 3}", "key model.backbone.radal (did you mean 'radial'"),
        ("model.backbone={name: dimenetpp, filters: 3}", "allowed here: name, hidden, triplet, basis"),
        ("model.backbone={name: dimenetpp, radial: 0}", "model.backbone.radial=0"),
        ("model.backbone={name: painn, basis: sine}", "'bessel' or 'gaussian'"),
        ("model.backbone.name=panin", "model.backbone.name='panin' is unknown (did you mean 'painn'?)"),
        ("model.backbone.name=egnn", "allowed here: schnet, painn, dimenetpp"),
        ("model.backbone=painn", "model.backbone='painn'"),
        ("train.epochs=many", "train.epochs='many'"),
        ("train.epochs=0", "train.epochs=0"),
        ("text.fields=[iupac name]", "should match pattern"),
        ("data.text_columns={id: number}", "a meaning of its own"),
        ("text.fields=[title, title]", "once"),
        ("text.template={xlogp: 'XLogP.'}", "write {value} once"),
        ("text.template={xlogp: '{value} {value}'}", "write {value} once"),
        ("text.template={xlogp: '{val}'}", "write {value} once"),
        ("text.template={xlogp: '{value.real}'}", "write {value} once"),
        ("text.template={xlogp: '{value!r}'}", "write {value} once"),
        ("text.template={xlogp: '{value'}", "text.template.xlogp"),
        ("text.template={title: '{value:.2f}'}", "no format for this field"),
        ("text.template={xlogp: '{value:d}'}", "no format for this field"),
        ("text.template={smiles: '{value}'}", "'iupac_name'"),
        ("text.budgets={xlogp: 0}", "text.budgets.xlogp"),
        ("text.field_dropout=1", "text.field_dropout=1"),
        ("text.sample_synonyms=true", "needs synonyms among text.fields"),
        ("text.control=scrambled", "text.control='scrambled'"),
        ("text={mode: frozen, field_dropout: 0.1}", "text.mode=frozen"),
        ("text={mode: frozen, fields: [synonyms], sample_synonyms: true}", "text.mode=frozen"),
        ("data.providers=[file, file]", "may stand once"),
        ("data.providers=[pubchem]", "'rdkit'"),
        ("data.providers=[]", "data.providers"),
        ("train.micro_batch=64", "larger than train.batch"),
        ("twins=[both]", "model.modality=both"),
        ("model.fusion=none", "never reads text"),
        ("targets=[gap, gap]", "once"),
        ("model.readout.gap=atention", "gap='atention': input should be 'sum', 'mean', 'attention'"),
        ("model.readout.gpa=attention", "model.readout.gpa: no target of this recipe (did you mean 'gap'?)"),
        ("model.readout.u0=sum", "model.readout.u0: no target of this recipe; its targets: homo, lumo, gap"),
        ("model.readout.gap=dipole_vectors", "schnet has no vectors; use model.readout.gap=dipole, or"),
        ("train.weights={homoo: 2}", "train.weights.homoo: no target of this recipe (did you mean 'homo'?)"),
        ("train.weights.gap=0", "train.weights.gap=0"),
        ("train.weights.gap=.inf", "train.weights.gap=inf"),
        ("train.epochs", "key=value"),
        ("train.epochs.deep=1", "not a section"),
        ("train.optim={lr: [}", "not YAML"),
    ],
)
def test_wrong_overrides_say_what_is_meant(override, says):
    overrides = ["train.epochs=1", override] if override.startswith("train.epochs.") else [override]
    with pytest.raises(UserError) as caught:
        load_recipe(None, overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_stored_keeps_its_meaning(tmp_path):
    """Without model.dipoles a stored recipe means a mean beside the dipole, and keeps its fingerprint."""
    stored = load_recipe(None, ["model.dipoles=with_mean"])
    raw = stored.model_dump(mode="json")
    del raw["model"]["dipoles"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert load_stored_recipe(path) == stored and load_stored_recipe(path).model.dipoles == "with_mean"
    assert "dipoles" not in stored.identity_fields()["model"]
    assert load_stored_recipe(path, ["model.dipoles=norm"]) == load_recipe(path) == load_recipe()
    assert load_recipe().fingerprint() != stored.fingerprint()
    assert [load_recipe().model.wanted_readout("mu", kind) for kind in ("dipole", "intensive")] == [None] * 2
    assert stored.model.wanted_readout("mu", "dipole") == "dipole"
    (tmp_path / "metrics.json").write_text("{}")  # a run that has begun
    with pytest.raises(UserError, match="or go on with model.dipoles=with_mean: an earlier version began it"):
        refuse_other({tmp_path: load_recipe()})
    with pytest.raises(UserError, match=r"\(train.batch differ\): give another directory .*--dir DIR\)$"):
        refuse_other({tmp_path: load_recipe(None, ["train.batch=8", "model.dipoles=with_mean"])})


@pytest.mark.parametrize("control", ["none", "zero", "shuffled", "random", "same_formula", "renamed"])
def test_controls_go_with_every_mode(control):
    for mode in ("frozen", "lora", "full"):
        load_recipe(None, [f"text.mode={mode}", f"text.control={control}"])


def test_a_fingerprint_takes_the_place_of_a_frozen_vector():
    for control in ("fingerprint", "random_weights"):
        load_recipe(None, ["text.mode=frozen", f"text.control={control}"])
        with pytest.raises(UserError, match=f"text.control={control} .* use text.mode=frozen"):
            load_recipe(None, ["text.mode=lora", f"text.control={control}"])


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "name: ../x", "targets: []"])
def test_wrong_files_are_user_errors(tmp_path, content):
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_yaml_tags_build_nothing(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: !!python/object/apply:os.system ['true']")
    with pytest.raises(UserError):
        load_recipe(path)
    assert yaml.safe_load("1") == 1


def test_missing_recipe_names_the_path():
    with pytest.raises(UserError, match="no recipe at nowhere.yaml"):
        load_recipe(Path("nowhere.yaml"))


def test_keys_that_were_added_later_leave_the_fingerprints_of_before():
    """A run that was begun before is continued: these hashes are those of the first version with a recipe."""
    then = ["train.epochs=6", "train.batch=32", "train.checkpoint_every=200"]
    recipe = load_recipe(LAUNCH / "demo.yaml", then)
    shards = str(recipe.data.shards)
    assert (
        recipe.earlier_fingerprint(shards)
        == "e29bdc1284900b19a116b70c51d2b1aba707b81ec56c524d16b507f52b456c23"
    )
    changed = ["model.backbone={name: painn}", "train.optim.lr=0.01"]
    painn = load_recipe(LAUNCH / "demo.yaml", [*then, *changed])
    assert (
        painn.earlier_fingerprint(shards)
        == "928167dc27eefb933c6628c5709bc3daf93c56aa9f73ab459421e7fe9addec31"
    )
    assert "name" not in recipe.identity_fields()["train"]["optim"]
    other = load_recipe(LAUNCH / "demo.yaml", [*then, "train.metrics=[mae]"])
    assert other.identity_fields()["train"]["metrics"] == ["mae"]
    assert other.fingerprint() != recipe.fingerprint()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train: {epochs: 3}\nname: a\ntrain: {batch: 8}\n", "lines 1 and 3"),
        ("train: {epochs: 3, epochs: 4}", "line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, line):
    """YAML forbids it, and PyYAML would lose the first section in silence."""
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(UserError, match=f"stands twice \\({line}\\)"):
        load_recipe(tmp_path / "twice.yaml")


@pytest.mark.parametrize("word", ["data.units.logS=1", "data.targets.logS={unit: 1}"])
def test_the_number_one_is_a_unit(word):
    data = load_recipe(None, [word]).data
    assert (data.units | {name: target.unit for name, target in data.targets.items()}) == {"logS": "1"}
    with pytest.raises(UserError, match=r"data.units.logS=2"):
        load_recipe(None, ["data.units.logS=2"])
