"""The four kinds of jobs: how each is submitted, whether it is done, and whether it has the right bits."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from chaos_cluster import Site
from command_line import start
from faults import other_job
from jobs import PROFILE
from make_encoder import make_encoder
from small_set import part_of

from mmgnn_dist.chem.readers.find import sample_path
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.shards import ShardSet, read_manifest
from mmgnn_dist.data.shardset.splits import make_split

ROOT = Path(__file__).parents[2]
RAY = ROOT / "slurm" / "ray.sbatch"
STEPS = 40
COMMON = """
targets: [homo, gap, energy]
data: {shards: %s}
text: {encoder: %s, fields: [iupac_name], mode: %s}
model:
  modality: %s
  backbone: {name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 8, cutoff: 4.0}
train:
  {epochs: 99, max_steps: %d, batch: 8, threads: 1, precision: fp32, zero_stage: 1, checkpoint_every: 5,
   validate_every: 1, log_ids: true, timeout: 60, optim: {ema: 0.9}}
track: {wandb: %s}
"""
STUDY = "study: {arms: [graph, both], folds: [0], workers: 1}\n"
CHOICES = {"train.optim.lr": [0.001, 0.003], "model.dropout": [0.0, 0.2]}
ROWS, FOLDS = "data.rows_per_shard=50", "data.split=kfold"
SWEEP = """
sweep:
  samples: 2
  scheduler: none
  concurrent: 2
  space:
    train.optim.lr: {kind: choice, values: [0.001, 0.003]}
    model.dropout: {kind: choice, values: [0.0, 0.2]}
"""
RECIPES = {  # name: mode of the text, modality, W&B, more sections
    "train": ("full", "both", "offline", ""),
    "study": ("frozen", "both", "disabled", STUDY),
    "sweep": ("frozen", "graph", "disabled", SWEEP),
}
TIMED = ("cost", "runs")  # tables that tell how long it took


def call(*words: object) -> tuple[int, str]:
    """Run a command line of the package; returns its exit code and what it said."""
    process = start(*words)
    code = process.wait(300)
    return code, process.output()


@dataclass
class Kind:
    """A kind of job.

    Attributes:
        name: how the journal calls it.
        send: submits the job whose output goes to a folder, or again; returns exit code and words.
        done: whether the output is complete.
        differs: what in the output differs from an undisturbed one.
        cause: the line that says why a job that is not done has stopped, None without one.
    """

    name: str
    send: Callable[[Site, Path], tuple[int, str]]
    done: Callable[[Path], bool]
    differs: Callable[[Path], list[str]]
    cause: Callable[[Site, Path], str | None]


def result(run: Path) -> dict[str, object]:
    """What must be equal in two runs."""
    found = json.loads((run / "metrics.json").read_text())
    kept = {name: found[name] for name in ("weights", "averaged_weights", "metrics")}
    return kept | {"predictions": repr(pq.read_table(run / "predictions.parquet").to_pydict())}


def losses(run: Path) -> list[tuple[int, float]]:
    """The loss of each step in the journal."""
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def run_differs(run: Path, other: Path) -> list[str]:
    """What in a run differs from another one."""
    one, two = result(run), result(other)
    found = [name for name in one if one[name] != two[name]]
    return found + (["losses"] if losses(run) != losses(other) else [])


def told(site: Site, folder: Path) -> str | None:
    """Why it stopped, as `mmgnn status` tells it."""
    code, said = call("status", folder, "--json")
    if code:
        return None
    found = json.loads(said[said.index("{") :])
    for run in found["runs"] + found["commands"]:
        if run["error"]:
            return f"{run['state']}: {run['error']}"
        if "PENDING" in run["state"] and "held" in run["state"].lower():
            return str(run["state"])
        if run["state"].startswith("CANCELLED") and not run["done"]:
            return "CANCELLED"
    return None


def listed(folder: Path) -> dict[str, str]:
    """SHA-256 of every shard, as its file has it."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.arrow")}


def batch(*words: object) -> Callable[[Site, Path], tuple[int, str]]:
    """A command for Ray in an allocation; `TO` stands for the output."""

    def send(site: Site, folder: Path) -> tuple[int, str]:
        line = [str(folder) if word == "TO" else str(word) for word in words]
        command = [sys.executable, "-m", "mmgnn_dist.cli", *line]
        done = other_job(site, folder.parent / "log", "--cpus-per-task=1", str(RAY), *command)
        return done.returncode, done.stdout + done.stderr

    return send


def make_inputs(base: Path) -> None:
    """Make data, recipes and profiles in a folder, and the undisturbed output of each kind."""
    source = base / "some.parquet"
    pq.write_table(pq.read_table(sample_path()).slice(0, 600), source)
    must("data", "prepare", source, "--to", base / "prepared", ROWS)
    shards = part_of(ShardSet.open(base / "prepared"), base / "shards", 8)
    make_split(shards, "kfold", 3)
    encoder = make_encoder(base / "encoder", "bert")
    for name, (mode, modality, wandb, more) in RECIPES.items():
        text = COMMON % (shards.path, encoder, mode, modality, STEPS, wandb) + more
        (base / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    profile = yaml.safe_load(PROFILE.read_text())
    for nodes in (1, 2):
        (base / f"nodes{nodes}.yaml").write_text(yaml.safe_dump(profile | {"nodes": nodes}))
    must("train", base / "train.yaml", "--run", base / "train", "--nproc", 2)
    must("study", base / "study.yaml", "--dir", base / "study", FOLDS)
    for rate, dropout in product(*CHOICES.values()):
        keys = [f"train.optim.lr={rate}", f"model.dropout={dropout}", "sweep=null"]
        must("train", base / "sweep.yaml", "--run", trial_of(base, rate, dropout), *keys)


def must(*words: object) -> None:
    """Run a command line that has to succeed."""
    code, said = call(*words)
    assert code == 0, said


def trial_of(base: Path, rate: float, dropout: float) -> Path:
    """The undisturbed run of a trial."""
    return base / f"trial-{rate}-{dropout}"


def train(base: Path) -> Kind:
    """A run of two ranks on two nodes."""

    def send(site: Site, run: Path) -> tuple[int, str]:
        return call("submit", base / "train.yaml", "--profile", base / "nodes2.yaml", "--run", run)

    def done(run: Path) -> bool:
        return (run / "metrics.json").is_file()

    return Kind("train", send, done, lambda run: run_differs(run, base / "train"), told)


def study(base: Path) -> Kind:
    """A study's array of two cells, and its report."""
    names = sorted(path.name for path in (base / "study").glob("cells/*"))

    def send(site: Site, folder: Path) -> tuple[int, str]:
        words = ("--profile", base / "nodes1.yaml", "--concurrent", 2, "--dir", folder, FOLDS)
        return call("study", base / "study.yaml", *words)

    def done(folder: Path) -> bool:
        paths = [folder / "report" / "report.html"]
        return all(
            path.is_file() for path in paths + [folder / "cells" / name / "metrics.json" for name in names]
        )

    def tables(folder: Path) -> dict[str, str]:
        found = {path.stem: path.read_text() for path in (folder / "report" / "numbers").glob("*.csv")}
        return {name: text for name, text in found.items() if name not in TIMED}

    def differs(folder: Path) -> list[str]:
        pairs = [(folder / "cells" / name, base / "study" / "cells" / name) for name in names]
        found = [f"{one.name}: {what}" for one, two in pairs for what in run_differs(one, two)]
        return found + (["tables"] if tables(folder) != tables(base / "study") else [])

    return Kind("study", send, done, differs, told)


def sweep(base: Path) -> Kind:
    """A sweep of two trials by Ray on two nodes."""

    def done(folder: Path) -> bool:
        states = [json.loads(path.read_text())["state"] for path in folder.glob("trials/*/trial.json")]
        return states == ["done"] * 2 and (folder / "best.yaml").is_file()

    def differs(folder: Path) -> list[str]:
        found = []
        for run in sorted(folder.glob("trials/*")):
            recipe = load_recipe(run / "recipe.yaml")
            other = trial_of(base, recipe.train.optim.lr, recipe.model.dropout)
            found += [f"{run.name}: {what}" for what in run_differs(run, other)]
        return found

    return Kind("sweep", batch("sweep", base / "sweep.yaml", "--dir", "TO"), done, differs, told)


def preparation(base: Path) -> Kind:
    """A preparation by Ray on two nodes."""
    whole = base / "prepared"

    def differs(folder: Path) -> list[str]:
        one, two = read_manifest(folder), read_manifest(whole)
        found = [name for name in ("shards", "counts", "rows", "targets") if one[name] != two[name]]
        return found + (["files"] if listed(folder) != listed(whole) else [])

    words = ("data", "prepare", base / "some.parquet", "--to", "TO", ROWS, "data.workers=2")
    return Kind("prepare", batch(*words), lambda to: (to / "manifest.json").is_file(), differs, told)


def kinds(base: Path) -> dict[str, Kind]:
    """The four kinds by name, with the inputs of a folder."""
    return {kind.name: kind for kind in (train(base), study(base), sweep(base), preparation(base))}
