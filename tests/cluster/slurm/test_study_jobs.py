"""The same study as a Slurm array and on Ray as on this machine: the same cells, the same tables."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import journal, metrics, mmgnn
from jobs import PROFILE, ask, changed, wait
from processes_left import MARK, none_left
from ray_batch import batch
from small_set import make_set

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.splits import make_split

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


@pytest.mark.slow
def test_on_ray_a_deadline_stops_the_whole_study_in_order(ray_once, recipe, tmp_path, capsys):
    folder = tmp_path / "study"
    words = ["study", str(recipe), "--ray", "--dir", str(folder), "study.workers=1", "train.deadline=0.001"]
    assert main([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["states"] == {"part": 1, "waiting": 3}


@pytest.mark.slurm
@pytest.mark.slow
def test_ray_on_two_nodes_gives_the_same_cells_and_tables(cluster, recipe, here, tmp_path):
    folder, log = tmp_path / "study", tmp_path / f"{tmp_path.name}.log"
    batch(log, sys.executable, "-m", "mmgnn_dist.cli", "study", recipe, "--ray", "--dir", folder)
    none_left(log.stem)
    same(here, folder)
    # a node has one processor there, so two cells at a time are one on each
    session = json.loads((folder / "sessions.jsonl").read_text())
    assert session["workers"] == len(session["nodes"]) == 2 and session["joules"] == {}


@pytest.mark.slow
@pytest.mark.slurm
def test_a_failed_element_stops_nothing_and_is_reported(cluster, recipe, tmp_path):
    """It fails once, the report names it, and the same command submits it alone; both are cancelled."""
    folder, profile = tmp_path / "study", changed(tmp_path, nodes=1)
    words = ["study", recipe, "--profile", profile, "--dir", folder, BROKEN]
    words += ["study.arms=[graph]", "study.folds=[0]"]
    jobs = json.loads(mmgnn(*words, "--json").stdout)["jobs"]
    assert len(jobs) == 3 and jobs[2]["after"] == jobs[0]["job"].split("_")[0]
    wait((folder / "report" / "report.html").is_file, "the report", folder)
    text = (folder / "report" / "report.md").read_text()
    assert "1 of 2 runs are done" in text and "**broken-graph-f0-s0 failed**: " in text
    assert "are not finite" in text.split("failed**: ")[1].splitlines()[0]
    told = json.loads(mmgnn("status", folder, "--json").stdout)["runs"]
    found = {Path(run["run"]).name: run for run in told}
    assert found["fine-graph-f0-s0"]["done"] and "are not finite" in found["broken-graph-f0-s0"]["error"]
    assert all(run["restarts"] == 0 for run in found.values())
    wait(lambda: not ask("squeue", "-h", "-n", "tiny-report").strip(), "the report's end", folder)
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        *runs, report = json.loads(mmgnn(*words, "--json").stdout)["jobs"]
        assert [Path(job["run"]).name for job in runs] == ["broken-graph-f0-s0"]
        assert not (Path(runs[0]["run"]) / "failure.json").exists()
        told = json.loads(mmgnn("cancel", folder, "--json").stdout)["cancelled"]
        assert told == [runs[0]["job"], report["job"]]
    finally:
        ask("scontrol", "update", "partitionname=main", "state=up")


def start_ray(mark: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mmgnn_dist.cli", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | {MARK: mark}, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_on_ray_a_dead_worker_costs_its_cell_and_a_signal_stops_in_order(recipe, tmp_path):
    """A Ray of its own: one worker is killed, one cell diverges, the other is done; nothing is left."""
    folder, mark = tmp_path / "study", tmp_path.name
    words = [
        "study",
        recipe,
        "--ray",
        "--dir",
        folder,
        "study.arms=[graph]",
        "study.folds=[0]",
        BROKEN[:-1] + ", long: {train.max_steps: 99999, train.epochs: 99999, train.validate_every: 99999}}",
    ]
    long = folder / "cells" / "long-graph-f0-s0"

    def begun(process: subprocess.Popen[str], step: int) -> None:
        end = time.monotonic() + 240
        while not any(line["step"] >= step for line in journal(long)):
            assert process.poll() is None and time.monotonic() < end, process.stderr and process.stderr.read()
            time.sleep(0.05)

    process = start_ray(mark, *words)
    begun(process, 1)
    lock = str(long / "logs" / "lock")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            holds = any(str(one.readlink()) == lock for one in (path / "fd").iterdir())
        except OSError:
            continue
        if holds:
            os.kill(int(path.name), signal.SIGKILL)
    told = process.communicate(timeout=240)[1]
    assert process.returncode == 1 and "worker on Ray has died" in told and "are not finite" in told
    assert (folder / "cells/fine-graph-f0-s0/metrics.json").is_file()
    none_left(mark)

    last = journal(long)[-1]["step"]
    process = start_ray(mark, *words)
    begun(process, last + 20)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 3
    saved = max(int(path.name.removeprefix("step_")) for path in long.glob("checkpoints/step_*"))
    assert saved == journal(long)[-1]["step"]
    none_left(mark)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ray", "--cells"], "--ray and --cells do not go together"),
        (["--profile", "PROFILE", "--cell", "1"], "--profile and --cell do not go together"),
        (["--concurrent", "2"], "give --profile slurm/NAME.yaml"),
        (["--dry-run"], "give --profile slurm/NAME.yaml"),
        (["--profile", "PROFILE", "--concurrent", "0"], "--concurrent 0"),
        (["--profile", "no.yaml"], "no.yaml"),
        (["--ray", "train.threads=999"], "train.threads=999: a node of this Ray has"),
    ],
)
def test_wrong_places_are_refused_by_one_line(ray_once, recipe, tmp_path, capsys, words, says):
    words = [str(PROFILE) if word == "PROFILE" else word for word in words]
    assert main(["study", str(recipe), "--dir", str(tmp_path / "study"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1] and not list(tmp_path.glob("study/cells/*/journal.jsonl"))
