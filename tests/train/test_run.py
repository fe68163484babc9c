"""A run from the command line to its files: what it writes, that it repeats, how it answers wrong input."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import journal, metrics, mmgnn, write_recipe
from pictures import WHITE, real_pictures
from safetensors import safe_open
from small_set import make_set

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, make_split


@pytest.fixture(scope="module")
def trained(few_shards, tiny_bert, tmp_path_factory):
    """A fused run with its graph-only twin, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder, few_shards.path, encoder=tiny_bert)
    words = [
        "train",
        recipe,
        "--run",
        folder / "run",
        "twins=[graph]",
        "track.wandb=offline",
        "train.log_ids=true",
    ]
    with real_pictures():
        return folder / "run", mmgnn(*words), words


def test_run_directory_is_complete(trained):
    run, done, _ = trained
    for name in (
        "recipe.yaml",
        "deepspeed.json",
        "versions.json",
        "data.json",
        "journal.jsonl",
        "metrics.json",
        "predictions.parquet",
        "report.md",
        "logs/rank_0.log",
        "export/model.safetensors",
        "wandb/id",
        "checkpoints/step_000012/manifest.json",
        "plots/learning_curve.png",
        "plots/parity.png",
        "plots/gate.png",
        "plots/comparison.png",
        "twins/graph/metrics.json",
    ):
        assert (run / name).is_file(), name
    for picture in (run / "plots").iterdir():
        assert picture.stat().st_size > 50 * len(WHITE), picture
    assert [line["step"] for line in journal(run)] == list(range(1, 13))
    assert "graph only" in done.stdout and "linear fit" in done.stdout
    assert sorted(path.name for path in run.glob("checkpoints/step_*")) == ["step_000010", "step_000012"]
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


def test_metrics_follow_from_the_predictions(trained, few_shards):
    """The errors are recomputed from the files, with the truth from the shards."""
    run, _, _ = trained
    table = pq.read_table(run / "predictions.parquet")
    split = load_split(few_shards, "random", 0)
    assert table["id"].to_pylist() == few_shards.ids(split["test"]).tolist()
    y = np.concatenate([shard.y for shard in few_shards.shards])[split["test"]]
    for target in ("homo", "gap", "energy"):
        true = y[:, few_shards.targets.index(target)]
        assert np.array_equal(table[f"{target}_true"].to_numpy(), true)
        mae = np.abs(table[f"{target}_pred"].to_numpy() - true).mean()
        assert math.isclose(metrics(run)["metrics"][f"test/mae/{target}_eV"], mae, rel_tol=1e-12)
        gate = table[f"{target}_gate"].to_numpy()
        assert ((gate > 0) & (gate < 1)).all() and gate.std() > 0


def test_twin_takes_the_same_steps(trained):
    run, _, _ = trained
    ids = []
    for folder in (run, run / "twins/graph"):
        lines = (folder / "logs" / "ids_rank_0.jsonl").read_text().splitlines()
        ids.append([json.loads(line)["ids"] for line in lines])
    assert ids[0] == ids[1] and len(ids[0]) == 12
    rates = [[line["lr"]["backbone"] for line in journal(r)] for r in (run, run / "twins/graph")]
    assert rates[0] == rates[1]
    groups = [load_recipe(folder / "recipe.yaml").track.group for folder in (run, run / "twins/graph")]
    assert groups == ["small", "small"]
    assert "encoder" not in str(list(safe_open(run / "twins/graph/export/model.safetensors", "np").keys()))


def test_a_finished_run_is_not_trained_again(trained):
    run, first, words = trained
    before = (run / "journal.jsonl").stat().st_mtime_ns
    again = mmgnn(*words)
    assert (run / "journal.jsonl").stat().st_mtime_ns == before
    assert again.stdout == first.stdout


def test_another_recipe_is_refused(trained):
    _, _, words = trained
    done = mmgnn(*words, "train.seed=5", code=2)
    assert "train.seed differ" in done.stderr and "give another directory" in done.stderr
    done = mmgnn(*words, "train.seed=5", "train.timeout=77", code=2)
    assert "(train.seed differ)" in done.stderr  # a timeout may


def test_a_directory_whose_checkpoints_would_not_be_found_is_refused(few_shards, tmp_path):
    recipe = write_recipe(tmp_path, few_shards.path)
    done = mmgnn("train", recipe, "--run", tmp_path / "hidden[128]", code=2)
    assert "DeepSpeed takes [ ] for patterns" in done.stderr and not (tmp_path / "hidden[128]").exists()


def test_evaluate_gives_the_metrics_of_the_run(trained, few_shards):
    run, _, _ = trained
    found = json.loads(mmgnn("evaluate", run, "--json").stdout)
    for name, value in metrics(run)["metrics"].items():
        assert math.isclose(found[name], value, rel_tol=1e-6)
    everything = json.loads(mmgnn("evaluate", run, "--data", few_shards.path, "--json").stdout)
    assert everything.keys() == found.keys() and everything != found
    written = pq.read_table(run / "evaluations" / few_shards.path.name / "predictions.parquet")
    assert len(written) == few_shards.rows


def test_altered_export_is_refused(trained, tmp_path):
    run, _, _ = trained
    path = run / "export" / "model.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert "altered" in mmgnn("evaluate", run, code=2).stderr
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(("mode", "control"), [("lora", "random"), ("frozen", "shuffled")])
def test_other_text_modes_and_controls_train(tmp_path, mode, control):
    """With MiniLM, of whose weights nothing is copied."""
    shards = make_set(tmp_path / "shards")
    make_split(shards)
    recipe = write_recipe(tmp_path, shards.path, mode)
    mmgnn(
        "train",
        recipe,
        "--run",
        tmp_path / "run",
        "targets=[gap]",
        "train.max_steps=4",
        "train.precision=auto",
        f"text.control={control}",
    )
    with safe_open(tmp_path / "run/export/model.safetensors", "np") as weights:
        encoder = [name for name in weights.keys() if name.startswith("model.encoder")]  # noqa: SIM118
    assert bool(encoder) is (mode == "lora") and all("lora_" in name for name in encoder)
    json.loads(mmgnn("evaluate", tmp_path / "run", "--json").stdout)
    checkpoint = sum(p.stat().st_size for p in (tmp_path / "run/checkpoints").rglob("*") if p.is_file())
    assert checkpoint < 10e6  # the frozen 90 MB are named, not copied


def test_early_stop(small_shards, tiny_bert, tmp_path):
    """Without learning no validation after the first is better, so two more end the run."""
    recipe = write_recipe(tmp_path, small_shards, "frozen", tiny_bert)
    still = [f"train.optim.{rate}=1e-30" for rate in ("lr", "lr_text", "lr_fusion")]
    words = [
        "targets=[gap]",
        "model.modality=graph",
        "train.max_steps=null",
        "train.epochs=9",
        "train.batch=32",
        "train.patience=2",
    ]
    mmgnn("train", recipe, "--run", tmp_path / "run", *words, *still, "train.optim.weight_decay=0")
    found = journal(tmp_path / "run", "validation")
    assert len(found) == 3 and metrics(tmp_path / "run")["best_step"] == found[0]["step"]


def test_text_alone_trains(small_shards, tiny_bert, tmp_path):
    recipe = write_recipe(tmp_path, small_shards, "frozen", tiny_bert)
    words = ["targets=[gap]", "model.modality=text", "train.max_steps=4"]
    mmgnn("train", recipe, "--run", tmp_path / "run", *words)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.shards=nowhere", "nowhere"),
        ("data.shards=null", "data.shards=DIR"),
        ("targets=[gap, homoo]", "did you mean 'homo'"),
        ("data.split=randm", "did you mean 'random'"),
        ("data.fold=7", "fold"),
        ("text.encoder=./no-such-model", "no-such-model"),
        ("train.batch=100000", "training molecules"),
        ("train.epoch=1", "did you mean 'epochs'"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(few_shards, tiny_bert, tmp_path, capsys, override, says):
    recipe = write_recipe(tmp_path, few_shards.path, encoder=tiny_bert)
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), override]) == 2
    error = capsys.readouterr().err
    assert says in error.splitlines()[-1] and error.count("mmgnn:") == 1 and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_damaged_shards_are_found_before_training(few_shards, tmp_path):
    import shutil

    copy = tmp_path / "shards"
    shutil.copytree(few_shards.path, copy)
    path = copy / ShardSet.open(copy).manifest["shards"][0]["name"]
    path.write_bytes(path.read_bytes()[:-10])
    recipe = write_recipe(tmp_path, copy)
    done = mmgnn("train", recipe, "--run", tmp_path / "run", code=2)
    assert path.name in done.stderr and "Traceback" not in done.stderr and not (tmp_path / "run").exists()
