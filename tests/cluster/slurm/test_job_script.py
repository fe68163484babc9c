"""What the batch script decides from the notes of the ranks (`job.sh`), without a Slurm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mmgnn_dist.cluster.slurm.script import SHELL
from mmgnn_dist.cluster.slurm.status import LOST
from mmgnn_dist.files import open_parts

SCONTROL = """#!/bin/sh
echo "$*" >> "$SAID"
if [ -e "$SAID.mute" ]; then
  rm "$SAID.mute"
  echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
fi
[ "$2" = show ] && echo "JobId=7 JobState=RUNNING Restarts=$SLURM_RESTART_COUNT PreemptTime=$PREEMPTED X=1"
exit 0
"""


class Job:
    """A job of two ranks on two nodes, which ends as its test says, start after start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.restarts = folder, folder / "run", 0
        for name in ("scontrol", "scancel"):
            (folder / name).write_text(SCONTROL)
            (folder / name).chmod(0o755)

    def start(
        self,
        notes: dict[str, str],
        srun: int = 1,
        step: int = 0,
        preempted: str = "None",
        job: int = 7,
        more: str = "",
        mute: bool = False,
        meanwhile: str = "",
    ) -> tuple[int, str, str]:
        """Let one start end with these notes; returns code, its words, what it asked of Slurm."""
        attempt = self.run / "slurm" / f"{job}.{self.restarts}"
        said = self.folder / f"said-{job}.{self.restarts}"
        script = f"run={self.run} max_restarts=20 {more}\nsleep() {{ :; }}\n. {SHELL}\nmmgnn_before\n"
        script += "".join(f"printf '%s\\n' '{text}' > {attempt}/{name}\n" for name, text in notes.items())
        script += f"{meanwhile}\n"
        if mute:
            script += f"touch {said}.mute\n"
        if step:
            script += f"mkdir -p {self.run}/checkpoints/step_{step}\n"
            script += f"touch {self.run}/checkpoints/step_{step}/manifest.json\n"
        variables = {
            "SLURM_JOB_ID": str(job),
            "SLURM_RESTART_COUNT": str(self.restarts),
            "SLURM_JOB_NUM_NODES": "2",
        }
        variables |= {"SLURM_NTASKS_PER_NODE": "1", "SAID": str(said), "PREEMPTED": preempted}
        variables |= {"SLURM_JOB_END_TIME": "0", "PATH": f"{self.folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", f"{script}mmgnn_after {srun}"],
            check=False,
            capture_output=True,
            text=True,
            env=variables,
        )
        self.restarts += not more
        return done.returncode, done.stderr, said.read_text() if said.exists() else ""


@pytest.fixture
def job(tmp_path) -> Job:
    return Job(tmp_path)


BOTH = {"rank_0.started": "node1", "rank_1.started": "node2"}
HUNG = (
    "mmgnn: rank 0: no progress for 30 s (step 3, forward, train.timeout=30); waited for rank 1 (step 3, ...)"
)


def test_all_done(job):
    assert job.start(BOTH | {"rank_0.done": "", "rank_1.done": ""}, srun=0) == (0, "", "")


def test_a_fault_of_the_ranks_ends_it(job):
    code, _, asked = job.start(BOTH | {"rank_0.failed": "mmgnn: no", "rank_1.ended": ""})
    assert code == 1 and "requeue" not in asked


def test_saved_in_order_goes_back(job):
    for step in (10, 20, 30, 40):
        _, words, asked = job.start(BOTH | {"rank_0.stopped": "", "rank_1.stopped": ""}, srun=0, step=step)
        assert "requeue 7" in asked and words == ""


def test_a_mute_slurm_is_asked_again(job):
    notes = BOTH | {"rank_0.stopped": "", "rank_1.stopped": ""}
    assert "requeue 7" in job.start(notes, srun=0, step=10, mute=True)[2]


@pytest.mark.parametrize(
    ("notes", "cause"),
    [
        ({"rank_0.started": "node1"}, "rank 1 did not start"),
        (
            BOTH | {"rank_0.killed": "rank 0 was killed by signal 9", "rank_1.ended": ""},
            "rank 0 on node1 killed: rank 0",
        ),
        (BOTH | {"rank_1.stopped": ""}, "rank 0 on node1 ended without a word"),
        (BOTH | {"rank_0.stopped": "", "rank_1.stopped": ""}, "is the time limit long enough?"),
        (BOTH | {"rank_0.hung": HUNG, "rank_1.ended": ""}, "waited for rank 1"),
    ],
)
def test_without_progress_it_restarts_twice_and_names_the_cause(job, notes, cause):
    """143: what srun returns when it has ended the other ranks."""
    for _ in range(2):
        _, _, asked = job.start(notes, srun=143)
        assert "requeue 7" in asked
    code, words, asked = job.start(notes, srun=143)
    assert code == 1 and "requeue" not in asked
    assert "3 starts in a row without a checkpoint after step 0" in words and cause in words


def test_preemptions_before_the_first_checkpoint_do_not_count(job):
    for _ in range(5):
        notes = BOTH | {"rank_0.stopped": "", "rank_1.stopped": ""}
        assert "requeue 7" in job.start(notes, srun=0, preempted="2026-11-28T10:00:00")[2]


def test_a_node_that_hangs_twice_is_left_out(job):
    notes = BOTH | {"rank_0.hung": HUNG, "rank_1.ended": ""}
    assert "excnodelist" not in job.start(notes, step=10)[2]
    _, words, asked = job.start(notes, step=20)
    assert "update jobid=7 excnodelist=node2" in asked and "requeue 7" in asked
    assert "ranks on node2 hung twice" in words


CHAIN = "restart=successor submission=small previous="
SAVED = BOTH | {"rank_0.stopped": "", "rank_1.stopped": ""}
DONE = BOTH | {"rank_0.done": "", "rank_1.done": ""}


@pytest.fixture
def chain(job) -> Job:
    """Three jobs that follow each other."""
    (job.run / "slurm").mkdir(parents=True)
    (job.run / "slurm" / "successors.small").write_text("8\n9\n")
    return job


def test_a_job_leaves_the_run_to_the_next_one_until_it_is_done(chain):
    code, words, asked = chain.start(SAVED, step=10, more=CHAIN)
    assert (code, words) == (3, "") and "requeue" not in asked and "8" not in asked
    code, words, asked = chain.start(SAVED, step=20, job=8, more=f"{CHAIN}7")
    assert (code, words) == (3, "") and "show job 7" in asked
    code, words, asked = chain.start(SAVED, step=30, job=9, more=f"{CHAIN}8")
    assert code == 1 and "no job is left to follow this one" in words


def test_the_end_of_a_run_ends_the_jobs_that_wait(chain):
    assert chain.start(SAVED, step=10, more=CHAIN)[0] == 3
    assert chain.start(DONE, srun=0, job=8, more=f"{CHAIN}7") == (0, "", "-o show job 7\n9\n")
    code, words, asked = chain.start({}, job=9, more=f"{CHAIN}8")  # where nobody could cancel it
    assert (code, asked) == (0, "") and "nothing to do" in words
    assert (chain.run / "slurm" / "starts.small").read_text() == "7.0 7\n8.0 8\n"


def test_a_fault_ends_the_jobs_that_wait(chain):
    code, _, asked = chain.start(BOTH | {"rank_0.failed": "mmgnn: no", "rank_1.ended": ""}, more=CHAIN)
    assert code == 1 and asked == "8 9\n"


def test_starts_without_progress_are_counted_over_jobs(chain):
    for job in (7, 8):
        assert chain.start(SAVED, job=job, more=CHAIN)[0] == 3
    code, words, _ = chain.start(SAVED, job=9, more=CHAIN)
    assert code == 1 and "3 starts in a row without a checkpoint" in words


def test_what_others_may_write_does_not_run(job):
    """Also below the folder of the run, where a pickle or the code lies."""
    (job.run / "slurm" / "code").mkdir(parents=True)
    pickle = job.run / "slurm" / "7_submitted.pkl"
    pickle.touch()
    pickle.chmod(0o664)
    code, words, _ = job.start(DONE, srun=0)
    assert code == 1 and f"group or others may write to {pickle}" in words
    pickle.chmod(0o644)
    (job.run / "slurm" / "code").chmod(0o777)
    assert job.start(DONE, srun=0)[0] == 1
    (job.run / "slurm" / "code").chmod(0o755)
    if os.geteuid() == 0:
        os.chown(pickle, 65534, 65534)  # root must not run what another user has put there
        code, words, _ = job.start(DONE, srun=0)
        assert code == 1 and f"{pickle}, or it is another user's" in words
        assert list(open_parts(job.run / "slurm")) == [pickle]


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1", "USR2"])
def test_a_signal_to_the_script_ends_nothing(job, name):
    code, _, asked = job.start(
        {**BOTH, "rank_0.stopped": "", "rank_1.stopped": ""}, meanwhile=f"kill -{name} $$"
    )
    assert code == 0 and "requeue 7" in asked


def test_a_task_that_is_gone_costs_no_further_start(job):
    """It is looked for from the second start on: submitit writes it after the submission."""
    code = f"code={job.run}/slurm/code/1234"
    for start in (0, 1):
        job.restarts = start
        ended, said, asked = job.start(BOTH, more=code)
        gone = f"{job.run}/slurm/7_submitted.pkl is gone: submit it again to continue"
        assert (gone in said) == (start == 1) and ("requeue" in asked) == (start == 0)
    assert ended == 1


@pytest.mark.parametrize("other", ["Connection closed by peer", "ValueError: a fault of its own"])
def test_ranks_that_only_lost_each_other_go_back(job, other):
    """As when a node is lost: the ranks on both sides see a connection that ended."""
    gloo = "RuntimeError: [pair.cc:547] Connection closed by peer [127.0.0.1]:4711"
    code, _, asked = job.start({**BOTH, "rank_0.failed": gloo, "rank_1.failed": other})
    back = other.startswith("Connection")
    assert ("requeue 7" in asked) == back and (code == 0) == back


def test_the_script_and_status_know_a_lost_connection_by_the_same_words():
    assert f"'{LOST.pattern}'" in SHELL.read_text()
