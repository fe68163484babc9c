"""A package of others adds to training, and runs with what it adds: not a line of mmgnn_dist is changed."""

from __future__ import annotations

import json
import shutil

import outside
import pytest
from command_line import journal, metrics, mmgnn, write_recipe
from installed import install
from small_set import make_set

from mmgnn_dist.data.shardset.splits import make_split

WORDS = ["targets=[gap]", "model.modality=graph", "train.max_steps=4", "train.checkpoint_every=2"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe beside which another package is installed, in the folder `site`."""
    folder = tmp_path_factory.mktemp("outside")
    make_split(make_set(folder / "shards"))
    package = folder / "site" / "elsewhere"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for files, _ in outside.PARTS.values():
        for name, text in files.items():
            (package / name).write_text(text)
    install(folder / "site", "elsewhere", {group: names for group, (_, names) in outside.PARTS.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "site"))
        yield write_recipe(folder, folder / "shards")


def train(recipe, name, *words, code=0):
    run = recipe.parent / name
    done = mmgnn("train", recipe, "--run", run, *WORDS, *words, code=code)
    return run, done


def test_a_backbone_with_two_ranks(recipe):
    """Two ranks share batches by cost, which the backbone has to be known for; widened, it is a control."""
    words = ["model.backbone={name: sum_of_near, hidden: 6}", "--nproc", "2"]
    run, _ = train(recipe, "backbone", *words)
    assert [line["step"] for line in journal(run)] == [1, 2, 3, 4]
    assert journal(run, "start")[0]["world"] == 2
    (plugin,) = metrics(run)["plugins"]
    assert plugin["name"] == "sum_of_near" and plugin["version"] == "1.0" and len(plugin["sha256"]) == 64


def test_a_run_is_not_continued_with_a_changed_plugin(recipe):
    words = ["model.backbone={name: sum_of_near, hidden: 6}", "model.fusion=sum"]
    run, _ = train(recipe, "changed", *words)
    (run / "metrics.json").unlink()
    network = recipe.parent / "site" / "elsewhere" / "network.py"
    text = network.read_text()
    network.write_text(text + "\n# changed\n")
    try:
        _, done = train(recipe, "changed", *words, code=2)
    finally:
        network.write_text(text)
    (line,) = done.stderr.splitlines()[-1:]
    assert "plugin 'sum_of_near' of elsewhere 1.0" in line and "train anew" in line
    train(recipe, "changed", *words)


def test_a_fusion(recipe):
    run, _ = train(recipe, "fusion", "model.fusion=sum")
    assert metrics(run)["plugins"][0]["group"] == "fusions"
    assert "gate" not in journal(run, "validation")[0]
    _, done = train(recipe, "misspelt", "model.fusion=summ", code=2)
    assert "'sum'" in done.stderr.splitlines()[-1]


def test_the_doctor_lists_what_is_installed(recipe):
    from mmgnn_dist.cluster.doctor.plugins import check_plugins

    assert check_plugins()
