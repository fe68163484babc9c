"""Long tests of stops: thirty kills in one run, and worlds that change under way (`make soak`)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import journal, metrics, reach, start_ranks, write_recipe

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train.checkpoint import store as checkpoint

KILLS, IN_PREPARE = 30, 5


@pytest.fixture
def make_run(sample_shards, tiny_bert, tmp_path):
    """Make a run directory of a small recipe with the settings of a test."""
    recipe = write_recipe(tmp_path, sample_shards.path, encoder=tiny_bert)

    def make(name: str, *settings: str):
        run = tmp_path / name
        load_recipe(recipe, list(settings)).save(run / "recipe.yaml")
        return run

    return make


def end(ranks, code: int) -> None:
    found = [rank.wait(600) for rank in ranks]
    assert set(found) == {code}, "\n".join(rank.output() for rank in ranks)


def stop_at(run, step: int, world: int, number: int) -> None:
    """Let ranks go on to a step, and send a signal to the last of them."""
    ranks = start_ranks(run, world)
    reach(run, step, *ranks)
    ranks[-1].send_signal(number)
    end(ranks, 3)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGUSR2])
def test_a_signal_to_one_rank_stops_all_at_one_step(make_run, number):
    run = make_run("run", "train.epochs=99", "train.max_steps=5000", "train.log_ids=true")
    stop_at(run, 3, 2, number)
    step = journal(run)[-1]["step"]
    assert checkpoint.newest(run / "checkpoints").name == checkpoint.folder_of(step)
    for rank in range(2):
        lines = (run / "logs" / f"ids_rank_{rank}.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == step


def test_a_deadline_saves_and_leaves(make_run):
    run = make_run("run", "train.epochs=99", "train.max_steps=5000", "train.deadline=20")
    started = time.monotonic()
    end(start_ranks(run, 1), 3)
    print(f"left after {time.monotonic() - started:.1f} s")
    step = journal(run)[-1]["step"]
    assert step and checkpoint.newest(run / "checkpoints").name == checkpoint.folder_of(step)


def prepare_killed(to: Path, draw: random.Random) -> None:
    """Prepare the bundled molecules, killed at random moments before."""
    command = [sys.executable, "-m", "mmgnn_dist.cli", "data", "prepare", "sample", "--to", str(to)]
    command.append("data.rows_per_shard=100")
    partial = to.with_name(f"{to.name}.partial")
    for _ in range(IN_PREPARE):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not partial.is_dir():
                assert process.poll() is None, "prepare ended before it was killed"
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 1.5))
            process.kill()
        assert not to.exists()
    subprocess.run(command, check=True)


@pytest.mark.slow
def test_thirty_kills_change_nothing(make_run, sample_shards, tmp_path):
    """Two ranks, a checkpoint in every step; half of the kills wait for a checkpoint to be under way.

    The molecules come from a preparation that was killed too; the reference has those of an undisturbed one.
    """
    draw = random.SystemRandom()
    killed = tmp_path / "prepared"
    prepare_killed(killed, draw)
    names = sorted(path.relative_to(killed) for path in killed.rglob("*") if path.is_file())
    for name in names:
        assert (killed / name).read_bytes() == (sample_shards.path / name).read_bytes(), name
    settings = ["train.epochs=99", "train.max_steps=150", "train.checkpoint_every=1"]
    reference, run = make_run("reference", *settings), make_run("run", *settings, f"data.shards={killed}")
    end(start_ranks(reference, 2), 0)
    kills, inside = 0, 0
    while kills < KILLS:
        stands = checkpoint.complete(run / "checkpoints")
        step = int(stands[-1].name.removeprefix("step_")) if stands else 0
        ranks = start_ranks(run, 2)
        reach(run, step + draw.randint(1, 3), *ranks)
        if kills % 2:
            until = time.monotonic() + 30
            while not any((run / "checkpoints").glob(".step_*.part")) and time.monotonic() < until:
                pass
        time.sleep(draw.uniform(0, 0.02))
        inside += any((run / "checkpoints").glob(".step_*.part"))
        victim = draw.choice(ranks)
        assert victim.poll() is None, "the run ended before all kills: give it more steps"
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        for rank in ranks:  # a launcher ends the others
            rank.kill()
            rank.wait()
        kills += 1
        for stands in checkpoint.complete(run / "checkpoints"):
            assert checkpoint._fault(stands, lambda: None) is None, stands
    end(start_ranks(run, 2), 0)
    print(f"{kills} kills, {inside} while a checkpoint was written, and {IN_PREPARE} inside prepare")
    for name in ("weights", "averaged_weights", "metrics"):
        assert metrics(run)[name] == metrics(reference)[name]
    lines = [[(line["step"], line["loss"]) for line in journal(place)] for place in (run, reference)]
    assert lines[0] == lines[1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_worlds_that_change_see_the_same_molecules(make_run, stage):
    """2 -> 4 -> 1 -> 2 ranks, changed every ten steps."""
    settings = [
        "train.max_steps=40",
        "train.epochs=9",
        "train.dropout=false",
        "train.log_ids=true",
        "train.batch=9",
        f"train.zero_stage={stage}",
    ]
    reference, run = make_run("reference", *settings), make_run("run", *settings)
    end(start_ranks(reference, 2), 0)
    for step, world in ((10, 2), (20, 4), (30, 1)):
        stop_at(run, step, world, signal.SIGTERM)
    last = start_ranks(run, 2)
    end(last, 0)
    told = "is converted for 2" if stage else "is read whole by 2"
    assert f"it was written by 1 ranks and {told}" in "".join(last[0].texts())
    assert [line["world"] for line in journal(run, "resume")] == [4, 1, 2]
    assert molecules(run) == molecules(reference) and len(molecules(run)) == 40
    losses = [np.array([line["loss"] for line in journal(place)]) for place in (run, reference)]
    assert np.abs(losses[0] / losses[1] - 1).max() < 1e-3
    rates = [[line["lr"] for line in journal(place)] for place in (run, reference)]
    assert rates[0] == rates[1]


def molecules(run) -> dict[int, list[str]]:
    """The molecules of every step, over all ranks that took part."""
    steps: dict[int, list[str]] = {}
    for path in run.glob("logs/ids_rank_*.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            steps.setdefault(entry["step"], []).extend(entry["ids"])
    return {step: sorted(ids) for step, ids in steps.items()}
