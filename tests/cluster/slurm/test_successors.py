"""Sites where no job goes back to the queue: jobs that were submitted with the first one follow it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import journal, mmgnn
from jobs import ask, changed, finish, held, reach, same_end, state, status, submit_all, wait
from listeners import listeners, open_to_others

from mmgnn_dist.cluster.doctor.network import addresses

pytestmark = pytest.mark.slurm
# a node without Slurm's commands, but for srun
BARE = "scontrol() { return 127; }; scancel() { return 127; }; command() { return 1; }"


def jobs_of(told: dict) -> list[str]:
    return [told["job"], *told["successors"]]


def others() -> dict[str, str]:
    """The interfaces with an address, but for loopback."""
    return {name: address for name, address in addresses().items() if not address.startswith("127.")}


def queue() -> list[str]:
    return ask("squeue", "-h", "-o", "%A").split()


def preempt(run: Path, job: str, folder: Path) -> None:
    """Have another user's job take all nodes for some seconds."""
    urgent = ["sbatch", "-A", "dev", "-p", "urgent", "-N3", "--exclusive", f"-o{folder}/urgent"]
    with held(run):
        ask(*urgent, "--wrap", "sleep 1")
        wait(lambda: state(job) not in ("RUNNING", "COMPLETING"), "the preemption", run)


@pytest.mark.slow  # up to four minutes of starts; successors without preemption are in every run
def test_a_partition_that_cancels_preempted_jobs(cluster, recipe, undisturbed, tmp_path):
    """Preempted for good, then killed: two successors go on, the third goes away with the end of the run."""
    run, profile = tmp_path / "run", changed(tmp_path, partition="cancelled", max_restarts=3)
    (told,) = submit_all(recipe, run, profile=profile)
    first, second, third, _ = jobs_of(told)
    assert status(run)["successors"] == 3
    assert (
        f"{run} is job {first} already"
        in mmgnn("submit", recipe, "--profile", profile, "--run", run, code=2).stderr
    )
    reach(run, 25)
    preempt(run, first, tmp_path)
    assert state(first) == "PREEMPTED"
    reach(run, 45, starts=2)
    assert status(run)["job"] == second and status(run)["successors"] == 2
    with held(run):
        ask("scancel", "--full", "--signal=USR2", second)  # the batch shell, srun and the step
    finish(run, third)
    same_end(run, undisturbed)
    found = status(run)
    assert found["done"] and found["restarts"] == 2 and found["job"] == third and found["successors"] == 0
    assert [state(job) for job in jobs_of(told)] == ["PREEMPTED", "FAILED", "COMPLETED", "CANCELLED"]
    assert len(journal(run, "resume")) == 2 and not queue()
    assert f"job {third} done" in mmgnn("status", run).stdout
    assert mmgnn("logs", run).returncode == 0


@pytest.mark.slow  # one to four minutes; the cancelled successors below are in every run
def test_nodes_without_slurms_commands_and_a_limit_on_waiting_jobs(cluster, recipe, undisturbed, tmp_path):
    """The last successor cannot be cancelled there: it starts, sees that the run is done, and ends."""
    ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3")
    run = tmp_path / "run"
    interface, address = next(iter(others().items()), ("lo", "127.0.0.1"))
    profile = changed(tmp_path, restart="successor", setup=[BARE], interface=interface)
    try:
        # by a user whose umask lets everybody write
        words = [sys.executable, "-m", "mmgnn_dist.cli", "submit", recipe, "--profile", profile, "--run", run]
        shell = ["sh", "-c", 'umask 0; exec "$@"', "sh", *words]
        said = subprocess.run(shell, check=True, capture_output=True, text=True).stdout
    finally:
        ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    assert "2 jobs follow" in said and "Slurm takes no more" in said and "limit" in said
    first, second, third = jobs_of(json.loads((run / "slurm" / "job.json").read_text()))
    reach(run, 25)
    with held(run):
        heard = listeners(f"SLURM_JOB_ID={first}\0", str(cluster.folder))
        assert address in heard and set(heard) <= {address, "127.0.0.1"}, heard
        ask("scancel", "--signal=USR2", first)
    finish(run, third)
    same_end(run, undisturbed)
    assert not open_to_others(run)
    assert [state(job) for job in (first, second)] == ["FAILED", "COMPLETED"]
    assert status(run)["restarts"] == 1 and status(run)["job"] == second


@pytest.mark.parametrize("by", [pytest.param("mmgnn cancel", marks=pytest.mark.slow), "scancel"])
def test_a_run_that_the_user_cancels_ends_with_all_its_jobs(cluster, recipe, tmp_path, by):
    run, profile = tmp_path / "run", changed(tmp_path, restart="successor", max_restarts=2)
    (told,) = submit_all(recipe, run, profile=profile)
    reach(run, 2)
    if by == "scancel":
        ask("scancel", told["job"])
    else:
        cancelled = json.loads(mmgnn("cancel", run, "--json").stdout)["cancelled"]
        assert cancelled == jobs_of(told)
    wait(lambda: not queue(), "the end of all jobs", run)
    assert state(told["job"]) == "CANCELLED" and not (run / "metrics.json").exists()
    assert len(list((run / "slurm").glob("*.0"))) == 1  # no other job started the ranks


def test_a_fault_of_its_own_ends_the_chain(cluster, recipe, tmp_path):
    """An array of two: the elements that wait to follow go too, and the report comes."""
    base = tmp_path / "seeds"
    profile = changed(tmp_path, restart="successor", max_restarts=2, nodes=1, interface="ib7")
    *runs, report = submit_all(recipe, base, "--seeds", "3,4", profile=profile)
    arrays = [job.split("_")[0] for job in runs[0]["successors"]]
    assert len(arrays) == 2 and int(report["after"]) < int(arrays[0]) < int(arrays[1])
    assert [job["successors"] for job in runs] == [[f"{array}_{k}" for array in arrays] for k in (0, 1)]
    wait(lambda: not queue(), "the end of all jobs", base)
    assert "no interface ib7" in status(Path(runs[0]["run"]))["error"]
    assert (base / "report.md").is_file()
    assert len(list(base.rglob("rank_0.started"))) == 2
