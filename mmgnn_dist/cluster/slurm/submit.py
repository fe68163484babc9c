"""`mmgnn submit RECIPE --profile FILE`: all checks first, then one job, or an array and its report.

What cannot run is refused here, on the login node: recipe, shards, encoder and split by the checks of
training, the profile by Slurm itself. A job holds a frozen copy of the code and the run directory's name,
nothing else; it starts, continues, or finds itself done (`train/run.py`).
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.cluster.slurm import queries as slurm
from mmgnn_dist.cluster.slurm.array_report import FoldReport, Report
from mmgnn_dist.cluster.slurm.code_copy import take_snapshot
from mmgnn_dist.cluster.slurm.profile import Profile, load_profile
from mmgnn_dist.cluster.slurm.script import interpreter, mounts_of, parameters
from mmgnn_dist.cluster.slurm.supervisor import Task
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError, need
from mmgnn_dist.files import read_json, write_json
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
    """What would be submitted.

    Attributes:
        base: folder of everything.
        name: of the job in Slurm.
        runs: run directories with their recipes, one array element each.
        profile: where to run.
        batches: how each run's global batch is cut.
        steps: of each run.
        report: what the job calls that follows all runs, if there is one.
        concurrent: how many elements run at a time; none: as many as submitit lets (256).
    """

    base: Path
    name: str
    runs: dict[Path, Recipe]
    profile: Profile
    batches: list[BatchPlan]
    steps: list[int]
    report: Report | None = None
    concurrent: int | None = None

    def script(self) -> str:
        """The batch script, as submitit writes it; the copy of the code is made when it is submitted."""
        from submitit.slurm.slurm import _make_sbatch_string

        folder = RunDir(self.base).slurm
        code = RunDir(self.base).code / "SNAPSHOT"
        options = self.options(code)
        count = len(self.runs) if len(self.runs) > 1 else None
        python = interpreter(self.profile, sys.executable, self.mounts)
        command = f"{python} -u -m submitit.core._submit {folder}"
        set_options = {key: value for key, value in options.items() if value is not None}
        set_options["wckey"] = None
        text: str = _make_sbatch_string(command, folder, map_count=count, **set_options)
        return text

    def options(self, code: Path) -> dict[str, Any]:
        """What submitit is told of the runs; `code`: folder of the copy."""
        options = parameters(self.profile, self.name, list(self.runs), code, self.mounts)
        return options | ({"array_parallelism": self.concurrent} if self.concurrent else {})

    @property
    def mounts(self) -> list[str]:
        """What a container is shown."""
        return mounts_of(self.profile, self.base, list(self.runs.values()))


def make_submit_plan(
    recipe: Recipe, profile_path: Path, base: Path, folds: list[int], seeds: list[int], quiet: bool
) -> SubmitPlan:
    """Check everything; writes nothing but missing token sidecars of the shard set.

    Args:
        recipe: the recipe.
        profile_path: file of the profile.
        base: run directory, or the array's folder.
        folds: folds of the split: one run for each pair of fold and seed; empty: the recipe's own.
        seeds: seeds of the runs; empty: the recipe's own.
        quiet: no progress.

    Raises:
        UserError: for whatever training or Slurm would refuse.
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
    """A profile after all checks that can be made here.

    Raises:
        UserError: for a mistake in it, or where nothing can be submitted.
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
        slurm.check_profile(profile, path)
    return profile


def plan_batches(
    runs: dict[Path, Recipe], profile: Profile, quiet: bool
) -> tuple[list[BatchPlan], list[int]]:
    """How the global batch of each run is cut among the ranks of a profile, and the number of its steps.

    Raises:
        UserError: for wrong input, or a batch that cannot be cut so.
    """
    batches, steps = [], []
    first = Ranks(0, profile.world, torch.device("cpu"))
    with Progress("submit", quiet) as progress:
        for part in runs.values():
            inputs = open_inputs(part, verify=False)
            loader = inputs.training(inputs.tokens(progress), first)
            batches.append(BatchPlan(part.train.batch, loader.passes, profile.world))
            steps.append(total_steps(part.train, loader.steps_per_epoch))
    return batches, steps


def check_paths(profile: Profile, path: Path) -> None:
    """See that the folders and files that the profile names, and its interpreter, can be read here.

    Raises:
        UserError: names the key and the path.
    """
    named = [("cache", profile.cache)] if profile.cache else []
    if profile.python:
        named.append(("python", Path(shutil.which(profile.python) or profile.python)))
    if container := profile.container:
        if container.kind == "apptainer" or container.image.startswith("/"):
            named.append(("container.image", Path(container.image)))
        named += [("container.mounts", Path(mount.partition(":")[0])) for mount in container.mounts]
    for key, value in named:
        if not os.access(value, os.R_OK):
            problem = "cannot be read by you" if value.exists() else "is not there"
            raise UserError(f"{path}: {key}={value} {problem}: make it, or name another")


def refuse_active(base: Path, runs: list[Path]) -> None:
    """See that no job of some runs waits or runs, nor that of the report of their folder.

    Raises:
        UserError: names the first one.
    """
    records = {run: RunDir(run).job for run in runs} | {base / "report": RunDir(base).report_job}
    jobs = {name: read_json(record)["job"] for name, record in records.items() if record.is_file()}
    states = slurm.job_states(list(jobs.values()))
    for name, job in jobs.items():
        if states[job].startswith(slurm.ACTIVE):
            conflict = f"{name} is job {job} already ({states[job]})"
            raise UserError(f"{conflict}: mmgnn status {base} or mmgnn cancel {base}")


def check_with_slurm(plan: SubmitPlan, profile_path: Path) -> str:
    """Have Slurm judge a plan; nothing is submitted or written. Returns its words on when it would start.

    Raises:
        UserError: if there is no Slurm here, or it refuses the job.
    """
    slurm.must("sinfo", "--version")
    return slurm.check_script(plan.script(), profile_path)


def submit(plan: SubmitPlan, profile_path: Path) -> list[JobRecord | ReportJobRecord]:
    """Submit a plan that Slurm finds good; returns for each run what its `slurm/job.json` holds.

    Raises:
        UserError: if Slurm refuses the job after all.
    """
    code = take_snapshot(RunDir(plan.base).code)
    for run, recipe in plan.runs.items():
        recipe.save(RunDir(run).recipe)
        RunDir(run).slurm.mkdir(exist_ok=True)
    tasks = [Task(run) for run in plan.runs]
    jobs = send(RunDir(plan.base).slurm, plan.profile, plan.options(code), tasks, plan.mounts)
    records: list[JobRecord | ReportJobRecord] = []
    for index, (run, job) in enumerate(zip(plan.runs, jobs, strict=True)):
        record: JobRecord = {
            "job": str(job.job_id),
            "submitted": time.time(),
            "profile": str(profile_path.resolve()),
            "world": plan.profile.world,
            "steps": plan.steps[index],
            "run": str(run),
            "log": str(job.paths.folder / f"{job.job_id}_%t_log.out"),
            "code": str(code),
            "max_restarts": plan.profile.max_restarts,
        }
        write_json(RunDir(run).job, record)
        records.append(record)
    if plan.report:
        records.append(_send_report(plan, plan.report, str(jobs[0].job_id).split("_")[0], code))
    return records


def send(
    folder: Path, profile: Profile, options: dict[str, Any], tasks: list[Any], mounts: list[str]
) -> list[Any]:
    """Have submitit submit one job, or an array of several tasks; returns its jobs.

    Args:
        folder: of pickles and logs.
        profile: where to run.
        options: as `parameters` gives them.
        tasks: what each element calls.
        mounts: what a container must see.

    Raises:
        UserError: if Slurm refuses.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    python = interpreter(profile, sys.executable, mounts)
    executor = SlurmExecutor(folder=folder, python=python)
    executor.update_parameters(**options)
    try:
        if len(tasks) == 1:
            return [executor.submit(tasks[0])]
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
        return jobs
    except (FailedSubmissionError, FailedJobError) as error:
        raise UserError(f"Slurm refused the job: {' '.join(str(error).split())}") from None


def _send_report(plan: SubmitPlan, report: Report, array: str, code: Path) -> ReportJobRecord:
    """The job that waits for all elements, whatever their ends, and writes the table."""
    profile = plan.profile.model_copy(
        update={"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "gpu_type": None, "time": report.time}
    )
    options = parameters(profile, f"{plan.name}-report", [plan.base], code, plan.mounts)
    options |= {"dependency": f"afterany:{array}", "teardown": None}
    job = send(RunDir(plan.base).slurm, plan.profile, options, [report], plan.mounts)[0]
    record: ReportJobRecord = {"job": str(job.job_id), "report": str(plan.base / report.page), "after": array}
    write_json(RunDir(plan.base).report_job, record)
    return record
