"""The same study as a Slurm array and on Ray as on this machine: the same cells, the same tables."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import metrics, mmgnn
from jobs import ask, changed, wait
from small_set import make_set

from mmgnn_dist.cli import main
from mmgnn_dist.data.splits import make_split

RECIPE = """
name: tiny
targets: [mu, gap, energy]
data: {shards: %s, split: kfold}
text: {fields: [iupac_name, molecular_formula], mode: frozen}
model:
  modality: both
  backbone: {name: schnet, hidden: 16, filters: 16, interactions: 1, gaussians: 10, cutoff: 4.0}
train:
  {epochs: 1, max_steps: 5, batch: 8, threads: 1, precision: fp32, zero_stage: 0, optim: {ema: 0.9}}
track: {wandb: disabled}
study: {arms: [graph, both], folds: [0, 2], workers: 2}
"""
BROKEN = "study.backbones={fine: {}, broken: {train.optim.lr: 1.0e+30}}"
TIMED = ("cost", "runs")  # tables that tell how long it took


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    shards = make_set(tmp_path_factory.mktemp("study") / "shards")
    make_split(shards, "kfold", 3)
    path = shards.path.parent / "tiny.yaml"
    path.write_text(RECIPE % shards.path)
    return path


@pytest.fixture(scope="module")
def here(recipe) -> Path:
    """The study on this machine."""
    folder = recipe.parent / "here"
    mmgnn("study", recipe, "--dir", folder)
    return folder


def tables(folder: Path) -> dict[str, str]:
    found = {path.stem: path.read_text() for path in (folder / "report" / "numbers").glob("*.csv")}
    return {name: text for name, text in found.items() if name not in TIMED}


def same(folder: Path, other: Path) -> None:
    """See that two studies have the same cells, bit by bit, and the same numbers in all tables."""
    assert (folder / "cells.json").read_text() == (other / "cells.json").read_text()
    names = sorted(path.name for path in folder.glob("cells/*"))
    assert len(names) == 4 and names == sorted(path.name for path in other.glob("cells/*"))
    for name in names:
        one, two = (place / "cells" / name for place in (folder, other))
        assert metrics(one)["weights"] == metrics(two)["weights"]
        assert metrics(one)["metrics"] == metrics(two)["metrics"]
        found = [pq.read_table(place / "predictions.parquet").to_pydict() for place in (one, two)]
        assert repr(found[0]) == repr(found[1])  # also where a label is missing
    assert {"errors", "gains"} <= set(tables(folder)) and tables(folder) == tables(other)
    rows = [
        [(row["cell"], row["recipe"], row["weights"]) for row in csv.DictReader(content.splitlines())]
        for content in ((place / "report/numbers/runs.csv").read_text() for place in (folder, other))
    ]
    assert rows[0] == rows[1]


@pytest.mark.slurm
def test_an_array_gives_the_same_cells_and_tables(cluster, recipe, here, tmp_path):
    """Two at a time; refused while it is active; what is done, here one cell, is not submitted again."""
    folder, profile = tmp_path / "study", changed(tmp_path, nodes=1)
    words = ["study", recipe, "--profile", profile, "--concurrent", "2", "--dir", folder]
    shown = mmgnn(*words, "--dry-run").stdout
    assert "#SBATCH --array=0-3%2" in shown and "to start at" in shown and not folder.exists()
    shutil.copytree(here / "cells" / "schnet-graph-f0-s0", folder / "cells" / "schnet-graph-f0-s0")
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        said = mmgnn(*words).stdout
        assert "3 of 4 cells, 1 are done already" in said and f"mmgnn cancel {folder}" in said
        array = said.split("job ")[1].split("_")[0]
        assert "ArrayTaskThrottle=2" in ask("scontrol", "-o", "show", "job", array)
        assert f"is job {array}_0 already (PENDING" in mmgnn(*words, code=2).stderr
        status = json.loads(mmgnn("status", folder, "--json").stdout)
        assert status["studies"][0]["states"] == {"done": 1, "PENDING": 3}
    finally:
        ask("scontrol", "update", "partitionname=main", "state=up")
    wait((folder / "report" / "report.html").is_file, "the report", folder)
    same(here, folder)
    report = json.loads((folder / "slurm" / "report.json").read_text())["job"]
    wait(lambda: not ask("squeue", "-h", "-j", array).strip(), "the end", folder)
    told = mmgnn("status", folder).stdout
    assert "4 cells: 4 done" in told and f"job {report}" in told
    assert "all 4 cells are done" in mmgnn(*words).stdout


def test_ray_gives_the_same_cells_and_tables(ray_once, recipe, here, tmp_path, capsys):
    """On the Ray that runs here already; one of the cells is done."""
    folder = tmp_path / "study"
    before = shutil.copytree(here / "cells" / "schnet-both-f2-s0", folder / "cells" / "schnet-both-f2-s0")
    written = (before / "metrics.json").stat().st_mtime_ns
    assert main(["study", str(recipe), "--ray", "--dir", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"] == {"done": 4}
    same(here, folder)
    assert (before / "metrics.json").stat().st_mtime_ns == written
