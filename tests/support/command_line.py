"""How the tests of training start runs: through the command line, in processes of their own."""

from __future__ import annotations

import atexit
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

RECIPE = """
name: small
targets: [homo, gap, energy]
data: {shards: %s}
text: {fields: [iupac_name], mode: %s}
model:
  modality: both
  backbone: {name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 10, cutoff: 5.0}
train:
  {epochs: 1, max_steps: 12, batch: 8, threads: 1, precision: fp32, zero_stage: 1, checkpoint_every: 5,
   optim: {ema: 0.9}}
track: {wandb: disabled}
"""


def write_recipe(folder: Path, shards: Path, mode: str = "full", encoder: Path | None = None) -> Path:
    path = folder / "small.yaml"
    text = RECIPE % (shards, mode)
    if encoder:
        text = text.replace("text: {", f"text: {{encoder: {encoder}, ")
    path.write_text(text)
    return path


ENVIRONMENT = dict(
    os.environ
)  # before any test adds a PYTHONPATH: what is forked imports the package from it


@cache
def zygote() -> subprocess.Popen[str]:
    """The process that forks itself."""
    started = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    atexit.register(started.kill)
    return started


def ask(**request: object) -> int | None:
    process = zygote()
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@cache
def outputs() -> tempfile.TemporaryDirectory[str]:
    """Where processes write to; it goes as the tests end."""
    return tempfile.TemporaryDirectory(prefix="mmgnn-tests-")


class Started:
    """A process that the zygote forked, as `subprocess.Popen` has it."""

    def __init__(self, module: str, words: tuple[object, ...], **environment: object) -> None:
        folder = Path(tempfile.mkdtemp(dir=outputs().name))
        self._out, self.returncode = [folder / name for name in ("stdout", "stderr")], None
        variables = dict(os.environ) | {key: str(value) for key, value in environment.items()}
        pid = ask(
            module=module,
            words=[str(word) for word in words],
            out=[str(path) for path in self._out],
            folder=str(Path.cwd()),
            environment=variables,
        )
        assert pid
        self.pid: int = pid

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = ask(wait=self.pid)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout, self.output())
            time.sleep(0.02)
        return code

    def output(self) -> str:
        """What it wrote to standard output and standard error."""
        return "".join(self.texts())

    def texts(self) -> list[str]:
        return [path.read_text() for path in self._out]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on, of those that the kernel gives to no connection."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def start(*words: object) -> Started:
    """A command line that runs."""
    return Started("mmgnn_dist.cli.main", words)


def start_ranks(run: Path, world: int) -> list[Started]:
    """The ranks of a run directory, started as a launcher of several machines does."""
    return start_all("mmgnn_dist.train.run", world, run)


def start_all(module: str, world: int, *words: object, **environment: object) -> list[Started]:
    """One process a rank, each running `main()` of a module."""
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", **environment}
    port = free_port()
    return [
        Started(module, words, RANK=rank, LOCAL_RANK=rank, MASTER_PORT=port, **shared)
        for rank in range(world)
    ]


def mmgnn(
    *words: object, code: int = 0, limit: float = 300, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end and check its exit code; `fresh`: in a new interpreter."""
    if fresh:
        command = [sys.executable, "-m", "mmgnn_dist.cli", *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    else:
        process = start(*words)
        found = process.wait(limit)
        done = subprocess.CompletedProcess(words, found, *process.texts())
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def journal(run: Path, kind: str = "train") -> list[dict]:
    path = run / "journal.jsonl"
    lines = (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        if path.exists()
        else []
    )
    return [line for line in lines if line["kind"] == kind]


def reach(run: Path, step: int, *processes: Started, limit: float = 240) -> None:
    """Wait until the run's journal has a step."""
    deadline = time.monotonic() + limit
    while not any(line["step"] >= step for line in journal(run)):
        for process in processes:
            assert process.poll() is None, process.output()
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.02)


def interrupt(run: Path, step: int, number: signal.Signals, *words: object, limit: float = 240) -> Started:
    """Start a command line, and send a signal to it once the run's journal has reached a step."""
    process = start(*words)
    reach(run, step, process, limit=limit)
    if number == signal.SIGKILL:
        process.kill()
    else:
        process.send_signal(number)
    return process


def signal_step(process: Started, number: signal.Signals) -> None:
    """Send a signal to a process and all below it, as Slurm signals a step; W&B's own process dies first."""
    import psutil

    process.send_signal(signal.SIGSTOP)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.send_signal(number)
        while child.name() == "wandb-core" and child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def ids_of(run, world):
    """Molecules of every step, over all ranks."""
    steps: dict[int, list[str]] = {}
    for rank in range(world):
        for line in (run / "logs" / f"ids_rank_{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            steps.setdefault(entry["step"], []).extend(entry["ids"])
    return {step: sorted(ids) for step, ids in steps.items()}
