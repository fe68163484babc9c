"""The batch script of a profile: parameters of sbatch, and what runs before and after the ranks.

submitit writes the `#SBATCH` lines and the `srun` line. Before the `srun` line the script sets up what the
profile asks for. After it the notes of the ranks (`supervisor.py`) decide whether the job goes back to the
queue. The shell functions for that are in `job.sh`, which the plain sbatch files also read.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.config import Recipe

SHELL = Path(__file__).with_name("job.sh")


def parameters(
    profile: Profile, name: str, runs: list[Path], code: Path, mounts: list[str]
) -> dict[str, Any]:
    """Return the parameters of submitit's Slurm executor.

    Args:
        profile: where to run.
        name: name of the job.
        runs: run directory of each element of the array, or of the single job.
        code: folder of the copy of the package that the job imports.
        mounts: mounts of the container, SOURCE:TARGET.
    """
    additional: dict[str, Any] = {"requeue": True}
    for option in profile.sbatch:
        key, equals, value = option.removeprefix("--").partition("=")
        additional[key] = value if equals else True
    if profile.gpus_per_node:
        kind = f"{profile.gpu_type}:" if profile.gpu_type else ""
        additional["gpus-per-node"] = f"{kind}{profile.gpus_per_node}"
    srun = [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1"]
    if profile.container and profile.container.kind == "pyxis":
        srun += [f"--container-image={profile.container.image}", f"--container-mounts={','.join(mounts)}"]
    options: dict[str, Any] = {
        "job_name": name,
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
        "setup": setup(profile, runs, code),
        "teardown": ["mmgnn_after $?"],
        "srun_args": srun,
    }
    return options


def setup(profile: Profile, runs: list[Path], code: Path) -> list[str]:
    """Return the shell lines that run before the ranks."""
    lines = [f"runs=({' '.join(shlex.quote(str(run)) for run in runs)})"]
    lines += ["run=${runs[${SLURM_ARRAY_TASK_ID:-0}]}", f"max_restarts={profile.max_restarts}"]
    lines += [f"module load {shlex.quote(name)} || exit" for name in profile.modules]
    lines += profile.setup
    variables: dict[str, str] = {}
    if profile.interface:
        variables |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), profile.interface)
    if profile.scratch:
        variables["TMPDIR"] = str(profile.scratch)
    variables |= profile.models() | profile.environment
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
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
