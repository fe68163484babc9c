"""The supervisor of a rank: every task of a Slurm step runs it, started by submitit or by plain sbatch.

It sets the variables of the rank (RANK, WORLD_SIZE, MASTER_ADDR ...) from those of Slurm, starts
`mmgnn_dist.train.run` as a process of its own, passes signals on, and notes in the run directory how it ended

    RUN/slurm/JOB.RESTART/rank_N.started, then rank_N.done | stopped | failed | hung | killed | ended

A `stopped` rank has saved (exit code 3). A `failed` rank had a fault of its own (exit code 1 or 2); the note
holds its last lines. A `hung` rank waited too long for another one (exit code 4). A `killed` rank died of a
signal. An `ended` rank was ended because another one failed. A rank whose supervisor was killed leaves no
note. The batch script reads the notes to decide whether the job goes back to the queue (`job.sh`). It runs on
the host, so this also works where ranks run in a container.

Every supervisor looks for one file, which the first one whose rank fails makes, and looks the less often the
more ranks there are: the file server answers the same few questions a second for any number of ranks.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import FrameType

from mmgnn_dist.cluster.out_of_memory import oom_kills
from mmgnn_dist.errors import EXIT_DONE, EXIT_HUNG, EXIT_STOPPED
from mmgnn_dist.files import write_text
from mmgnn_dist.process import write_for_owner_only
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.signals import STOP_SIGNALS
from mmgnn_dist.train.launch import LISTENING, die_with_parent, listen

GRACE = 10.0  # seconds that a rank has to end by itself after another failed
PATIENCE = 300.0  # seconds that ranks wait for the first one's address
LOOKS = 25.0  # looks for the file `FAULT` by all supervisors together, each second
FAULT = "fault"  # file among the notes: a rank has failed, so the others are to end
KEPT = 30  # lines of stderr kept for `mmgnn status`


class Task:
    """Task that submitit pickles: the run directory only, so that a requeued job starts like a new one."""

    def __init__(self, run: Path) -> None:
        self.run = str(run)

    def __call__(self) -> str:
        """Run the rank; raises SystemExit unless it is done, since submitit takes a return for success."""
        _forget_half_written()
        end = supervise(Path(self.run))
        if end != "done":
            # exit code 0: another one would make srun kill the ranks that still save
            raise SystemExit(0)
        return end


def _forget_half_written() -> None:
    """Remove what a start that met a full disk left of submitit's result: it would fail every later start."""
    from submitit import JobEnvironment

    result: Path = JobEnvironment().paths.result_pickle
    result.with_suffix(f"{result.suffix}.save_tmp").unlink(missing_ok=True)


def supervise(run: Path) -> str:
    """Run one rank to its end; returns how it ended."""
    write_for_owner_only()
    rank = int(os.environ["SLURM_PROCID"])
    attempt = RunDir(run).attempt(os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0"))
    attempt.mkdir(parents=True, exist_ok=True)
    note = attempt / f"rank_{rank}"
    _write_note(note.with_suffix(".started"), os.environ.get("SLURMD_NODENAME", ""))
    try:
        end, last_lines = _run(run, attempt, rank)
    except Exception as error:
        end, last_lines = "failed", [f"{type(error).__name__}: {error}"]
    _write_note(note.with_suffix(f".{end}"), "".join(f"{line}\n" for line in last_lines))
    if end in ("failed", "hung", "killed"):
        (attempt / FAULT).touch()  # after the note that says why
    return end


def _write_note(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:  # a full disk may still take an empty file, and the log has the words
        print(f"mmgnn: {path} cannot be written ({error.strerror}): {text}", file=sys.stderr, flush=True)
        path.touch()


def _run(run: Path, attempt: Path, rank: int) -> tuple[str, list[str]]:
    if scratch := os.environ.get("TMPDIR"):  # if it is missing, Python silently uses another one
        Path(scratch).mkdir(parents=True, exist_ok=True)
    master = meet(attempt, rank)
    if master is None:
        return "ended", []
    environment = os.environ | rank_variables(rank) | master
    oom_kills_before = oom_kills()
    inherited = [int(master[LISTENING])] if LISTENING in master else []
    process = subprocess.Popen(
        [sys.executable, "-m", "mmgnn_dist.train.run", str(run)],
        env=environment,
        stderr=subprocess.PIPE,
        pass_fds=inherited,
        preexec_fn=die_with_parent,  # noqa: PLW1509  there are no threads yet
    )
    for number in inherited:
        os.close(number)  # so that nobody listens there after the first rank has ended

    def forward(number: int, frame: FrameType | None) -> None:
        if process.poll() is None:
            process.send_signal(number)

    for number in STOP_SIGNALS:
        signal.signal(number, forward)
    lines: deque[str] = deque(maxlen=KEPT)
    reader = threading.Thread(target=_pass_on, args=(process, lines), daemon=True)
    reader.start()
    asked_at, looked_at, pace = 0.0, -math.inf, look_every(int(environment["WORLD_SIZE"]))
    while process.poll() is None:
        due = not asked_at and time.monotonic() - looked_at >= pace
        looked_at = time.monotonic() if due else looked_at
        if due and _another_failed(attempt):
            asked_at = time.monotonic()
            process.terminate()
        elif asked_at and time.monotonic() - asked_at > GRACE:
            process.kill()
        time.sleep(0.2)
    reader.join(timeout=5)
    code = process.returncode
    if asked_at and code != 0:
        return "ended", list(lines)
    if code < 0:
        why = ""
        if code == -signal.SIGKILL and oom_kills() > oom_kills_before:
            why = ", by the out-of-memory killer: ask for more memory (memory_gb), or lower train.batch"
        return "killed", [f"rank {rank} was killed by signal {-code}{why}", *lines]
    return {EXIT_DONE: "done", EXIT_STOPPED: "stopped", EXIT_HUNG: "hung"}.get(code, "failed"), list(lines)


def _pass_on(process: subprocess.Popen[bytes], lines: deque[str]) -> None:
    """Copy the rank's stderr to ours and keep its last lines."""
    assert process.stderr
    for line in process.stderr:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
        lines.append(line.decode(errors="replace").rstrip("\n"))


def _another_failed(attempt: Path) -> bool:
    return (attempt / FAULT).exists()


def look_every(world: int) -> float:
    """Return the seconds between two looks of a supervisor; all together look `LOOKS` times a second."""
    return max(0.2, world / LOOKS)


def rank_variables(rank: int) -> dict[str, str]:
    """Return the variables of torch.distributed, except those of the master, from Slurm's variables."""
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ["SLURM_TASKS_PER_NODE"]
    here = tasks_per_node(counts)[int(os.environ["SLURM_NODEID"])]
    return {
        "RANK": str(rank),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "WORLD_SIZE": os.environ["SLURM_NTASKS"],
        "LOCAL_WORLD_SIZE": str(here),
    }


def tasks_per_node(text: str) -> list[int]:
    """Expand Slurm's list of counts: `2(x3),1` becomes [2, 2, 2, 1]."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        assert match, text
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def meet(folder: Path, rank: int) -> dict[str, str] | None:
    """Return the variables with the first rank's address and port, or None if another rank failed meanwhile.

    The first rank listens there already, and writes the address to a file for the other ranks.
    """
    path = folder / "master.json"
    if rank == 0:
        listening, port = listen(_bound_to())
        master = {"MASTER_ADDR": own_address(), "MASTER_PORT": str(port)}
        write_text(path, json.dumps(master))
        return master | {LISTENING: str(listening.detach())}
    end, pause = time.monotonic() + PATIENCE, 0.1
    while not path.exists():
        if _another_failed(folder):
            return None
        if time.monotonic() > end:
            raise TimeoutError(f"rank 0 left no address in {path}: is the run directory on a shared disk?")
        time.sleep(pause)
        pause = min(2 * pause, max(pause, look_every(int(os.environ["SLURM_NTASKS"]))))
    address: dict[str, str] = json.loads(path.read_text())
    return address


def _bound_to() -> str:
    """Return the address on which the store of torch.distributed listens, which has no password.

    It is that of `own_address`. Where a node's name means the loopback interface on the node itself (as in
    Debian's /etc/hosts), other nodes could not reach it there, and the store listens on all interfaces.
    """
    address = socket.gethostbyname(own_address())
    if address.startswith("127.") and int(os.environ["SLURM_JOB_NUM_NODES"]) > 1 and not _interface():
        print(
            f"mmgnn: {own_address()} is {address} on this node, so torch's store listens on all interfaces: "
            "name one in the profile (interface)",
            file=sys.stderr,
            flush=True,
        )
        return ""
    return address


def _interface() -> str | None:
    return os.environ.get("GLOO_SOCKET_IFNAME")


def own_address() -> str:
    """Return the address of the interface that the profile names, or else this node's name."""
    interface = _interface()
    if not interface:
        return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface[:15].encode())
        try:
            answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
        except OSError:
            names = ", ".join(name for _, name in socket.if_nameindex())
            raise ValueError(f"no interface {interface} with an IPv4 address here, only {names}") from None
    return socket.inet_ntoa(answer[20:24])


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
    sys.exit(0)
