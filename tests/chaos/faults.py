"""The faults: drawn from a seed before a job starts, done to it while it runs, undone some seconds later.

A fault is a dictionary, so that the journal shows it and a trial can be repeated:

    {"fault": "signal", "role": "rank", "signal": "KILL", "pick": 0.37, "after": 2.1, "lasts": 0.0}

`after` counts seconds from the moment that what it needs (a running job, a process of the role) is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from chaos_cluster import NODES, Site

Planned = dict[str, Any]
ROLES_OF = {
    "train": ("rank", "rank", "supervisor", "wandb", "batch shell", "srun", "stepd"),
    "study": ("rank", "rank", "supervisor", "batch shell", "srun", "stepd"),
    "sweep": (
        "rank",
        "launcher",
        "driver",
        "ray node",
        "ray worker",
        "raylet",
        "gcs",
        "batch shell",
        "stepd",
    ),
    "prepare": ("driver", "ray node", "ray worker", "raylet", "gcs", "batch shell", "srun", "stepd"),
}
WEIGHTS = {
    "signal": 8,
    "stop": 4,
    "step": 3,
    "batch": 1,
    "requeue": 2,
    "mute": 4,
    "daemon": 4,
    "node": 3,
    "drain": 1,
    "preempt": 1,
    "full": 2,
    "read-only": 2,
    "flip": 3,
    "delete": 3,
    "twice": 2,
}
PACE = 8.0  # seconds between two faults on average
SIGNALS = ("TERM", "INT", "USR1", "USR2", "KILL", "KILL")
ALONE = ("recipe.yaml", "journal.jsonl", "job.json")  # what the judge reads is not damaged


class Missed(Exception):
    """There was nothing to do it to; such a fault is not counted."""


def draw(random: Random, kind: str) -> Planned:
    """Draw one fault for a kind of job."""
    name = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    planned: Planned = {
        "fault": name,
        "after": round(min(random.expovariate(1 / PACE), 4 * PACE), 1),
        "lasts": 0.0,
    }
    planned["pick"] = round(random.random(), 6)
    if name in ("signal", "stop"):
        planned["role"] = random.choice(ROLES_OF[kind])
        planned["signal"] = "STOP" if name == "stop" else random.choice(SIGNALS)
        if planned["role"] == "stepd" and name == "signal":
            planned["signal"] = "KILL"
    elif name in ("step", "batch"):
        planned["signal"] = random.choice(SIGNALS)
    elif name == "mute":
        planned["programs"] = sorted(
            random.sample(["scontrol", "squeue", "sbatch", "sacct"], random.randint(1, 4))
        )
        planned["how"] = random.choice(["fails", "hangs"])
    elif name == "daemon":
        planned["name"] = random.choice(["slurmctld", *NODES])
        planned["signal"] = random.choice(["KILL", "KILL", "STOP", "TERM"])
    elif name in ("node", "drain", "read-only"):
        planned["name"] = random.choice(NODES[:2] if random.random() < 0.9 else NODES)
    if name in ("stop", "mute", "daemon", "node", "drain", "full", "read-only"):
        planned["lasts"] = round(random.uniform(1, 15), 1)
    return planned


def inject(
    planned: Planned, site: Site, folder: Path, again: Callable[[], str]
) -> tuple[str, Callable[[], None] | None]:
    """Do a fault now.

    Args:
        planned: the fault.
        site: where the job runs.
        folder: run directory or output of the job.
        again: gives the job's command a second time; returns what it said.

    Returns:
        What was done, in words, and what undoes it.

    Raises:
        Missed: there is nothing to do it to.
    """
    return {
        "signal": _signal,
        "stop": _signal,
        "step": _step,
        "batch": _step,
        "requeue": _step,
        "mute": _mute,
        "daemon": _daemon,
        "node": _node,
        "drain": _drain,
        "preempt": _preempt,
        "full": _full,
        "read-only": _read_only,
        "flip": _damage,
        "delete": _damage,
        "twice": lambda *_: (f"the same command again: {again()}", None),
    }[planned["fault"]](planned, site, folder)


def ready(planned: Planned, site: Site) -> bool:
    """Whether what a fault needs is there."""
    if planned["fault"] in ("signal", "stop"):
        return bool(site.processes(planned["role"]))
    if planned["fault"] in ("mute", "twice", "full", "node", "drain", "daemon"):
        return True
    return bool(site.processes("batch shell"))


def send(pid: int, name: str) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, getattr(signal, f"SIG{name}"))


def _signal(planned: Planned, site: Site, folder: Path):
    found = site.processes(planned["role"])
    if not found:
        raise Missed(f"no {planned['role']}")
    pid = found[int(planned["pick"] * len(found))]
    send(pid, planned["signal"])
    undo = (lambda: send(pid, "CONT")) if planned["signal"] == "STOP" else None
    return f"SIG{planned['signal']} to {planned['role']} {pid} ({len(found)} of them)", undo


def _job(planned: Planned, site: Site) -> str:
    running = [job for job, state in site.queue().items() if state.startswith("RUNNING")]
    if not running:
        raise Missed("no job runs")
    return running[int(planned["pick"] * len(running))]


def _step(planned: Planned, site: Site, folder: Path):
    job = _job(planned, site)
    if planned["fault"] == "requeue":
        site.ask("scontrol", "requeue", job, check=False)
        return f"scontrol requeue {job}", None
    words = ["--batch"] if planned["fault"] == "batch" else []
    site.ask("scancel", *words, f"--signal={planned['signal']}", job, check=False)
    return f"scancel {' '.join(words)} --signal={planned['signal']} {job}", None


def _mute(planned: Planned, site: Site, folder: Path):
    flags = [site.folder / "bin" / f".{name}.{planned['how']}" for name in planned["programs"]]
    for flag in flags:
        flag.touch()
    return (
        f"{', '.join(planned['programs'])}: {planned['how']}",
        lambda: [f.unlink(True) for f in flags] and None,
    )


def _daemon(planned: Planned, site: Site, folder: Path):
    name = planned["name"]
    pid = site.daemon(name)
    if not pid:
        raise Missed(f"no {name}")
    send(pid, planned["signal"])
    label = name if name == "slurmctld" else f"slurmd of {name}"
    if planned["signal"] == "STOP":
        return f"SIGSTOP to {label}", lambda: send(pid, "CONT")

    def back() -> None:
        site.until(lambda: not Path(f"/proc/{pid}").exists(), 30)
        site.start(name)

    return f"SIG{planned['signal']} to {label}", back


def _node(planned: Planned, site: Site, folder: Path):
    site.cluster.do("kill", planned["name"])
    return f"{planned['name']} loses power", lambda: site.start(planned["name"])


def _drain(planned: Planned, site: Site, folder: Path):
    name = planned["name"]
    site.ask("scontrol", "update", f"nodename={name}", "state=drain", "reason=chaos", check=False)
    resume = ("update", f"nodename={name}", "state=resume")
    return f"{name} is drained", lambda: site.ask("scontrol", *resume, check=False) and None


def _preempt(planned: Planned, site: Site, folder: Path):
    words = ["-A", "dev", "-p", "urgent", "-N3", "--exclusive", "-o/dev/null", "--wrap", "sleep 2"]
    site.ask("sbatch", *words)
    return "preempted by a job of another partition", None


def _full(planned: Planned, site: Site, folder: Path):
    filler, state = site.disk / "filler", os.statvfs(site.disk)
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(state.f_bavail * state.f_frsize, 1))
    except OSError:
        raise Missed("the disk is full already") from None
    return f"disk is full ({filler.stat().st_size >> 20} MiB taken)", lambda: filler.unlink(missing_ok=True)


def _read_only(planned: Planned, site: Site, folder: Path):
    """A mount over the disk: what is opened from now on is read-only, on one node."""
    name, disk = planned["name"], str(site.disk)
    if site.inside(name, "sh", "-c", f"mount --bind {disk} {disk} && mount -o remount,bind,ro {disk}"):
        raise Missed(f"{name} is off")
    # a node that lost its power in between has no such mount, and keeps the disk itself
    undo = f"findmnt -n -o OPTIONS {disk} | tail -n 1 | grep -q '^ro' && umount -l {disk}"
    return f"disk is read-only on {name}", lambda: site.inside(name, "sh", "-c", undo) and None


def _damage(planned: Planned, site: Site, folder: Path):
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    paths = [path for path in paths if path.name not in ALONE and "code" not in path.parts]
    if planned["fault"] == "flip":
        paths = [path for path in paths if "checkpoints" in path.parts or ".partial" in str(path)]
        paths = [path for path in paths if path.stat().st_size]
    if not paths:
        raise Missed("no file")
    path = paths[int(planned["pick"] * len(paths))]
    name = path.relative_to(folder)
    try:
        if planned["fault"] == "delete":
            path.unlink()
            return f"{name} deleted", None
        with path.open("r+b") as file:
            where = int(planned["pick"] * 1e6) % path.stat().st_size
            file.seek(where)
            byte = file.read(1)
            file.seek(where)
            file.write(bytes([byte[0] ^ 0x10]))
    except (OSError, IndexError) as error:
        raise Missed(f"{name}: {error}") from None
    return f"{name}: byte {where} flipped", None


def other_job(site: Site, log: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Submit a script with the shipped options; unlike `ask`, a refusal is an answer."""
    command = ["sbatch", "--parsable", f"--output={log}", "--open-mode=append", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
