"""A package of others adds to training, and runs with what it adds: not a line of mmgnn_dist is changed."""

from __future__ import annotations

import subprocess
import sys

import outside
import pytest
from command_line import journal, metrics, mmgnn, write_recipe
from forked import NEW_INTERPRETERS
from installed import install
from small_set import make_set

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.files import read_json
from mmgnn_dist.train.engine import BatchPlan, deepspeed_config

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
    faulty = {"broken": "not_there:X", "gate": "elsewhere.fusion:SumFusion"}
    install(folder / "site", "faulty", {"fusions": faulty})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "site"))
        yield write_recipe(folder, folder / "shards")


def train(recipe, name, *words, code=0):
    run = recipe.parent / name
    done = mmgnn("train", recipe, "--run", run, *WORDS, *words, code=code)
    return run, done


def test_a_backbone_with_two_ranks(recipe, monkeypatch):
    """Two ranks, which find the package themselves, share batches by cost; widened, it is a control."""
    monkeypatch.setenv(NEW_INTERPRETERS, "1")
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


def test_an_optimizer(recipe):
    """At a ZeRO stage, where DeepSpeed refuses optimisers that it does not know unless it is told."""
    words = ["train.optim.name=momentum", "train.zero_stage=1", "train.optim.lr=0.01"]
    run, _ = train(recipe, "optimizer", *words)
    losses = [line["loss"] for line in journal(run)]
    assert len(set(losses)) == 4
    assert metrics(run)["plugins"][0]["name"] == "momentum"
    config = load_recipe(None, [])  # of a process without the package
    assert deepspeed_config(config, BatchPlan(8, 1, 1)).get("zero_allow_untested_optimizer") is None
    assert read_json(run / "deepspeed.json")["zero_allow_untested_optimizer"] is True


def test_a_metric(recipe):
    run, _ = train(recipe, "metric", "train.metrics=[mse]")
    (line,) = journal(run, "validation")
    assert list(line)[3:6] == ["val/mae/gap_eV", "val/mse/gap_eV2", "val/score"]
    assert line["val/mse/gap_eV2"] >= line["val/mae/gap_eV"] ** 2


def test_a_faulty_plugin_stops_nobody_who_does_not_name_it(recipe):
    """All runs here were trained beside a package of which nothing can be used."""
    _, done = train(recipe, "broken", "model.fusion=broken", code=2)
    told = done.stderr.splitlines()[-1]
    assert told.startswith("mmgnn: plugin 'broken'") and "faulty 1.0" in told and "not_there" in told


def test_the_doctor_lists_what_is_installed(recipe):
    program = "from mmgnn_dist.cluster.doctor import plugins; print(*plugins.check_plugins(), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    levels = [line.split("level='")[1].split("'")[0] for line in done.stdout.splitlines()]
    assert sorted(levels) == ["FAIL", "FAIL", *["OK"] * len(outside.PARTS)]
    for told in ("sum_of_near, elsewhere 1.0", "mmgnn_dist itself has this name", "named 'not_there'"):
        assert told in done.stdout
