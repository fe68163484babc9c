"""`mmgnn submit RECIPE --profile FILE`: all checks first, then one job, or an array and its report.

The login node refuses what cannot run: the checks of training test recipe, shards, encoder and split, and
Slurm tests the profile. A job holds only a frozen copy of the code and the path of the run directory. It
starts a run, continues it, or sees that it is done (`train/run.py`).
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.cluster.slurm import queries as slurm
from mmgnn_dist.cluster.slurm.array_report import FoldReport, Report
from mmgnn_dist.cluster.slurm.code_copy import take_snapshot
from mmgnn_dist.cluster.slurm.profile import Profile, load_profile
from mmgnn_dist.cluster.slurm.profile_check import check_paths, check_profile
from mmgnn_dist.cluster.slurm.script import JobLink, interpreter, mounts_of, parameters, script_text
from mmgnn_dist.cluster.slurm.send import new_link, refuse_interrupted, send
from mmgnn_dist.cluster.slurm.site import restart_mode
from mmgnn_dist.cluster.slurm.states import active, job_states, jobs_of
from mmgnn_dist.cluster.slurm.supervisor import Task
from mmgnn_dist.cluster.staging.pack import STAGED_PYTHON, Stage, check_stage, pack_stage
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError, need
from mmgnn_dist.files import lock_file, open_parts, others_may_write, read_json, write_json, write_text
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JobRecord, ReportJobRecord
from mmgnn_dist.train.engine import BatchPlan
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.optim.schedule import total_steps
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.session import plan_runs


@dataclass(frozen=True)
class SubmitPlan:
    """Plan of a submission.

    Attributes:
        base: run directory, or folder of the array.
        name: name of the job in Slurm.
        runs: run directories with their recipes, one array element each.
        profile: where to run.
        batches: how each run's global batch is split among ranks and passes.
        steps: number of steps of each run.
        report: task of the job that follows all runs, if there is one.
        concurrent: number of elements that run at a time; None for submitit's default (256).
    """

    base: Path
    name: str
    runs: dict[Path, Recipe]
    profile: Profile
    batches: list[BatchPlan]
    steps: list[int]
    report: Report | None = None
    concurrent: int | None = None
    staged: bool = False

    def script(self) -> str:
        """Return the batch script as submitit writes it; the code is copied only at submission."""
        folder = RunDir(self.base).slurm
        options = self.options(RunDir(self.base).code / "SNAPSHOT", JobLink(self.name))
        if self.staged:
            options["setup"] = [*options["setup"], "mmgnn_stage ARCHIVE SHA256 PYTHON"]
        count = len(self.runs) if len(self.runs) > 1 else None
        return script_text(options, folder, self.python, count)

    def options(self, code: Path, link: JobLink) -> dict[str, Any]:
        """Return the parameters of submitit's executor for a job; `code` is the copy of the package."""
        options = parameters(self.profile, link, list(self.runs), code, self.mounts)
        return options | ({"array_parallelism": self.concurrent} if self.concurrent else {})

    @property
    def successors(self) -> int:
        """Number of jobs that are submitted to follow the first one."""
        return self.profile.max_restarts if self.profile.restart == "successor" else 0

    @property
    def python(self) -> str:
        """Shell words that start Python on a node."""
        return STAGED_PYTHON if self.staged else interpreter(self.profile, sys.executable, self.mounts)

    @property
    def mounts(self) -> list[str]:
        """Mounts of the container, SOURCE:TARGET."""
        return mounts_of(self.profile, self.base, list(self.runs.values()))


def make_submit_plan(
    recipe: Recipe, profile_path: Path, base: Path, folds: list[int], seeds: list[int], quiet: bool
) -> SubmitPlan:
    """Check a submission and plan it; writes only missing token sidecars of the shard set.

    Args:
        recipe: the recipe.
        profile_path: file of the profile.
        base: run directory, or folder of the array.
        folds: folds of the split, one run for each pair of fold and seed; empty for the recipe's fold.
        seeds: seeds of the runs; empty for the recipe's seed.
        quiet: show no progress.

    Raises:
        UserError: if training or Slurm would refuse a run.
    """
    profile = usable_profile(profile_path)
    base = base.resolve()
    if folds or seeds:
        recipe = recipe.grouped(recipe.name)
    runs: dict[Path, Recipe] = {}
    unset: list[int | None] = [None]
    verified = VerifiedFiles()
    for fold, seed in itertools.product(folds or unset, seeds or unset):
        parts = [f"fold_{fold}"] if fold is not None else []
        parts += [f"seed_{seed}"] if seed is not None else []
        data = recipe.data.model_copy(update={"fold": fold} if fold is not None else {})
        train = recipe.train.model_copy(update={"seed": seed} if seed is not None else {})
        member = recipe.model_copy(update={"data": data, "train": train})
        runs |= plan_runs(member, base.joinpath("_".join(parts)) if parts else base, verified)
    refuse_active(base, list(runs))
    batches, steps = plan_batches(runs, profile, quiet)
    report = FoldReport(base, list(runs)) if len(runs) > 1 else None
    return SubmitPlan(base, recipe.name, runs, profile, batches, steps, report)


def usable_profile(path: Path) -> Profile:
    """Read a profile and check it as far as this machine can.

    Raises:
        UserError: if the profile is wrong, or this machine cannot submit jobs.
    """
    if "SLURM_JOB_ID" in os.environ:
        raise UserError("this is inside of a Slurm job already: submit from a login node")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise need("submitit", "slurm") from None
    profile = load_profile(path)
    check_paths(profile, path)
    if slurm.here():
        check_profile(profile, path)
        profile = profile.model_copy(update={"restart": restart_mode(profile).mode})
    return profile


def with_stage(plan: SubmitPlan) -> SubmitPlan:
    """Return the plan of a submission that packs the environment.

    Raises:
        UserError: if the environment cannot be packed.
    """
    check_stage(plan.profile, sys.executable)
    return replace(plan, staged=True)


def plan_batches(
    runs: dict[Path, Recipe], profile: Profile, quiet: bool
) -> tuple[list[BatchPlan], list[int]]:
    """Plan how the global batch of each run is split among the ranks of a profile, and count its steps.

    Raises:
        UserError: if the input is wrong, or a batch cannot be split among the ranks.
    """
    batches, steps = [], []
    first = Ranks(0, profile.world, torch.device("cpu"))
    with Progress("submit", quiet) as progress:
        for run, part in runs.items():
            inputs = open_inputs(part, verify=False, run=RunDir(run))
            loader = inputs.training(inputs.tokens(progress), first)
            batches.append(BatchPlan(part.train.batch, loader.passes, profile.world))
            steps.append(total_steps(part.train, loader.steps_per_epoch))
    return batches, steps


def refuse_active(base: Path, runs: list[Path]) -> None:
    """Check that no job of the runs, nor their report job, is waiting or running.

    Raises:
        NoAnswer: if there are jobs, and Slurm does not say whether they are active.
        UserError: if one is; names the first one. Or if others may write there.
    """
    existing = next(path for path in (base, *base.parents) if path.exists())
    inside = (part for path in (base, *runs) for part in open_parts(RunDir(path).slurm))
    if writable := others_may_write(existing) or next(inside, None):
        raise UserError(
            f"group or others may write to {writable}, or it is another user's, and a job runs what lies "
            f"in {base}: 'chmod go-w {writable}', or take a directory elsewhere (--run DIR, for a study "
            "--dir DIR)"
        )
    refuse_interrupted(RunDir(base).submission)
    record_files = {run: RunDir(run).job for run in runs} | {base / "report": RunDir(base).report_job}
    jobs = {
        job: name
        for name, record_file in record_files.items()
        if record_file.is_file()
        for job in jobs_of(read_json(record_file))
    }
    states = job_states(list(jobs))
    for job, name in jobs.items():
        if active(states[job]):
            conflict = f"{name} is job {job} already ({states[job]})"
            raise UserError(f"{conflict}: mmgnn status {base} or mmgnn cancel {base}")


def check_with_slurm(plan: SubmitPlan, profile_path: Path) -> str:
    """Have Slurm test a plan without submitting it; returns its message on when the job would start.

    Raises:
        UserError: if there is no Slurm here, or it refuses the job.
    """
    slurm.must("sinfo", "--version")
    return slurm.check_script(plan.script(), profile_path)


def submit(plan: SubmitPlan, profile_path: Path, quiet: bool = True) -> list[JobRecord | ReportJobRecord]:
    """Submit a plan.

    Args:
        plan: the plan.
        profile_path: file of the profile.
        quiet: show no progress.

    Returns:
        The content of each run's `slurm/job.json`, and last that of the report job.

    Raises:
        UserError: if Slurm refuses the job, or another process submits the same runs.
    """
    try:
        lock = lock_file(RunDir(plan.base).submit_lock)
    except BlockingIOError:
        raise UserError(f"another 'mmgnn submit' is at work in {plan.base}: wait for it") from None
    with lock:
        refuse_active(plan.base, list(plan.runs))
        return _submit(plan, profile_path, quiet)


def _submit(plan: SubmitPlan, profile_path: Path, quiet: bool) -> list[JobRecord | ReportJobRecord]:
    """Submit a plan while no other process does."""
    code = take_snapshot(RunDir(plan.base).code)
    for run, recipe in plan.runs.items():
        recipe.save(RunDir(run).recipe)
        RunDir(run).slurm.mkdir(exist_ok=True)
    stage = _stage(plan, code, quiet) if plan.staged else None
    tasks = [Task(run) for run in plan.runs]
    submission = RunDir(plan.base).submission
    link, refused = new_link(plan.name), ""
    sent: list[list[str]] = []  # numbers of each job, or of the elements of each array
    records: list[JobRecord | ReportJobRecord] = []
    try:
        for _ in range(1 + plan.successors):
            options = plan.options(code, link)
            if stage:
                options["setup"] = [*options["setup"], *stage.lines()]
            jobs = send(submission, options, tasks, plan.python)
            sent.append([str(job.job_id) for job in jobs])
            link = replace(link, before=(*link.before, sent[-1][0].split("_")[0]))
    except slurm.NoAnswer:
        raise
    except UserError as error:  # a site may limit the number of jobs that wait
        if not sent:
            raise
        refused = str(error)
    finally:
        if sent:
            records += _record(plan, profile_path, code, link.submission, sent, refused)
    submission.unlink()
    if plan.report:
        records.append(_send_report(plan, plan.report, list(link.before), code))
    return records


def _stage(plan: SubmitPlan, code: Path, quiet: bool) -> Stage:
    """Pack the environment, unless it is packed, and say so."""
    stage = pack_stage(plan.profile, sys.executable, code, RunDir(plan.base).stage, quiet)
    with Progress("submit", quiet) as progress:
        packed = "packed" if stage.packed_now else "packed before"
        megabytes = stage.record["bytes"] / 1e6
        progress.say(f"{stage.archive}: {stage.record['files']} files, {megabytes:.0f} MB, {packed}")
        if stage.elsewhere:
            progress.say(f"not packed, read where it is: {', '.join(stage.elsewhere)}")
    return stage


def _record(
    plan: SubmitPlan, profile_path: Path, code: Path, submission: str, sent: list[list[str]], refused: str
) -> list[JobRecord]:
    """Write down the jobs of each run: the first one, and those that follow it."""
    records = []
    for index, run in enumerate(plan.runs):
        job, *successors = [numbers[index] for numbers in sent]
        record: JobRecord = {
            "job": job,
            "submission": submission,
            "successors": successors,
            "submitted": time.time(),
            "profile": str(profile_path.resolve()),
            "world": plan.profile.world,
            "steps": plan.steps[index],
            "run": str(run),
            "log": str(RunDir(plan.base).slurm / f"{job}_%t_log.out"),
            "code": str(code),
            "max_restarts": plan.profile.max_restarts,
        }
        if refused:
            record["refused"] = refused
        if successors:
            write_text(RunDir(run).successors(submission), "\n".join(successors) + "\n")
        write_json(RunDir(run).job, record)
        records.append(record)
    return records


def _send_report(plan: SubmitPlan, report: Report, arrays: list[str], code: Path) -> ReportJobRecord:
    """Submit the job that waits until all elements have ended, with success or not, and writes the report."""
    profile = plan.profile.for_one_task(report.time)
    options = parameters(profile, new_link(f"{plan.name}-report"), [plan.base], code, plan.mounts)
    options["additional_parameters"]["dependency"] = f"afterany:{':'.join(arrays)}"
    options["teardown"] = None
    submission = RunDir(plan.base).submission
    python = interpreter(plan.profile, sys.executable, plan.mounts)
    job = send(submission, options, [report], python)[0]
    after = arrays[0]
    record: ReportJobRecord = {"job": str(job.job_id), "report": str(plan.base / report.page), "after": after}
    write_json(RunDir(plan.base).report_job, record)
    submission.unlink()
    return record
