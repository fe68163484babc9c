"""A study through the command line: the pairing of its runs, what survives a kill, and its report."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import journal, metrics, mmgnn, start
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from small_set import make_set

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.splits import load_split, make_split
from mmgnn_dist.study.local import concurrent_cells, gpu_names

RECIPE = """
name: tiny
targets: [mu, gap, energy, toxic]
data: {shards: %s, split: kfold}
text: {fields: [iupac_name, molecular_formula], mode: frozen}
model: {modality: both}
train:
  {epochs: 1, max_steps: 5, batch: 8, threads: 1, precision: fp32, zero_stage: 0, log_ids: true,
   optim: {ema: 0.9}}
track: {wandb: disabled}
study:
  backbones:
    schnet:
      {model.backbone: {name: schnet, hidden: 16, filters: 16, interactions: 1, gaussians: 10, cutoff: 4.0}}
    painn: {model.backbone: {name: painn, hidden: 16, interactions: 1, radial: 8, cutoff: 4.0}}
  arms: [graph, both, shuffled]
  folds: [0, 2]
  workers: 2
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    made = make_set(tmp_path_factory.mktemp("study") / "shards", classes={"toxic": ["no", "yes"]})
    make_split(made, "kfold", 3)
    return made


@pytest.fixture(scope="module")
def recipe(shards):
    path = shards.path.parent / "tiny.yaml"
    path.write_text(RECIPE % shards.path)
    return path


def done_cells(folder: Path) -> dict[str, int]:
    """Finished cells and when their results were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("cells/*/metrics.json")}


def children(folder: Path) -> list[int]:
    """Processes that have a log file of the study open as their output."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "fd" / "1").readlink().parent == (folder / "logs").resolve():
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def study(recipe):
    """A study whose process was killed in the middle and that the same command finished.

    Returns:
        Its folder, the cells that were done when it was killed, and those that were under way.
    """
    folder = recipe.parent / "run"
    words = ["study", recipe, "--dir", folder]
    process = start(*words)
    deadline = time.monotonic() + 240
    while len(done_cells(folder)) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.output()
        time.sleep(0.01)
    process.kill()
    process.wait()
    while children(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = done_cells(folder)
    begun = [p.parent.name for p in folder.glob("cells/*/journal.jsonl") if p.parent.name not in before]
    assert len(before) < 12
    answer = json.loads(mmgnn(*words, "--json").stdout)
    assert answer["states"] == {"done": 12}
    return folder, before, begun


def test_a_killed_study_continues_and_runs_nothing_twice(study):
    folder, before, _ = study
    after = done_cells(folder)
    assert len(after) == 12 and before.items() <= after.items()
    sessions = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert sessions[-1]["cells"] == {"done": 12} and sessions[-1]["workers"] == 2
    assert sessions[-1]["nodes"] == [socket.gethostname()]


def test_a_cell_is_the_run_that_its_recipe_gives_alone(study, tmp_path):
    """Several cells share a process, and one of them was killed: neither leaves a trace."""
    folder, before, begun = study
    for name in {next(iter(before)), *begun[:1]}:
        own = folder / "cells" / name
        mmgnn("train", own / "recipe.yaml", "--run", tmp_path / name, "--json")
        alone = metrics(tmp_path / name)
        assert alone["weights"] == metrics(own)["weights"]
        assert alone["metrics"] == metrics(own)["metrics"]


def test_the_design_is_paired(study, shards):
    """Every cell of a fold trains on the same molecules in the same order and tests the same ones."""
    folder, _, _ = study
    for fold in (0, 2):
        split = load_split(shards, "kfold", fold)
        cells = sorted(folder.glob(f"cells/*-f{fold}-s0"))
        orders, tested, truth = [], [], []
        for cell in cells:
            lines = [json.loads(line) for line in (cell / "logs/ids_rank_0.jsonl").read_text().splitlines()]
            assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
            assert [line["step"] for line in journal(cell)] == [1, 2, 3, 4, 5]
            orders.append([line["ids"] for line in lines])
            table = pq.read_table(cell / "predictions.parquet")
            tested.append(table["id"].to_pylist())
            truth.append([table[f"{t}_true"].to_pylist() for t in ("mu", "gap", "energy")])
        assert len(cells) == 6
        assert all(order == orders[0] for order in orders)
        assert all(ids == tested[0] == shards.ids(split["test"]).tolist() for ids in tested)
        assert all(np.array_equal(t, truth[0], equal_nan=True) for t in truth)
        assert not {i for step in orders[0] for i in step} & set(tested[0])


def test_a_split_drawn_anew_is_refused_by_study_and_report(study, shards, recipe, capsys):
    folder, _, _ = study
    path = shards.path / "splits" / "kfold.parquet"
    kept = path.read_bytes()
    path.unlink()
    try:
        make_split(shards, "kfold", 3, seed=7)
        for words in (["report", str(folder)], ["study", str(recipe), "--dir", str(folder)]):
            assert main(words) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert error.startswith("mmgnn: ") and "another split 'kfold' (fold 0)" in error
    finally:
        path.write_bytes(kept)


def test_vectors_of_the_test_molecules_are_kept(study, shards):
    folder, _, _ = study
    for arm in ("graph", "both"):
        saved = load_file(folder / f"cells/schnet-{arm}-f0-s0/vectors.safetensors")
        assert np.array_equal(saved["rows"], load_split(shards, "kfold", 0)["test"])
        assert saved["graph"].shape == saved["fused"].shape == (len(saved["rows"]), 16)
        assert np.isfinite(saved["fused"]).all() and saved["graph"].std() > 0
    untrained = load_file(folder / "cells/schnet-graph-f0-s0/untrained.safetensors")
    trained = load_file(folder / "cells/schnet-graph-f0-s0/vectors.safetensors")
    assert np.array_equal(untrained["rows"], trained["rows"])
    assert not np.allclose(untrained["graph"], trained["graph"])
    assert not (folder / "cells/schnet-both-f0-s0/untrained.safetensors").exists()


def numbers(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "report" / "numbers" / f"{name}.csv") as content:
        return list(csv.DictReader(content))


def test_the_tables_follow_from_the_predictions(study):
    """Errors and gains are recomputed from the run directories, in plain words."""
    folder, _, _ = study
    found = {(row["target"], row["backbone"], row["arm"]): row for row in numbers(folder, "errors")}
    assert len(found) == 3 * 2 * 3
    mean = {}
    for (target, backbone, arm), row in found.items():
        maes = []
        for fold in (0, 2):
            table = pq.read_table(folder / f"cells/{backbone}-{arm}-f{fold}-s0/predictions.parquet")
            true, predicted = (table[f"{target}_{kind}"].to_numpy() for kind in ("true", "pred"))
            maes.append(np.nanmean(np.abs(true - predicted)))
        assert float(row["mae"]) == pytest.approx(np.mean(maes))
        assert float(row["sd"]) == pytest.approx(np.std(maes, ddof=1))
        mean[target, backbone, arm] = np.mean(maes)
    gains = numbers(folder, "gains")
    assert len(gains) == 6
    for row in gains:
        for arm in ("graph", "shuffled"):
            both, reference = (mean[row["target"], row["backbone"], a] for a in ("both", arm))
            own = float(row[f"over_{arm}_test_estimate"])
            assert own == pytest.approx(100 * (1 - both / reference), abs=1e-6)
            assert float(row[f"over_{arm}_test_low"]) < own < float(row[f"over_{arm}_test_high"])
    scores = {
        (r["metric"], r["backbone"], r["arm"]): float(r["mean"]) for r in numbers(folder, "class_scores")
    }
    assert len(scores) == 3 * 2 * 3
    area: dict[tuple[str, str], float] = {}
    for backbone in ("schnet", "painn"):
        for arm in ("graph", "both", "shuffled"):
            own = []
            for fold in (0, 2):
                table = pq.read_table(folder / f"cells/{backbone}-{arm}-f{fold}-s0/predictions.parquet")
                own.append(roc_auc_score(table["toxic_true"].to_numpy(), table["toxic_p_yes"].to_numpy()))
            area[backbone, arm] = np.mean(own)
            assert scores["auroc", backbone, arm] == pytest.approx(area[backbone, arm])
    for row in numbers(folder, "class_gains"):
        own = area[row["backbone"], "both"] - area[row["backbone"], "graph"]
        assert float(row["over_graph_test_estimate"]) == pytest.approx(own, abs=1e-9)
        assert row["judged"] == "False"  # two runs an arm
    runs = numbers(folder, "runs")
    assert {row["recipe"] for row in runs} == {metrics(p)["recipe"] for p in folder.glob("cells/*")}


def test_the_report_stands_alone(study):
    folder, _, _ = study
    page = (folder / "report" / "report.html").read_text()
    assert not re.findall(r"<(?:script|link|img|iframe)\b", page)
    assert not re.findall(r"(?:src|href)=\"(?!#)|@import|url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page
    named = re.findall(r'\bid="([^"]+)"', page)
    assert len(named) == len(set(named)), "ids of two figures are the same"
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(named)
    text = (folder / "report" / "report.md").read_text()
    for heading in ("When does text help?", "The gate", "Do the architectures agree?", "Cost and provenance"):
        assert f"## {heading}" in text and heading in page
    assert "iupac_name" in text.split("##")[0]  # the first lines say which text it was
    for figure in re.findall(r"\((figures/[^)]+)\)", text):
        assert (folder / "report" / figure).stat().st_size < 300_000
        assert (folder / "report" / figure).with_suffix(".svg").is_file()


def test_cells_are_listed_and_run_by_number(recipe, tmp_path, capsys):
    words = ["study", str(recipe), "study.folds=[1]", "study.arms=[graph]", "--dir", str(tmp_path / "one")]
    assert main([*words, "--cells", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["cells"]
    assert [(c["number"], c["state"]) for c in listed] == [(0, "waiting"), (1, "waiting")]
    assert not (tmp_path / "one").exists()
    mmgnn(*words, "--cell", "1")
    assert main([*words, "--cell", "2"]) == 2 and "cells 0 to 1" in capsys.readouterr().err
    assert main([*words, "--cells"]) == 0
    assert capsys.readouterr().out.split() == [
        "0",
        "waiting",
        "schnet-graph-f1-s0",
        "1",
        "done",
        "painn-graph-f1-s0",
    ]
    assert main(["report", str(tmp_path / "one")]) == 0  # half-way, and without text
    assert "Not finished: 1 of 2" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "one"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["page"].endswith("report.html") and "Not finished: 1 of 2" in told["lines"][0]


def test_one_failure_stops_nothing_else(recipe, tmp_path):
    """A cell whose loss overflows, and a cell whose process is killed."""
    folder = tmp_path / "run"
    words = [
        "study",
        recipe,
        "study.folds=[0]",
        "study.arms=[graph]",
        "study.workers=1",
        "--dir",
        folder,
        "study.backbones.painn={model.backbone: {name: painn, hidden: 16}, train.max_steps: 100000, "
        "train.epochs: 10000, train.validate_every: 10000}",
        "study.backbones.broken={train.optim.lr: 1.0e+30}",
        "study.backbones.last={model.backbone: {name: schnet, hidden: 16, interactions: 1}}",
    ]
    process = start(*words)
    slow = folder / "cells/painn-graph-f0-s0"
    deadline = time.monotonic() + 240
    while not journal(slow):
        assert process.poll() is None and time.monotonic() < deadline, process.output()
        time.sleep(0.02)
    (worker,) = children(folder)
    os.kill(worker, signal.SIGKILL)
    assert process.wait() == 1
    assert set(done_cells(folder)) == {"schnet-graph-f0-s0", "last-graph-f0-s0"}
    told = process.output()
    assert "exit code -9" in told and "are not finite" in told
    text = (folder / "report" / "report.md").read_text()
    assert "broken-graph-f0-s0 failed" in text and "painn-graph-f0-s0 failed" in text
    assert "2 of 4 runs are done" in text


def test_a_deadline_stops_the_whole_study_in_order(recipe, tmp_path, capsys):
    """What its time ends is no study that is done: a job script has to see it, and to come again."""
    folder = tmp_path / "run"
    words = ["study", recipe, "study.folds=[0]", "study.arms=[graph]", "study.workers=1", "--dir", folder]
    told = mmgnn(*words, "train.deadline=0.001", code=3)
    assert "0 of 2 cells are done; the same command continues" in told.stdout
    assert [path.parent.name for path in folder.glob("cells/*/journal.jsonl")] == ["schnet-graph-f0-s0"]
    mmgnn(*words, "--cell", 0)  # goes on, with as much time as it needs
    assert [line["step"] for line in journal(folder / "cells/schnet-graph-f0-s0")] == [1, 2, 3, 4, 5]
    assert main(["study", *map(str, words[1:]), "--cells", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"] == {"done": 1, "waiting": 1}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study=null"], "no section study"),
        (["study.arms=[graph, shufled]"], "study.arms"),
        (["study.folds=[7]"], "no fold 7"),
        (["study.sizes=[1000]"], "study.sizes: 1000 is more than"),
        (["study.variants_of=[nobody]"], "'nobody' is none of study.backbones"),
        (["study.backbones.schnet={model.bakbone: {name: schnet}}"], "did you mean 'backbone'"),
        (["study.seeds=[0, 0]"], "name each once"),
        (["targets=[mu, gab]"], "did you mean 'gap'"),
    ],
)
def test_wrong_input_is_told_in_one_line(recipe, tmp_path, capsys, words, told):
    assert main(["study", str(recipe), *words, "--dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_workers_share_the_gpus_that_the_study_was_given(monkeypatch):
    """On a shared node numbers 0 and 1 are somebody else's; UUIDs and parts of a GPU have no number."""
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for given, names in (("2, 3", ["2", "3"]), ("MIG-a,GPU-b,-1,0", ["MIG-a", "GPU-b"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert gpu_names() == names and concurrent_cells(0, 1) == 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_names() == ["0", "1"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_names() == [] and concurrent_cells(3, 1) == 3


def test_a_directory_keeps_its_recipe_and_train_takes_no_grid(study, recipe, tmp_path, capsys):
    folder, _, _ = study
    assert main(["study", str(recipe), "train.batch=16", "--dir", str(folder)]) == 2
    assert "holds a run of another recipe (train.batch differ)" in capsys.readouterr().err
    assert main(["train", str(recipe), "--run", str(tmp_path / "run")]) == 2
    assert "mmgnn study" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "no study at" in capsys.readouterr().err
