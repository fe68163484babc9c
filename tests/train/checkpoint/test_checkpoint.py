"""Saving: copies are taken at once, files are whole or absent, faults of the disk are told in time."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import threading
from pathlib import Path

import pytest
import torch
from command_line import write_recipe

from mmgnn_dist.config import load_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint import writer as saving
from mmgnn_dist.train.checkpoint.host_copies import HostCopies
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


class Engine:
    """What the saver uses of a DeepSpeed engine: one file with the weights."""

    def __init__(self) -> None:
        self.module = torch.nn.Linear(50, 50)
        self.checkpoint_engine = None

    def save_checkpoint(self, folder, tag, **options) -> None:
        self.checkpoint_engine.save(self.module.state_dict(), f"{folder}/{tag}/weights.pt")


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def saver(engine, tmp_path):
    made = saving.Saver(tmp_path / "checkpoints", engine, ALONE, 1, {"encoder": None})
    yield made
    made.close()


def save(saver, step: int, best: int = -1) -> None:
    saver.save({"w": torch.full((3,), float(step))}, {"step": step, "best_step": best})


def boundary(saver) -> None:
    saver.poll(*saver.status())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def wait_for_thread(saver) -> None:
    saver._thread.submit(lambda: None).result()


def test_training_goes_on_while_a_thread_writes_what_was(saver, engine, monkeypatch):
    go, write = threading.Event(), saving.write_files
    monkeypatch.setattr(saving, "write_files", lambda *words: (go.wait(60), write(*words))[1])
    before = engine.module.weight.detach().clone()
    save(saver, 1)
    with torch.no_grad():
        engine.module.weight.zero_()
    assert saver.status() == (0.0, 0.0) and not checkpoint.complete(saver.folder)
    boundary(saver)
    go.set()
    wait_for_thread(saver)
    assert saver.status() == (1.0, 0.0)
    boundary(saver)
    wait_for_thread(saver)
    found = saver.folder / "step_000001"
    assert checkpoint.newest(saver.folder) == found
    assert torch.equal(torch.load(found / "ds" / "weights.pt")["weight"], before)
    assert saver.status() == (0.0, 0.0)


def test_copies_from_a_gpu_are_waited_for_before_a_thread_writes_them(saver, engine, monkeypatch):
    """The averaged weights too; without a GPU the order of the calls stands for it."""
    calls, take = [], HostCopies.take
    monkeypatch.setattr(HostCopies, "take", lambda *words: (calls.append(words[1]), take(*words))[1])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("synchronize"))
    monkeypatch.setattr(saver, "ranks", Ranks(0, 1, torch.device("cuda")))
    save(saver, 1)
    assert sorted(calls[:2]) == ["ds/weights.pt", checkpoint.EMA] and calls[2:] == ["synchronize"]


def test_the_next_save_waits_and_the_old_one_goes_last(saver):
    save(saver, 1)
    save(saver, 2)
    assert [path.name for path in checkpoint.complete(saver.folder)] == ["step_000001"]
    saver.wait()
    assert names(saver.folder) == ["step_000002"]
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000002"


def test_the_best_one_stays(saver):
    for step in range(1, 6):
        save(saver, step, best=2 if step > 1 else -1)
    saver.wait()
    assert names(saver.folder) == ["step_000002", "step_000005"]


def test_an_unusable_later_one_is_set_aside(saver):
    """The run continues from before it; what it writes then neither goes in its stead nor replaces it."""
    for step in (1, 5):
        saver.keep = 2
        save(saver, step)
    saver.wait()
    saver.keep = 1
    (saver.folder / "step_000005" / "note.txt").write_text("a stray file")
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000001"
    for step in (3, 5):
        save(saver, step)
        saver.wait()
        assert names(saver.folder) == ["damaged_step_000005", f"step_00000{step}"]
        assert checkpoint.newest(saver.folder) == saver.folder / f"step_00000{step}"
    assert (saver.folder / "damaged_step_000005" / "note.txt").is_file()


def test_a_disk_that_gives_back_other_bytes_costs_no_older_checkpoint(saver, monkeypatch):
    save(saver, 1)
    saver.wait()
    write = saving.write_files

    def wrong(part, files):
        entries = write(part, files)
        victim = part / "ds" / "weights.pt"
        victim.write_bytes(victim.read_bytes()[:-1] + b"?")
        return entries

    monkeypatch.setattr(saving, "write_files", wrong)
    save(saver, 2)
    with pytest.raises(
        UserError, match=r"read back, ds/weights.pt is truncated or altered.*step_000001 is kept"
    ):
        saver.wait()
    assert names(saver.folder) == ["damaged_step_000002", "step_000001"]


def test_copies_made_by_hand_are_left_alone(saver):
    save(saver, 1)
    saver.wait()
    shutil.copytree(saver.folder / "step_000001", saver.folder / "step_000001.bak")
    save(saver, 2)
    saver.wait()
    assert names(saver.folder) == ["step_000001.bak", "step_000002"]
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000002"


def test_time_for_a_checkpoint_counts_weights_that_are_shared_out(engine, tmp_path):
    engine.module.weight.ds_numel = 10**9  # as ZeRO stage 3 has it, with nothing in the weight itself
    saver = saving.Saver(tmp_path, engine, ALONE, 1, {})
    assert saver.seconds == pytest.approx(20 * (10**9 + 50) / 50e6)
    saver.close()


def test_order_is_that_of_steps_beyond_six_digits(tmp_path):
    for step in (999_999, 1_000_000):
        place = tmp_path / checkpoint.folder_of(step)
        place.mkdir()
        (place / checkpoint.CHECKPOINT_MANIFEST).write_text("{}")
    assert checkpoint.complete(tmp_path)[-1].name == "step_1000000"


@pytest.mark.parametrize("room", [4096, 65536])  # too little for DeepSpeed's file, for the average alone
def test_a_full_disk_is_told_at_the_next_step_and_the_last_one_is_kept(saver, room):
    save(saver, 1)
    saver.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        saver.save({"w": torch.zeros(room)}, {"step": 2, "best_step": -1})
        wait_for_thread(saver)
        assert saver.status() == (0.0, 1.0)
        with pytest.raises(UserError, match=r"step 2 cannot be written .*step_000001 is kept") as told:
            boundary(saver)
        assert "\n" not in str(told.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(saver.folder) == ["step_000001"]
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000001"
    save(saver, 3)  # there is room again
    saver.wait()
    assert names(saver.folder) == ["step_000003"]


def test_a_folder_that_cannot_be_written_is_told_at_once(engine):
    saver = saving.Saver(Path("/proc/mmgnn"), engine, ALONE, 1, {"encoder": None})
    with pytest.raises(UserError, match=r"step 1 cannot be written .*none before it"):
        save(saver, 1)
    saver.close()


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_damage_is_found_and_the_one_before_is_used(saver, damage, capsys):
    saver.keep = 2
    for step in (1, 2):
        save(saver, step)
    saver.wait()
    victim = saver.folder / "step_000002" / "ds" / "weights.pt"
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    else:
        half = len(content) // 2
        victim.write_bytes(content[:half] if damage == "cut" else content[:half] + b"?" + content[half + 1 :])
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000001"
    assert "step_000002 is not used: ds/weights.pt" in capsys.readouterr().out


def test_a_discarded_checkpoint_is_not_called_complete_while_it_goes(saver, monkeypatch):
    save(saver, 1)
    saver.wait()
    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: None)  # killed before anything is removed
    checkpoint.discard(saver.folder / "step_000001")
    assert checkpoint.complete(saver.folder) == []
    monkeypatch.setattr(shutil, "rmtree", remove)
    save(saver, 2)
    saver.wait()
    assert names(saver.folder) == ["step_000002"]


def test_another_encoder_is_refused(saver, engine):
    save(saver, 1)
    saver.wait()
    with pytest.raises(UserError, match=r"was written with the encoder None.*another --run DIR"):
        checkpoint.load(saver.folder / "step_000001", engine, ALONE, {"name": "other"})


def test_copies_keep_their_memory():
    copies, value = HostCopies(), {"a": [torch.ones(3)], "b": {"c": torch.zeros(2, 2)}, "n": (1, "x")}
    first = copies.take("file", value)
    value["a"][0].fill_(2)
    assert first["a"][0].tolist() == [1, 1, 1] and first["n"] == (1, "x")
    place = first["a"][0].data_ptr()
    second = copies.take("file", value)
    assert second["a"][0].data_ptr() == place and second["a"][0].tolist() == [2, 2, 2]
    assert copies.take("file", {"a": [torch.ones(4)]})["a"][0].tolist() == [1] * 4


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_deadline_keeps_time_for_a_step_and_a_checkpoint(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    clock = Clock()
    deadline = Deadline(100.0, clock)  # until 1100, of which 5 s are for leaving
    asked = []
    for now in (1000, 1010, 1020, 1050):  # the longest time between two questions: 10 s, then 30 s
        clock.now = float(now)
        asked.append(deadline.near(save=4.0))
    assert asked == [False, False, False, True]
    assert not Deadline(None, clock).near(1e9)


def test_deadline_of_the_allocation(monkeypatch):
    clock = Clock()
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1050")
    deadline = Deadline(100.0, clock)
    assert not deadline.near(1.0)
    clock.now = 1046.0
    assert deadline.near(1.0)


def test_a_clock_far_past_the_end_of_the_allocation_is_taken_for_wrong(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setenv("SLURM_JOB_END_TIME", "950")
    assert Deadline(None, clock).near(1.0) and capsys.readouterr().err == ""
    clock.now = 950 + 3 * 3600.0
    assert not Deadline(None, clock).near(1.0)
    assert "10800 s past the end of this allocation" in capsys.readouterr().err


def test_how_a_run_goes_about_it_is_no_part_of_what_it_is(tmp_path):
    recipe = write_recipe(tmp_path, tmp_path)
    words = [
        "train.deadline=5",
        "train.timeout=99",
        "train.max_skipped=3",
        "train.checkpoint_every=7",
        "train.keep_checkpoints=4",
        "train.log_ids=true",
        "train.micro_batch=2",
    ]
    one, other = load_recipe(recipe), load_recipe(recipe, words)
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != load_recipe(recipe, ["train.batch=9"]).fingerprint()


@pytest.mark.parametrize("content", ["", '{"files": {"ds/wei', "{}", "[]", '{"files": {"ds/weights.pt": 3}}'])
def test_a_damaged_manifest_costs_its_checkpoint_alone(saver, content, capsys):
    saver.keep = 2
    for step in (1, 2):
        save(saver, step)
    saver.wait()
    (saver.folder / "step_000002" / checkpoint.CHECKPOINT_MANIFEST).write_text(content)
    assert checkpoint.newest(saver.folder) == saver.folder / "step_000001"
    assert "step_000002 is not used: manifest.json is truncated" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ds/mp_rank_!_model_states.pt", "more/x.pt", "ds/weights.pt"])
def test_files_that_are_not_the_checkpoints_own_are_not_loaded(saver, name, capsys, tmp_path):
    """DeepSpeed unpickles what its patterns match, listed in the manifest or not."""
    save(saver, 1)
    saver.wait()
    planted = saver.folder / "step_000001" / name
    planted.parent.mkdir(exist_ok=True)
    if planted.exists():
        planted.symlink_to(planted.rename(tmp_path / "elsewhere"))
    else:
        planted.write_bytes(b"cos\nsystem\n.")
    with pytest.raises(UserError, match="no checkpoint of"):
        checkpoint.newest(saver.folder)
    assert f"{name} is not of it" in capsys.readouterr().out


@pytest.mark.parametrize("name", [".", "manifest.json", "ds", "ds/weights.pt"])
def test_nothing_of_another_user_is_loaded(saver, name, capsys, monkeypatch):
    save(saver, 1)
    saver.wait()
    other, lstat = saver.folder / "step_000001" / name, Path.lstat

    def seen(path):
        there = list(lstat(path))
        if path == other:
            there[stat.ST_UID] += 1
        return os.stat_result(there)

    monkeypatch.setattr(Path, "lstat", seen)
    with pytest.raises(UserError, match="no checkpoint of"):
        checkpoint.newest(saver.folder)
    assert f"{name} belongs to another user" in capsys.readouterr().out
