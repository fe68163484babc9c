"""Steps that are not finite, ranks that hang, ranks that die."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from command_line import Started, journal, metrics, reach, start_all, start_ranks, write_recipe
from small_set import make_set

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.errors import EXIT_HUNG, EXIT_STOPPED, UserError
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train import guards
from mmgnn_dist.train import run as run_module
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.evaluate import _batches
from mmgnn_dist.train.guards import HangWatchdog, StepGuard, note_every
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.stages import build

GRAPH = ["model.modality=graph", "train.max_steps=8", "train.checkpoint_every=3", "train.log_ids=true"]
LONG = ["model.modality=graph", "train.max_steps=5000", "train.epochs=999"]


def prepared(folder: Path, shards, *words: str) -> Path:
    """A run directory that holds its recipe."""
    (folder / "run").mkdir(parents=True)
    load_recipe(write_recipe(folder, shards.path), list(words)).save(folder / "run" / "recipe.yaml")
    return folder / "run"


def faulty(run: Path, world: int, steps: str, where: str) -> list[Started]:
    """Start ranks of which the last one has a fault in some steps."""
    return start_all("faulty_rank", world, run, steps, where)


def end(ranks: list[Started], code: int, limit: float = 240) -> list[str]:
    """Wait for the ranks; what each wrote to standard error."""
    assert {rank.wait(limit) for rank in ranks} == {code}, "\n".join(rank.output() for rank in ranks)
    return [rank.texts()[1] for rank in ranks]


@pytest.mark.parametrize(
    ("world", "stage", "where", "words"),
    [
        (1, 0, "gradient", []),
        (1, 1, "loss", ["train.micro_batch=2"]),
        (2, 2, "gradient", []),
        (1, 3, "gradient", []),
        (2, 0, "loss", []),
        (1, 0, "norm", []),
        (1, 1, "norm", []),
    ],
)
def test_a_step_that_is_not_finite_is_left_out(few_shards, tmp_path, world, stage, where, words):
    """Counted, written down, its molecules dumped; all later steps are finite; a killed run does the same."""
    words = [*GRAPH, f"train.zero_stage={stage}", *words]
    run, again = (prepared(tmp_path / name, few_shards, *words) for name in ("once", "again"))
    end(faulty(run, world, "0,3,4", where), 0)
    left = journal(run, "skipped")
    assert [line["step"] for line in left] == [1, 4, 5] and left[-1]["skipped"] == 3
    assert [line["step"] for line in journal(run)] == [2, 3, 6, 7, 8]
    assert all(line["loss"] < 10 for line in journal(run)) and metrics(run)["skipped_steps"] == 3
    logged = [
        [json.loads(line)["ids"] for line in path.read_text().splitlines()]
        for path in run.glob("logs/ids_rank_*.jsonl")
    ]
    dumped = json.loads((run / "logs/not_finite_step_4.json").read_text())
    assert sorted(dumped["ids"]) == sorted(name for own in logged for name in own[3])
    ranks = faulty(again, world, "0,3,4", where)
    reach(again, 3, *ranks)
    for rank in ranks:
        rank.kill()
        rank.wait()
    end(faulty(again, world, "0,3,4", where), 0)
    assert metrics(again)["weights"] == metrics(run)["weights"]


def test_too_many_such_steps_end_the_run(few_shards, tmp_path):
    run = prepared(tmp_path, few_shards, *GRAPH, "train.max_skipped=1")
    (error,) = end(faulty(run, 1, "1,2,3", "loss"), 2)
    assert error.count("mmgnn:") == 1 and "train.max_skipped=1" in error and "train.optim.lr" in error
    assert (run / "logs/not_finite_step_3.json").is_file() and journal(run)[-1]["step"] == 1
    # the same run with more patience, and in smaller passes
    words = [*GRAPH, "train.max_skipped=3", "train.checkpoint_every=2", "train.micro_batch=4"]
    load_recipe(write_recipe(tmp_path, few_shards.path), words).save(run / "recipe.yaml")
    end(faulty(run, 1, "1,2,3", "loss"), 0)
    assert metrics(run)["skipped_steps"] == 3


def test_a_rank_that_hangs_is_named(few_shards, tmp_path):
    run = prepared(tmp_path, few_shards, *LONG, "train.timeout=8")
    started = time.monotonic()
    errors = end(faulty(run, 2, "4", "hang"), EXIT_HUNG, limit=90)
    print(f"ended {time.monotonic() - started:.0f} s after the start")
    assert "rank 0: no progress for" in errors[0] and "waited for rank 1 (step 4, forward" in errors[0]
    assert "step 4, forward" in (run / "logs/rank_1.log").read_text()


def test_a_rank_that_dies_ends_the_others_without_a_launcher(few_shards, tmp_path):
    """As on another node, where nobody sees it but the ranks themselves."""
    run = prepared(tmp_path, few_shards, *LONG)
    ranks = start_ranks(run, 2)
    reach(run, 3, *ranks)
    started = time.monotonic()
    os.kill(ranks[1].pid, signal.SIGKILL)
    assert ranks[1].wait() == -signal.SIGKILL
    assert ranks[0].wait(60) not in (0, 3)
    print(f"the other rank ended after {time.monotonic() - started:.1f} s")


def test_the_watch_counts_from_its_start(tmp_path, monkeypatch):
    """What comes between making it and starting it, and what is long but gets on, ends no rank."""
    ended = []
    monkeypatch.setattr(HangWatchdog, "_give_up", lambda self, still: ended.append(still))
    (tmp_path / "logs").mkdir()
    watch = HangWatchdog(RunDir(tmp_path), 0, 2, limit=0.4)
    time.sleep(0.6)
    with watch:
        for _ in range(6):
            time.sleep(0.1)
            watch.alive()
        assert not ended
        time.sleep(0.8)
    assert ended
    ended.clear()
    with HangWatchdog(RunDir(tmp_path), 0, 2, limit=0.4) as watch:
        watch.stop()  # what comes now it does alone
        time.sleep(0.8)
    assert not ended


@pytest.mark.parametrize("hung", [True, False])
def test_a_rank_that_loses_a_hung_rank_ends_as_hung(tmp_path, monkeypatch, capsys, hung):
    """The rank that ends first closes the connections: the other may raise before its own limit."""
    codes = []
    monkeypatch.setattr(guards, "exit_now", codes.append)
    (tmp_path / "logs").mkdir()
    watch, other = (HangWatchdog(RunDir(tmp_path), rank, 2, limit=60) for rank in range(2))
    with pytest.raises(RuntimeError, match="closed by peer"), watch:
        if hung:
            other._give_up(61)
        watch.beat("step 4, backward")
        raise RuntimeError("closed by peer")
    assert codes == [EXIT_HUNG] * 2 * hung
    assert ("rank 0: no progress" in capsys.readouterr().err) is hung


def test_a_rank_that_gives_up_before_any_note_names_all_as_silent(tmp_path):
    """Neither its own thread nor the other rank has written yet: the report must not fail."""
    watch = HangWatchdog(RunDir(tmp_path), 0, 2, limit=60)
    assert watch.late() == "rank 0: never heard of; rank 1: never heard of"


def test_ranks_that_have_no_molecule_in_the_last_batch_beat_too(tmp_path):
    """Or the rank with the fewest beats, which is named, would soon not be the one that hangs."""
    shards = make_set(tmp_path / "shards")
    beats, sizes = ([], []), ([], [])
    for rank in range(2):
        loader = Loader(shards, np.arange(11), ["gap"], batch=4, rank=rank, world=2, shuffle=False)
        ranks = Ranks(rank, 2, torch.device("cpu"), beat=beats[rank].append)
        sizes[rank].extend(batch.size for batch in _batches(loader, ranks))
    assert beats[0] == beats[1] and sizes == ([3, 4], [4])


def test_the_deadline_counts_from_the_start_and_a_bad_batch_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    make_split(make_set(tmp_path / "shards"))
    words = ["targets=[gap]", "model.modality=graph", "train.max_steps=9", "train.deadline=3"]
    recipe, text = write_recipe(tmp_path, tmp_path / "shards"), build.open_text_data
    load_recipe(recipe, words).save(tmp_path / "run" / "recipe.yaml")
    slow = lambda *arguments: (time.sleep(3), text(*arguments))[1]  # noqa: E731
    monkeypatch.setattr(build, "open_text_data", slow)
    assert run_module.run(tmp_path / "run", quiet=True) == EXIT_STOPPED
    assert [line["step"] for line in journal(tmp_path / "run")] == [1]
    monkeypatch.setattr(build, "open_text_data", None)
    load_recipe(recipe, [*words, "train.micro_batch=1"]).save(tmp_path / "run" / "recipe.yaml")
    with pytest.raises(UserError, match=r"leave a process without molecules .* train.micro_batch=1"):
        run_module.run(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("phase", ["open_text_data", "predict"])
def test_a_stop_in_set_up_or_before_the_test_is_one_in_order(tmp_path, monkeypatch, phase):
    """The run leaves at the border of the phase, nothing is lost, and the same call ends it."""
    make_split(make_set(tmp_path / "shards"))
    words = ["targets=[gap]", "model.modality=graph", "train.max_steps=2"]
    load_recipe(write_recipe(tmp_path, tmp_path / "shards"), words).save(tmp_path / "run" / "recipe.yaml")
    with monkeypatch.context() as patched:
        if phase == "open_text_data":
            patched.setattr(build, "open_text_data", _signalled(build.open_text_data))
        else:
            patched.setattr(Saver, "wait", _signalled(Saver.wait))
        assert run_module.run(tmp_path / "run", quiet=True) == EXIT_STOPPED
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert len(list(tmp_path.glob("run/checkpoints/step_*"))) == (phase == "predict")
    mapped, train = [], Trainer.run

    def noting(trainer):
        mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if "step_" in line)
        return train(trainer)

    monkeypatch.setattr(Trainer, "run", noting)
    assert run_module.run(tmp_path / "run", quiet=True) == 0
    assert not mapped  # NFS could not prune what it continues from
    assert metrics(tmp_path / "run")["steps"] == 2


def _signalled(function):
    """The function, with a stop signal to this process before it."""

    def call(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments)

    return call


@pytest.mark.parametrize(("clip", "moved"), [(None, 5.0), (1.0, 1.0)])
def test_a_gradient_without_limit_is_not_clipped(clip, moved):
    """One step of plain descent by a gradient of norm 5 (3, 4), at stage 0."""
    module = torch.nn.Linear(2, 1, bias=False)
    engine = SimpleNamespace(module=module, optimizer=torch.optim.SGD(module.parameters(), lr=1.0))
    guard = StepGuard(engine, load_recipe(None, [f"train.optim.clip={clip or 'null'}"]).train.optim.clip)
    before = module.weight.detach().clone()
    module(torch.tensor([3.0, 4.0])).backward()
    guard.judge(1.0, float(guard.norm()))
    engine.optimizer.step()
    assert float((module.weight.detach() - before).norm()) == pytest.approx(moved, rel=1e-5)


def test_notes_of_many_ranks_are_a_bounded_load():
    """A write and a rename a note; notes are at most a quarter as old as a rank without progress may be."""
    for world in (2, 64, 512, 4096):
        assert 2 * world / note_every(world, 1800.0) <= 25
    assert note_every(2, 1800.0) == 5.0 and note_every(512, 40.0) == 10.0


def test_a_rank_that_gives_up_keeps_the_flight_record(tmp_path, monkeypatch):
    """NCCL's own timeout would come a minute after the watchdog, so the watchdog writes the dump."""
    run = RunDir(tmp_path)
    run.logs.mkdir()
    watch = HangWatchdog(run, 3, 4, limit=60)
    with suppress(SystemExit):
        monkeypatch.setattr("mmgnn_dist.train.guards.exit_now", sys.exit)
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
        monkeypatch.setattr(torch._C._distributed_c10d, "_dump_nccl_trace", lambda: b"trace", raising=False)
        watch._give_up(61.0)
    assert (run.logs / "flight_recorder_rank_3").read_bytes() == b"trace"
