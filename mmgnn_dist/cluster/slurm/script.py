"""The batch script of a profile: parameters of sbatch, and what runs before and after the ranks.

submitit writes the `#SBATCH` lines and the `srun` line. Before the `srun` line the script sets up what the
profile asks for. After it the notes of the ranks (`supervisor.py`) decide whether the job goes back to the
queue. The shell functions for that are in `job.sh`, which the plain sbatch files also read.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.slurm.profile import GPUS, Profile
from mmgnn_dist.config import Recipe

SHELL = Path(__file__).with_name("job.sh")


@dataclass(frozen=True)
class JobLink:
    """Place of a job among those of one submission that follow each other.

    Attributes:
        submission: name of the submission, which no other one has.
        before: the jobs before this one, on whose end it waits; the last one is that which it follows.
    """

    submission: str
    before: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the job, which no other one has."""
        return f"{self.submission}-{len(self.before)}" if self.before else self.submission


def parameters(
    profile: Profile,
    link: JobLink,
    runs: list[Path],
    code: Path,
    mounts: list[str],
) -> dict[str, Any]:
    """Return the parameters of submitit's Slurm executor.

    Args:
        profile: where to run.
        link: name of the job, and the jobs that it follows.
        runs: run directory of each element of the array, or of the single job.
        code: folder of the copy of the package that the job imports.
        mounts: mounts of the container, SOURCE:TARGET.
    """
    additional: dict[str, Any] = {"no-requeue" if profile.restart == "successor" else "requeue": True}
    for option in profile.sbatch:
        key, equals, value = option.removeprefix("--").partition("=")
        additional[key] = value if equals else True
    named: dict[str, Any] = {
        "exclude": profile.exclude,
        "nodelist": profile.nodelist,
        "licenses": profile.licenses,
        "gres": profile.gres,
        "mem-per-gpu": profile.mem_per_gpu,
        "exclusive": profile.exclusive,
    }
    additional |= {key: value for key, value in named.items() if value}
    if link.before:
        additional["dependency"] = f"afterany:{':'.join(link.before)}"
    if profile.gpus_per_node and not GPUS.search(profile.gres or ""):
        kind = f"{profile.gpu_type}:" if profile.gpu_type else ""
        additional["gpus-per-node"] = f"{kind}{profile.gpus_per_node}"
    srun = [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1"]
    if profile.container and profile.container.kind == "pyxis":
        srun += [f"--container-image={profile.container.image}", f"--container-mounts={','.join(mounts)}"]
    options: dict[str, Any] = {
        "job_name": link.name,
        "time": profile.minutes,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.tasks_per_node,
        "cpus_per_task": profile.cpus_per_task,
        "signal_delay_s": profile.signal_lead,
        "partition": profile.partition,
        "qos": profile.qos,
        "account": profile.account,
        "constraint": profile.constraint,
        "wckey": None,
        "mem": f"{profile.memory_gb}GB" if profile.memory_gb else None,
        "stderr_to_stdout": True,
        "additional_parameters": additional,
        "setup": setup(profile, link, runs, code),
        "teardown": ["mmgnn_after $?"],
        "srun_args": srun,
    }
    return options


def script_text(options: dict[str, Any], folder: Path, python: str, count: int | None = None) -> str:
    """Return a batch script as submitit writes it.

    Args:
        options: parameters of the executor, as `parameters` returns them.
        folder: folder of pickles and logs.
        python: shell words that start Python on a node.
        count: number of elements of an array; None for a single job.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    given = {key: value for key, value in options.items() if value is not None} | {"wckey": None}
    command = f"{python} -u -m submitit.core._submit {folder}"
    text: str = _make_sbatch_string(command, folder, map_count=count, **given)
    return text


def setup(profile: Profile, link: JobLink, runs: list[Path], code: Path) -> list[str]:
    """Return the shell lines that run before the ranks."""
    lines = [f"runs=({' '.join(shlex.quote(str(run)) for run in runs)})"]
    lines += ["run=${runs[${SLURM_ARRAY_TASK_ID:-0}]}", f"max_restarts={profile.max_restarts}"]
    lines += [f"submission={shlex.quote(link.submission)}", f"code={shlex.quote(str(code))}"]
    lines += [f"restart={profile.restart}", f"previous={link.before[-1] if link.before else ''}"]
    lines += [f"module load {shlex.quote(name)} || exit" for name in profile.modules]
    lines += profile.setup
    variables: dict[str, str] = {}
    if profile.interface:
        variables |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), profile.interface)
    if profile.scratch:
        variables["TMPDIR"] = str(profile.scratch)
    variables |= profile.models() | profile.environment
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append("export PYTHONPATH=$code${PYTHONPATH:+:$PYTHONPATH}")
    return [*lines, *SHELL.read_text(encoding="utf-8").splitlines(), "mmgnn_before"]


def mounts_of(profile: Profile, base: Path, recipes: list[Recipe]) -> list[str]:
    """Return the mounts of the container, as SOURCE:TARGET: every folder that the ranks read or write.

    Args:
        profile: where to run.
        base: folder of the run directories and of the code.
        recipes: recipes of the runs.
    """
    if profile.container is None:
        return []
    seen = [path for path in (base, profile.cache, profile.scratch) if path]  # scratch may be local to a node
    for recipe in recipes:
        read = (recipe.data.shards, Path(recipe.text.encoder).expanduser())
        seen += [path for path in read if path and path.is_dir()]
    paths = dict.fromkeys(str(path.resolve()) for path in seen)
    return [*(f"{path}:{path}" for path in paths), *profile.container.mounts]


def interpreter(profile: Profile, own: str, mounts: list[str]) -> str:
    """Return the shell words that start Python on a node; `own` is the interpreter that submits."""
    container = profile.container
    if container is None:
        return shlex.quote(profile.python or own)
    if container.kind == "pyxis":
        return container.python
    words = ["apptainer", "exec", *(["--nv"] if profile.gpus_per_node else [])]
    words += [word for mount in mounts for word in ("--bind", mount)]
    return shlex.join([*words, container.image, container.python])
