"""Examinations of this machine, and of the nodes of a profile by a Slurm job."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.cluster.doctor.line import Line, fail, ok
from mmgnn_dist.cluster.doctor.rank import Examine, RankRequest
from mmgnn_dist.cluster.doctor.settings import check_profile_here, check_settings
from mmgnn_dist.cluster.slurm import queries as slurm
from mmgnn_dist.cluster.slurm.code_copy import take_snapshot
from mmgnn_dist.cluster.slurm.profile import Profile, load_profile
from mmgnn_dist.cluster.slurm.script import interpreter, mounts_of, parameters
from mmgnn_dist.cluster.slurm.send import new_link, send
from mmgnn_dist.cluster.slurm.states import active, job_states
from mmgnn_dist.cluster.slurm.submit import check_paths
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.process import owned_folder
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.launch import start_here

Found = list[tuple[str, Line]]  # pairs of a node and a finding there
HERE = 180.0  # seconds that an examination of this machine may take
QUEUE = 600.0  # seconds that the job may wait and run, together
LIMIT = "00:10:00"  # time limit of the job


def examine_here(recipe: Recipe) -> Found:
    """Examine this machine with one rank for each GPU, or with two ranks if it has none.

    Raises:
        UserError: if the current folder cannot be written.
    """
    import torch

    world = torch.cuda.device_count() if torch.cuda.is_available() else 2
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(owned_folder(Path.cwd(), ".mmgnn-doctor-"))
        except OSError as error:
            raise UserError(
                f"the ranks of an examination meet in the current folder, and {Path.cwd()} cannot be "
                f"written ({error.strerror}): change to the folder of your runs"
            ) from None
        _write_ask(folder, recipe, {"gpus": 0, "world": world, "requeues": False})
        command = [sys.executable, "-m", "mmgnn_dist.cluster.doctor.rank", str(folder)]
        ranks = start_here(command, world, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            outputs = [process.communicate(timeout=HERE)[1] for process in ranks]
        except subprocess.TimeoutExpired:
            outputs = [b"no answer"]
        finally:
            for process in ranks:
                process.kill()
        last_line = next(
            (text.decode(errors="replace").strip().splitlines()[-1] for text in outputs if text.strip()), ""
        )
        here = socket.gethostname()
        return [*((here, line) for line in check_settings()), *_read(folder, world, last_line)]


def examine_cluster(recipe: Recipe, path: Path, base: Path) -> Found:
    """Examine Slurm, then the nodes of a profile by a job that runs one rank for each task.

    Args:
        recipe: names the encoder and the shard set to check.
        path: file of the profile.
        base: folder of the job, on a shared disk.

    Returns:
        The findings of this machine and of all ranks; no job runs if the profile does not fit the cluster.

    Raises:
        UserError: if the profile is wrong, or there is no Slurm.
    """
    profile, findings = _examine_profile(path)
    if any(line.level == "FAIL" for _, line in findings):
        return findings
    folder = base.resolve() / time.strftime("%Y%m%d-%H%M%S")
    code = take_snapshot(base.resolve() / "code")
    short_profile = profile.model_copy(update={"time": LIMIT})
    requeues = profile.restart != "successor" and profile.container is None
    request: RankRequest = {"gpus": profile.gpus_per_node, "world": profile.world, "requeues": requeues}
    _write_ask(folder, recipe, request)
    mounts = mounts_of(profile, base.resolve(), [recipe])
    options = parameters(short_profile, new_link("mmgnn-doctor"), [folder], code, mounts)
    options["teardown"] = None
    python = interpreter(profile, sys.executable, mounts)
    (job,) = send(folder / "submission.json", options, [Examine(folder)], python)
    job_id = str(job.job_id)
    outcome = _wait(folder, profile, job_id)
    findings += _read(folder, profile.world, outcome)
    if outcome.startswith("PENDING"):
        slurm.ask("scancel", job_id)
    return findings


def examine_profile(path: Path) -> Found:
    """Examine Slurm, and compare a profile with what the cluster has; runs no job.

    Raises:
        UserError: if the profile is wrong, or there is no Slurm.
    """
    return _examine_profile(path)[1]


def _examine_profile(path: Path) -> tuple[Profile, Found]:
    profile = load_profile(path)
    check_paths(profile, path)
    lines = [*check_settings(), *check_profile_here(profile, path)]
    return profile, [(socket.gethostname(), line) for line in lines]


def _write_ask(folder: Path, recipe: Recipe, request: RankRequest) -> None:
    recipe.save(RunDir(folder).recipe)
    write_json(folder / "ask.json", request)


def _wait(folder: Path, profile: Profile, job: str) -> str:
    """Wait for all findings or the job's end; returns the job's state and the last line of its log."""
    end = time.monotonic() + QUEUE
    while True:
        state = job_states([job])[job]
        if all((folder / f"done_{rank}.json").exists() for rank in range(profile.world)):
            return state
        if not active(state) or time.monotonic() > end:
            time.sleep(2)  # the last files may appear here late
            logs = "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*_log.out")))
            lines = [line for line in logs.splitlines() if line.strip()]
            return f"{state}, {lines[-1]}" if lines else state
        time.sleep(0.5)


def _read(folder: Path, world: int, last_words: str) -> Found:
    """Read the findings of all ranks; a rank that left none is a finding too."""
    findings: Found = []
    node = ""
    for rank in range(world):
        path, done = folder / f"rank_{rank}.json", folder / f"done_{rank}.json"
        if path.exists():
            content = read_json(path)
            node = content["node"]
            findings += [(node, Line(**line)) for line in content["lines"]]
        if done.exists():
            findings += [(node, Line(**line)) for line in read_json(done)]
        else:
            cure = "look at the job's log and Slurm's reason (squeue, scontrol show job)"
            findings.append(
                (f"rank {rank}", fail("answer", f"none ({last_words or 'it said nothing'})", cure))
            )
    if all((folder / f"done_{rank}.json").exists() for rank in range(world)):
        findings.append(("", ok("answer", f"{world} ranks")))
    return findings


class Finding(TypedDict):
    """A line of the report and the nodes where it was found."""

    what: str
    level: str
    found: str
    cure: str
    nodes: list[str]


def grouped(found: Found) -> list[Finding]:
    """Merge equal lines of several nodes into one line that lists the nodes."""
    nodes: dict[Line, list[str]] = {}
    for node, line in found:
        nodes.setdefault(line, []).append(node)
    return [
        {
            "what": line.what,
            "level": line.level,
            "found": line.found,
            "cure": line.cure,
            "nodes": list(dict.fromkeys(node for node in where if node)),
        }
        for line, where in nodes.items()
    ]


def print_lines(lines: Iterable[Finding]) -> None:
    """Print each finding on one line, with its cure below it."""
    for line in lines:
        nodes = f"  [{', '.join(line['nodes'])}]" if line["nodes"] else ""
        print(f"{line['level']:4s}  {line['what']:15s}  {line['found']}{nodes}")
        if line["cure"]:
            print(f"{'':23s}cure: {line['cure']}")


def raise_failures(lines: list[Finding]) -> None:
    """Raise an error if any check failed.

    Raises:
        UserError: if any check failed; says how many and which.
    """
    failed = [line["what"] for line in lines if line["level"] == "FAIL"]
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        raise UserError(f"{len(failed)} of {len(lines)} checks failed ({names}): the report names the cures")
