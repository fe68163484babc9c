"""`mmgnn verify`: bit-equal, equal to rounding, or different, and every flipped bit is told by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_line import journal, mmgnn
from worlds import sixty_four, together, write

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.files import read_json, sha256, write_json
from mmgnn_dist.train.tracking.journal import Journal, read_journal

SIX = ("train.max_steps=6", "train.checkpoint_every=2", "train.keep_checkpoints=3", "text.mode=full")


@pytest.fixture(scope="module")
def runs(tiny_bert, tmp_path_factory) -> dict[str, Path]:
    """Runs of six steps: one rank; two ranks, weights whole and sharded."""
    folder = tmp_path_factory.mktemp("verify")
    shards = sixty_four(folder / "shards")
    one = write(folder / "one", shards, tiny_bert, *SIX, "train.dropout=true")
    together(1, [one])
    two = [
        write(folder / f"two{stage}", shards, tiny_bert, *SIX, f"train.zero_stage={stage}")
        for stage in (1, 3)
    ]
    few = write(
        folder / "few", shards, tiny_bert, "train.max_steps=1", "train.dropout=true", "text.mode=full"
    )
    together(2, [*two, few])
    return {"one": one, "two": two[0], "sharded": two[1], "few": few}


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of the run of one rank."""
    return Path(shutil.copytree(runs["one"], tmp_path / "copied"))


def verify(run, *words, code=0):
    done = mmgnn("verify", run, *words, "--json", code=code)
    return json.loads(done.stdout.splitlines()[-1]) if code < 2 else done.stderr


def faults(run, *words):
    return [(fault["kind"], fault["name"]) for fault in verify(run, *words, code=1)["faults"]]


@contextmanager
def flipped(path: Path, place: int) -> Iterator[None]:
    """A file with its lowest bit at a place flipped, for a while."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(whole)


def test_a_window_is_bit_equal_and_the_run_stays_as_it_is(runs):
    run = runs["one"]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")}
    found = verify(run, "--steps", "3:5")
    assert found["verdict"] == "bit-equal" and not found["faults"] and not found["reasons"]
    assert (found["first"], found["last"], found["steps"]["compared"]) == (3, 5, 3)
    assert found["from"].endswith("step_000002") and found["steps"]["weights"] == [3, 5]
    assert found["journal"]["chained"] == found["journal"]["lines"] > 6
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")} == before


def test_two_ranks_are_verified_by_one_to_rounding(runs):
    found = verify(runs["two"], "--nproc", "1")
    assert found["verdict"] == "equal to rounding" and "1 ranks here, 2 in the run" in found["reasons"]
    assert 0 < found["steps"]["deviation"] <= found["steps"]["bound"] < 0.01
    assert found["steps"]["compared"] == 6 and found["from"] is None


def test_another_loss_is_no_rounding(runs, tmp_path):
    run = Path(shutil.copytree(runs["two"], tmp_path / "run"))
    forge(run, 4, loss=journal(run)[3]["loss"] * (1 + 1e-3))
    found = verify(run, "--nproc", "1", "--steps", ":4", code=1)
    assert found["steps"]["step"] == 4 and "bound" in found["steps"]["what"]


@pytest.mark.slow
def test_a_checkpoint_is_converted_for_another_number_of_ranks_outside_of_the_run(runs):
    run = runs["two"]
    found = verify(run, "--nproc", "1", "--steps", "3:")
    assert found["verdict"] == "equal to rounding" and found["from"].endswith("step_000002")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        f"step_00000{step}" for step in (2, 4, 6)
    ]


def test_weights_have_one_hash_at_any_number_of_ranks_and_stage(runs):
    """Initial weights are the same, and the two runs of two ranks continue from the same numbers."""
    first = {name: journal(run)[0]["weights_hash"] for name, run in runs.items()}
    assert len(set(first.values())) == 1
    assert not any("copies_differ" in line for run in runs.values() for line in journal(run))


def test_a_flipped_label_is_told(runs):
    shards = Path(load_recipe(runs["one"] / "recipe.yaml").data.shards)
    path = shards / read_json(shards / "manifest.json")["shards"][0]["name"]
    label = ShardSet.open(shards).shards[0].y[0].tobytes()
    with flipped(path, path.read_bytes().index(label)):
        assert faults(runs["one"]) == [("molecules and labels", str(path.resolve()))]


def test_a_flipped_token_is_told_and_not_made_anew(runs):
    shards = Path(load_recipe(runs["one"] / "recipe.yaml").data.shards)
    path = next(path for path in shards.glob("tokens/*/iupac_name-*/*.arrow"))
    with flipped(path, path.stat().st_size // 2):
        damaged = sha256(path)
        assert faults(runs["one"]) == [("tokens", str(path.resolve()))]
        assert sha256(path) == damaged


def test_a_flipped_weight_is_told(runs):
    path = next((runs["one"] / "checkpoints" / "step_000004" / "ds").glob("*model_states.pt"))
    with flipped(path, path.stat().st_size // 2):
        found = faults(runs["one"], "--steps", "none")
    assert found == [("checkpoint", str(path.parents[1]))]


def test_a_flipped_weight_behind_a_new_checksum_is_told_and_an_older_checkpoint_is_taken(copied):
    checkpoint = copied / "checkpoints" / "step_000004"
    path = next((checkpoint / "ds").glob("*model_states.pt"))
    content = torch.load(path, weights_only=False)
    name = next(name for name in content["module"] if name.endswith("weight"))
    content["module"][name].view(-1)[:1].view(torch.int32)[0] ^= 1
    torch.save(content, path)
    manifest = read_json(checkpoint / "manifest.json")
    manifest["files"][f"ds/{path.name}"] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(checkpoint / "manifest.json", manifest)
    found = verify(copied, "--steps", "5:6", code=1)
    assert [(fault["kind"], fault["name"]) for fault in found["faults"]] == [("weights", str(checkpoint))]
    assert found["from"].endswith("step_000002") and found["steps"]["verdict"] == "bit-equal"


def test_a_flipped_bit_of_the_journal_is_told(copied):
    path = copied / "journal.jsonl"
    line = path.read_text().splitlines()[4]
    place = path.read_text().index(line) + line.index('"loss": ') + 10
    with flipped(path, place):
        assert faults(copied, "--steps", "none") == [("journal", "journal.jsonl line 5")]


def forge(run: Path, step: int, **values: object) -> None:
    """Change a step in the journal and chain all lines anew, as one does who knows how."""
    path = run / "journal.jsonl"
    lines = read_journal(path)
    path.unlink()
    again = Journal(path, 0)
    for line in lines:
        changed = values if line["kind"] == "train" and line["step"] == step else {}
        again.write(**{**{key: value for key, value in line.items() if key != "hash"}, **changed})
    again.close()
    for state in run.glob("checkpoints/*/state.json"):
        write_json(state, read_json(state) | {"journal": ""})
        manifest = read_json(state.with_name("manifest.json"))
        manifest["files"]["state.json"] = {"bytes": state.stat().st_size, "sha256": sha256(state)}
        write_json(state.with_name("manifest.json"), manifest)


def test_a_journal_with_a_chain_of_its_own_is_found_by_the_first_step_that_differs(copied):
    forge(copied, 4, loss=float(torch.nextafter(torch.tensor(journal(copied)[3]["loss"]), torch.tensor(0.0))))
    found = verify(copied, "--steps", "3:", code=1)
    assert not found["faults"] and found["steps"]["step"] == 4
    assert found["steps"]["what"].startswith("loss")
    forge(copied, 4, molecules_hash="0" * 16)
    assert verify(copied, "--steps", "3:", code=1)["steps"]["what"] == "other molecules"


def test_a_run_of_an_older_version_is_recomputed_by_its_losses(copied):
    path = copied / "journal.jsonl"
    new = ("hash", "molecules_hash", "weights_hash", "conditions", "data")
    lines = [{key: value for key, value in line.items() if key not in new} for line in read_journal(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for state in copied.glob("checkpoints/*"):
        shutil.rmtree(state)
    done = mmgnn("verify", copied, "--steps", ":2")
    assert "no chain (written by an older version)" in done.stdout and "bit-equal" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--steps", "5"), "as in 101:200"),
        (("--steps", "5:99"), "has no step 99, the last is 6"),
        (("--steps", "5:4"), "after the last"),
        (("--nproc", "0"), "at least one rank"),
    ],
)
def test_what_cannot_be_verified_is_refused(runs, words, says):
    assert says in verify(runs["one"], *words, code=2)


def test_another_dropout_is_refused(runs):
    assert "every rank draws its own dropout: verify it with --nproc 2" in verify(
        runs["few"], "--nproc", "1", code=2
    )


def test_two_ranks_with_sharded_weights_are_bit_equal_by_two(runs):
    found = verify(runs["sharded"], "--steps", "5:6")
    assert found["verdict"] == "bit-equal" and found["world"] == 2
    assert found["from"].endswith("step_000004") and found["steps"]["weights"] == [5]


def test_a_run_that_others_may_write_is_refused(copied):
    (copied / "checkpoints").chmod(0o777)
    assert "group or others may write" in verify(copied, "--steps", "5:", code=2)
    if os.geteuid() == 0:
        os.chown(copied / "checkpoints", 65534, 65534)
        assert "belongs to another user" in verify(copied, "--steps", "5:", code=2)
    assert "no run at" in verify(copied.parent, code=2)
