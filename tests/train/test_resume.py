"""A run that is killed or stopped ends as the undisturbed one; two ranks see what one sees."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from command_line import ids_of, interrupt, journal, metrics, mmgnn, write_recipe

from mmgnn_dist.files import read_json
from mmgnn_dist.train.checkpoint import store as checkpoint


@pytest.fixture(scope="module")
def undisturbed(few_shards, tiny_bert, tmp_path_factory):
    """The recipe (every dropout on, language model fully trained) and its run without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(folder, few_shards.path, encoder=tiny_bert)
    drawn = "fields: [iupac_name, synonyms], field_tokens: 24, field_dropout: 0.3, sample_synonyms: true"
    recipe.write_text(recipe.read_text().replace("fields: [iupac_name]", drawn))
    mmgnn("train", recipe, "--run", folder / "run", fresh=True)
    return recipe, folder / "run"


def same_end(run, other):
    assert metrics(run)["weights"] == metrics(other)["weights"]
    assert metrics(run)["averaged_weights"] == metrics(other)["averaged_weights"]
    assert metrics(run)["metrics"] == metrics(other)["metrics"]
    losses = [[(line["step"], line["loss"]) for line in journal(r)] for r in (run, other)]
    assert losses[0] == losses[1]


def test_sigkill_at_a_random_step_changes_nothing(undisturbed, tmp_path):
    recipe, reference = undisturbed
    step = random.SystemRandom().randint(1, 11)
    print(f"killed after step {step}")
    words = ["train", recipe, "--run", tmp_path / "run"]
    interrupt(tmp_path / "run", step, signal.SIGKILL, *words).wait()
    mmgnn(*words)
    same_end(reference, tmp_path / "run")
    for run in (reference, tmp_path / "run"):  # both with tabulated filters to the end
        assert read_json(checkpoint.complete(run / "checkpoints")[-1] / "state.json")["tables"]


@pytest.mark.parametrize(("number", "wandb"), [(signal.SIGTERM, "offline"), (signal.SIGUSR1, "disabled")])
def test_a_stop_signal_saves_and_says_so(undisturbed, tmp_path, number, wandb):
    recipe, reference = undisturbed
    run = tmp_path / "run"
    words = ["train", recipe, "--run", run, f"track.wandb={wandb}"]
    process = interrupt(run, 3, number, *words)
    assert process.wait() == 3
    stopped = journal(run)[-1]["step"]
    assert (run / f"checkpoints/step_{stopped:06d}/manifest.json").is_file()
    mmgnn(*words)
    same_end(reference, run)
    assert [line["step"] for line in journal(run, "resume")] == [stopped]
    segments = list(run.glob("wandb/offline-run-*"))
    ids = {path.name.rsplit("-", 1)[1] for path in segments}
    if wandb == "offline":
        assert len(segments) == 2 and ids == {(run / "wandb" / "id").read_text()}


def test_sigkill_without_sharding(undisturbed, tmp_path):
    """ZeRO stage 0 keeps its optimiser in another file."""
    recipe, _ = undisturbed
    words = ["train", recipe, "train.zero_stage=0"]
    mmgnn(*words, "--run", tmp_path / "reference")
    interrupt(tmp_path / "run", 8, signal.SIGKILL, *words, "--run", tmp_path / "run").wait()
    mmgnn(*words, "--run", tmp_path / "run")
    same_end(tmp_path / "reference", tmp_path / "run")


def test_a_run_directory_has_one_process_at_a_time(undisturbed, tmp_path):
    recipe, _ = undisturbed
    words = ["train", recipe, "--run", tmp_path / "run", "train.epochs=99", "train.max_steps=900"]
    first = interrupt(tmp_path / "run", 1, signal.SIGCONT, *words)
    assert "another process" in mmgnn(*words, code=2).stderr
    first.kill()
    first.wait()


def test_damaged_checkpoint_is_not_used(undisturbed, tmp_path):
    recipe, reference = undisturbed
    run = tmp_path / "run"
    words = ["train", recipe, "--run", run]
    assert interrupt(run, 7, signal.SIGTERM, *words).wait() == 3
    newest = checkpoint.complete(run / "checkpoints")[-1]
    victim = next((newest / "ds").glob("*optim_states.pt"))
    victim.write_bytes(victim.read_bytes()[:-100])
    done = mmgnn(*words)
    assert "truncated or altered" in done.stdout + done.stderr
    assert metrics(run)["weights"] == metrics(reference)["weights"]
    aside = run / "checkpoints" / f"damaged_{newest.name}"
    assert (aside / "manifest.json").is_file() and len(checkpoint.complete(run / "checkpoints")) <= 3


def test_incomplete_checkpoint_is_ignored(undisturbed, tmp_path):
    """A folder without a manifest, as a kill while writing leaves it, counts for nothing."""
    recipe, reference = undisturbed
    run = tmp_path / "run"
    words = ["train", recipe, "--run", run]
    assert interrupt(run, 7, signal.SIGTERM, *words).wait() == 3
    whole = checkpoint.complete(run / "checkpoints")[-1]
    shutil.copytree(whole, run / "checkpoints" / ".step_000099.part")
    (run / "checkpoints" / ".step_000099.part" / "manifest.json").unlink()
    mmgnn(*words)
    same_end(reference, run)
    assert not list((run / "checkpoints").glob(".step*"))


@pytest.fixture(scope="module")
def two_worlds(few_shards, tiny_bert, tmp_path_factory):
    """One recipe in one and in two processes: fp32, no dropout, 55 steps over several epochs."""
    folder = tmp_path_factory.mktemp("worlds")
    recipe = write_recipe(folder, few_shards.path, encoder=tiny_bert)
    settings = [
        "train.max_steps=55",
        "train.epochs=9",
        "train.dropout=false",
        "train.log_ids=true",
        "train.batch=9",
    ]
    runs = {}
    for world in (1, 2):
        runs[world] = folder / f"world{world}"
        mmgnn("train", recipe, "--run", runs[world], "--nproc", world, *settings)
    return runs


def test_two_processes_see_the_same_molecules(two_worlds):
    one, two = ids_of(two_worlds[1], 1), ids_of(two_worlds[2], 2)
    assert one == two and len(one) == 55
    assert all(len(set(ids)) == len(ids) for ids in one.values())


def test_two_processes_have_the_same_losses(two_worlds):
    losses = [np.array([line["loss"] for line in journal(run)][:50]) for run in two_worlds.values()]
    assert np.abs(losses[1] / losses[0] - 1).max() < 1e-4


def test_the_imbalance_of_every_step_is_logged(two_worlds):
    one, two = ([line["imbalance"] for line in journal(run)] for run in two_worlds.values())
    assert set(one) == {0.0} and len(two) == 55
    assert 0 < np.mean(two) < 0.25  # nine molecules over two ranks: four and five, the lighter ones with five


def test_the_busy_time_of_ranks_is_logged(two_worlds):
    one, two = (journal(run) for run in two_worlds.values())
    assert not any("busy" in line for line in one)
    assert {line["busy"]["rank"] for line in two} <= {0, 1}
    assert all(0 < line["busy"]["mean"] <= line["busy"]["worst"] for line in two)


def test_a_rank_that_dies_ends_the_others(few_shards, tiny_bert, tmp_path):
    recipe = write_recipe(tmp_path, few_shards.path, encoder=tiny_bert)
    run = tmp_path / "run"
    settings = ["train.max_steps=900", "train.epochs=99"]
    words = ["train", recipe, "--run", run, "--nproc", 2, *settings]
    process = interrupt(run, 2, signal.SIGCONT, *words)
    ranks = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(ranks) == 2
    started = time.monotonic()
    os.kill(int(ranks[1]), signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    assert time.monotonic() - started < 60
    assert "rank 1 ended with exit code -9" in process.output()
