"""`mmgnn sweep` on this machine: killed in the middle and continued, its table, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import journal, mmgnn
from jobs import wandb_groups
from processes_left import MARK, none_left
from sweep_states import RECIPE, half_way, progress, states, steps, went_on

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe

KEY = "local-plantedkey0123456789abcdef0123456789ab"
LIMIT = 600.0  # seconds that half a sweep may take on a busy machine


@pytest.fixture(scope="module")
def recipe(sample_shards, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "search.yaml"
    path.write_text(RECIPE % sample_shards.path)
    return path


@pytest.fixture(scope="module")
def searched(recipe, tmp_path_factory):
    """A sweep whose driver is killed in the middle, and what the same command made of it."""
    folder = tmp_path_factory.mktemp("searched") / "sweep"
    mark = folder.parent.name
    environment = os.environ | {MARK: mark, "WANDB_API_KEY": KEY}
    words = [sys.executable, "-m", "mmgnn_dist.cli", "sweep", str(recipe), "--dir", str(folder)]
    words.append("track.wandb=offline")
    with open(folder.parent / "first.log", "w") as log:
        first = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
    end = time.monotonic() + LIMIT
    try:
        while not half_way(folder, 1):
            assert first.poll() is None and time.monotonic() < end, (folder.parent / "first.log").read_text()
            time.sleep(0.05)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    none_left(mark)
    before = progress(folder)
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    none_left(mark)
    return folder, before, done, words


@pytest.mark.slow
def test_what_was_done_is_not_done_again_and_the_rest_continues(searched):
    folder, before, _, _ = searched
    assert states(folder) == dict.fromkeys(["000", "001", "002", "003"], "done")
    went_on(folder, before)
    assert wandb_groups(folder.glob("trials/00?")) == {load_recipe(folder / "recipe.yaml").name}


@pytest.mark.slow
def test_the_table_follows_from_the_journals(searched):
    folder, _, done, _ = searched
    found = json.loads((folder / "leaderboard.json").read_text())
    by_journal = {
        int(name): min(line["val/score"] for line in journal(folder / "trials" / name, "validation"))
        for name in states(folder)
    }
    assert {row["trial"]: row["score"] for row in found["trials"]} == by_journal
    assert [row["score"] for row in found["trials"]] == sorted(by_journal.values())
    best = found["trials"][0]
    assert f"{best['trial']:03d}  done" in " ".join(done.stdout.split()).replace(" done", "  done")
    recipe = load_recipe(folder / "best.yaml")
    assert recipe.train.optim.lr == best["train.optim.lr"] and recipe.sweep is None
    own = load_recipe(folder / "trials" / f"{best['trial']:03d}" / "recipe.yaml")
    assert own.model == recipe.model and own.track.group == "search"
    low, high = 1e-4, 1e-2
    assert all(low <= row["train.optim.lr"] <= high for row in found["trials"])
    assert len({row["train.optim.lr"] for row in found["trials"]}) == 4
    for name in ("parallel_coordinates", "history"):
        assert (folder / "plots" / f"{name}.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_sweep_that_is_done_is_only_shown(searched):
    folder, _, done, words = searched
    again = mmgnn(*words[3:])
    assert again.stdout == done.stdout
    other = mmgnn(*words[3:], "sweep.metric=val/mae/gap_eV", code=2)
    assert "holds another sweep (sweep.metric differ)" in other.stderr
    mmgnn("train", folder / "best.yaml", "--run", folder / "run", "--dry-run", "--json")


@pytest.mark.slow
def test_a_key_reaches_no_file_and_no_log(searched):
    folder, _, done, _ = searched
    found = subprocess.run(["grep", "-rlaF", KEY, folder.parent], check=False, capture_output=True, text=True)
    assert found.stdout == "" and KEY not in done.stdout + done.stderr


def test_a_gpu_too_few_is_refused(recipe, tmp_path):
    done = mmgnn("sweep", recipe, "--dir", tmp_path / "sweep", "sweep.gpus=1", "sweep.ranks=9", code=2)
    assert "9 GPUs" in done.stderr and "sweep.gpus" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "sweep").glob("trials/*"))


def test_a_gpu_that_is_not_seen_stops_a_rank(recipe, tmp_path, monkeypatch):
    """What a trial with a GPU is started with never trains on the CPU instead."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    done = mmgnn("train", recipe, "--run", tmp_path / "run", code=2)
    assert "no GPU is seen here" in done.stderr


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{space: {}}", "sweep.space"),
        ("{space: {train.optim.lrr: {kind: float, low: 1, high: 2}}}", "did you mean 'lr'"),
        ("{space: {train.seed: {kind: int, low: 1, high: 2}}}", "differ in train.seed cannot be compared"),
        ("{space: {data.split: {kind: choice, values: [a, b]}}}", "differ in data cannot be compared"),
        ("{space: {model.dropout: {kind: float, low: 0, high: 2}}}", "does not allow 2.0"),
        ("{space: {model.fusion: {kind: choice, values: [gate, gat]}}}", "does not allow gat"),
        ("{space: {model.dropout: {kind: float, low: 0.5, high: 0.1}}}", "the lower one first"),
        ("{space: {model.dropout: {kind: float, low: 0, high: 0.5, log: true}}}", "no logarithm"),
        ("{metric: test/mae/gap_eV, space: {model.dropout: {kind: float, low: 0, high: 0.5}}}", "validation"),
        ("{metric: val/mae/gap_meV, space: {model.dropout: {kind: float, low: 0, high: 0.5}}}", "gap_eV"),
        ("{gpus: 0.5, ranks: 2, space: {model.dropout: {kind: float, low: 0, high: 0.5}}}", "GPU each"),
        ("{sample: 9, space: {model.dropout: {kind: float, low: 0, high: 0.5}}}", "did you mean 'samples'"),
        ("null", "launch/sweep.yaml"),
    ],
)
def test_a_wrong_section_is_refused(recipe, tmp_path, capsys, section, says):
    assert main(["sweep", str(recipe), "--dir", str(tmp_path / "sweep"), f"sweep={section}", "--json"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and error.count("\n") == 0
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(("metric", "mode"), [("val/score", "min"), ("val/auroc/toxic", "max")])
def test_asha_knows_the_trials_of_earlier_sessions(metric, mode):
    """Errors are the better the less, areas under a curve the more."""
    from types import SimpleNamespace

    from ray.tune.schedulers import TrialScheduler

    from mmgnn_dist.config import Dimension, SweepConfig
    from mmgnn_dist.sweep.ledger import Entry
    from mmgnn_dist.sweep.searcher import scheduler

    space = {"model.dropout": Dimension(kind="float", low=0, high=0.5)}
    known = [Entry(number, {}, "done", scores=[0.1 * number, 0.1 * number]) for number in range(1, 7)]
    asha = scheduler(SweepConfig(space=space, metric=metric, reduction=3), 9, known)

    def verdict(score: float) -> str:
        trial = SimpleNamespace(trial_id=f"new-{score}")
        asha.on_trial_add(None, trial)
        return asha.on_trial_result(None, trial, {"validations": 1, metric: score})

    assert verdict(0.55 if mode == "min" else 0.15) == TrialScheduler.STOP
    assert verdict(0.05 if mode == "min" else 0.65) == TrialScheduler.CONTINUE


def test_a_sweep_over_a_class_takes_the_largest_area_under_its_curve(tmp_path):
    """A trial without a value, as in a validation part of one class, fails; the others are ranked."""
    from mmgnn_dist.sweep.leaderboard import write_leaderboard
    from mmgnn_dist.sweep.searcher import Search

    words = ["targets=[toxic]", "sweep.metric=val/auroc/toxic"]
    space = "sweep.space={model.dropout: {kind: float, low: 0, high: 0.5}}"
    recipe = load_recipe(None, [*words, space])
    search = Search(recipe, tmp_path, lambda entries: None, lambda: False)
    for number, areas in enumerate([[0.6, 0.9], [0.7, 0.65], [None]]):
        assert search.suggest(str(number))
        lines = [
            {"kind": "validation", "step": step, "val/auroc/toxic": area} for step, area in enumerate(areas)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "trials" / f"{number:03d}" / "journal.jsonl").write_text(text)
        search.on_trial_complete(str(number), {"ended": "done"})
    assert [entry.best for entry in search.entries] == [0.9, 0.7, None]
    assert search._study.best_value == 0.9
    assert "too few labels" in search.entries[2].reason
    write_leaderboard(recipe, tmp_path, search.entries)
    rows = json.loads((tmp_path / "leaderboard.json").read_text())["trials"]
    assert [row["trial"] for row in rows] == [0, 1, 2]
    best = load_recipe(tmp_path / "best.yaml")
    assert best.model.dropout == search.entries[0].values["model.dropout"]


def test_a_trial_whose_worker_ends_by_a_stop_is_not_failed(tmp_path):
    """A signal to all processes of a job may end a worker while it starts: Tune calls that an error."""
    from mmgnn_dist.sweep.searcher import Search

    space = "sweep.space={model.dropout: {kind: float, low: 0, high: 0.5}}"
    stopping = True
    search = Search(load_recipe(None, [space]), tmp_path, lambda entries: None, lambda: stopping)
    for trial in ("one", "two"):
        assert search.suggest(trial)
    search.on_trial_complete("one", error=True)
    stopping = False
    search.on_trial_complete("two", error=True)
    assert states(tmp_path) == {"000": "open", "001": "failed"}


@pytest.mark.slow
def test_a_signal_stops_in_order_and_faults_are_told(recipe, tmp_path):
    """SIGTERM: the trials save and the sweep continues; a trial with wrong values fails alone."""
    folder, path = tmp_path / "sweep", tmp_path / "batches.yaml"
    path.write_text(recipe.read_text() + "    train.batch: {kind: choice, values: [32, 100000]}\n")
    words = ["sweep", str(path), "--dir", str(folder), "sweep.samples=5", "sweep.ranks=2"]
    process = subprocess.Popen([sys.executable, "-m", "mmgnn_dist.cli", *words])
    end = time.monotonic() + 240
    while not any(len(steps(run)) > 40 for run in folder.glob("trials/*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 3
    opened = [folder / "trials" / name for name, state in states(folder).items() if state == "open"]
    assert any(list(run.glob("checkpoints/step_*")) for run in opened)
    mmgnn(*words)
    found = states(folder)
    assert set(found.values()) == {"done", "failed"} and len(found) == 5
    assert "train.batch=100000 is larger than" in (folder / "leaderboard.md").read_text()
