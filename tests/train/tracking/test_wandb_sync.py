"""`mmgnn sync`: W&B's record written again from the journal and read back; keys that reach no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import journal, metrics, mmgnn, reach, signal_step, start, write_recipe
from read_wandb import read
from small_set import make_set

from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.train.tracking.guarded import GuardedSink

SLOW = "it took nothing for 0.2 s"
KEY = "local-plantedkey0123456789abcdef0123456789ab"
WORDS = [
    "track.wandb=offline",
    "track.group=mine",
    "track.tags=[first]",
    "track.artifact=export",
    "train.max_steps=40",
    "train.epochs=9",
    "train.checkpoint_every=6",
    "model.modality=both",
]


def rows(segments: list[str]) -> list[dict]:
    return [row for segment in segments for row in read(Path(segment))["history"]]


@pytest.fixture(scope="module")
def synced(few_shards, tiny_bert, tmp_path_factory):
    """A run that is killed, synced, stopped by a signal to all its processes, synced, finished, synced."""
    folder = tmp_path_factory.mktemp("synced")
    recipe, run = write_recipe(folder, few_shards.path, "frozen", tiny_bert), folder / "run"
    words = ["train", recipe, "--run", run, *WORDS]
    answers, said = [], []
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_API_KEY", KEY)
    try:
        for step, number in ((15, signal.SIGKILL), (25, signal.SIGTERM)):
            stopped = start(*words)
            reach(run, step, stopped)
            if number == signal.SIGKILL:
                stopped.kill()
            else:
                signal_step(stopped, number)  # W&B's own process dies of it first
            assert stopped.wait() == (-number if number == signal.SIGKILL else 3), stopped.output()
            said.append(stopped.output())
            answers.append(json.loads(mmgnn("sync", run, "--json").stdout))
        done = mmgnn(*words)
        said += [done.stdout, done.stderr]
        answers += [json.loads(mmgnn("sync", run, "--json").stdout) for _ in range(2)]
    finally:
        patch.undo()
    return run, answers, said


def test_every_step_once_after_two_restarts_and_two_syncs(synced):
    run, answers, _ = synced
    assert len(journal(run, "resume")) == 2
    found = rows(answers[-1]["segments"])
    assert [row["step"] for row in found] == list(range(1, 41))
    assert [row["_step"] for row in found] == list(range(1, 41))
    losses = {line["step"]: line["loss"] for line in journal(run)}
    # rows of a run that had not been synced when it was killed are told as the journal has them
    assert {row["step"]: row["train/loss"] for row in found} == losses
    score = {line["step"]: line["val/score"] for line in journal(run, "validation")}
    assert {row["step"]: row["val/score"] for row in found if "val/score" in row} == score and score
    assert answers[-1]["steps"] == 0 and answers[-1]["segments"] == answers[-2]["segments"]
    # what the restarts wrote themselves has steps twice or lacks them: nothing of it was taken over
    assert sum(answer["steps"] for answer in answers) == 40


def test_a_tracker_that_dies_is_one_line(synced):
    run, _, said = synced
    (line,) = journal(run, "tracker")
    assert line["why"].startswith("W&B gets no more of this run (")
    assert said[1].count("W&B gets no more") == 1 and "Traceback" not in said[1]


def test_a_sink_that_stands_still_holds_nothing_up():
    """Neither a line nor the end of a run waits for a tracker whose process has stopped."""
    still, abandoned, told = threading.Event(), threading.Event(), []

    class Standing:
        def __call__(self, line):
            still.wait()

        def finish(self, results):
            raise AssertionError

        def abandon(self):
            abandoned.set()

    sink = GuardedSink("it", Standing, told.append, patience=0.2)
    for step in range(1000):
        sink({"kind": "train", "step": step})
    sink.finish(None)
    still.set()
    assert abandoned.is_set() and told == [f"it gets no more of this run ({SLOW}); the journal goes on"]


def test_a_sink_that_exits_ends_nothing():
    """As W&B does in its end, if its own process was killed."""

    class Leaving:
        def __init__(self) -> None:
            self.abandoned = 0

        def __call__(self, line):
            sys.exit(247)

        finish = None

        def abandon(self):
            self.abandoned += 1
            sys.exit(247)

    made, told = Leaving(), []
    sink = GuardedSink("it", lambda: made, told.append)
    sink({"kind": "train", "step": 1})
    sink.finish(None)
    assert made.abandoned == 1
    assert told == ["it gets no more of this run (SystemExit: 247); the journal goes on"]


def test_a_sink_that_cannot_start_is_told_once():
    def make():
        raise OSError("no network\nlong text")

    told: list[str] = []
    sink = GuardedSink("it", make, told.append)
    sink({"kind": "train", "step": 1})
    sink.finish(None)
    assert told == ["it gets no more of this run (OSError: no network); the journal goes on"]


def test_the_last_segment_holds_the_results(synced):
    run, answers, _ = synced
    segments = [read(Path(path)) for path in answers[-1]["segments"]]
    assert {part["run"].run_id for part in segments} == {(run / "wandb" / "id").read_text()}
    last = segments[-1]
    assert last["run"].run_group == "mine" and list(last["run"].tags) == ["first"]
    assert last["run"].job_type == "both" and last["exit"] == 0
    assert last["config"]["train"]["max_steps"] == 40
    for name, value in metrics(run)["metrics"].items():
        assert last["summary"][name] == value
    end = last["history"][-1]
    assert end["test/table.nrows"] == 3 and end["plots/parity._type"] == "image-file"
    assert any(artifact.type == "export" for artifact in last["artifacts"])
    gates = [line["gate"] for line in journal(run, "validation")]
    told = [row["gate/histogram.values"] for row in rows(answers[-1]["segments"]) if "gate/mean" in row]
    assert told == [gate["counts"] for gate in gates] and sum(told[0]) == metrics(run)["molecules"]["val"]


def test_the_live_segments_have_the_same_id_and_steps(synced):
    run, _, _ = synced
    live = [read(path) for path in sorted(run.glob("wandb/offline-run-*"))]
    ids = {path.name.rsplit("-", 1)[1] for path in run.glob("wandb/offline-run-*")}
    assert len(live) == 3 and ids == {(run / "wandb" / "id").read_text()}
    assert live[-1]["summary"]["test/mae/gap_eV"] == metrics(run)["metrics"]["test/mae/gap_eV"]
    assert all(row["_step"] == row["step"] for part in live for row in part["history"])


def test_a_key_reaches_no_file_and_no_log(synced):
    run, answers, said = synced
    assert answers and not any(KEY in text for text in said)
    found = subprocess.run(["grep", "-rlaF", KEY, run], check=False, capture_output=True, text=True)
    assert found.stdout == "" and found.returncode == 1


ENDS = """
import os, sys
from pathlib import Path
from mmgnn_dist.config import load_recipe
from mmgnn_dist.process import exit_now
from mmgnn_dist.train.tracking.wandb_sink import Wandb
sink = Wandb(load_recipe(None, ["track.wandb=offline"]), Path(sys.argv[1]))
made = os.listdir(os.environ["TMPDIR"])
results = {"metrics": {"test/mae/gap_eV": 1.0}, "units": {"gap": "eV"}, "steps": 1}
sink.finish(results | {"baselines": {"mean/mae/gap_eV": 2.0, "composition/mae/gap_eV": 2.0}})
print(len(made), flush=True)
exit_now(3)
"""


def test_temporary_folders_go_with_a_process_that_leaves_at_once(tmp_path):
    """As ranks and the workers of a study do; W&B removes its own only as the interpreter ends."""
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, "-c", ENDS, str(tmp_path / "run")]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 3 and int(done.stdout.split()[-1]) > 0, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [((), "no run at"), (("track.wandb=disabled",), "track.wandb=disabled"), (("online",), "WANDB_API_KEY")],
)
def test_what_cannot_be_synced_is_one_line(synced, tmp_path, capsys, monkeypatch, words, says):
    from mmgnn_dist.cli.main import main
    from mmgnn_dist.config import load_recipe

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = tmp_path / "run"
    if words:
        overrides = [word for word in words if "=" in word]
        load_recipe(synced[0] / "recipe.yaml", overrides).save(run / "recipe.yaml")
    assert main(["sync", str(run), *(["--online"] if "online" in words else [])]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_no_way_to_wandb_is_one_line(synced, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    done = mmgnn("sync", synced[0], "--online", code=2, limit=120)
    assert done.stderr.startswith("mmgnn: W&B did not take the run") and done.stderr.count("\n") == 1
    assert KEY not in done.stderr + done.stdout


def test_of_a_class_the_table_has_a_row_for_each_metric(tmp_path):
    shards = make_set(tmp_path / "shards", classes={"toxic": ["no", "yes"]})
    make_split(shards, "random")
    recipe, run = write_recipe(tmp_path, shards.path), tmp_path / "run"
    words = ["targets=[gap, toxic]", "model.modality=graph", "track.wandb=offline", "train.max_steps=2"]
    told = mmgnn("train", recipe, "--run", run, *words)
    assert "gets no more of this run" not in told.stdout + told.stderr
    segment = read(Path(json.loads(mmgnn("sync", run, "--json").stdout)["segments"][0]))
    assert segment["history"][-1]["test/table.nrows"] == len(metrics(run)["metrics"]) == 4
