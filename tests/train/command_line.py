"""How the tests of training start runs: through the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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
  {epochs: 1, max_steps: 12, batch: 8, threads: 1, precision: fp32, checkpoint_every: 5, optim: {ema: 0.9}}
track: {wandb: disabled}
"""


def write_recipe(folder: Path, shards: Path, mode: str = "full") -> Path:
    path = folder / "small.yaml"
    path.write_text(RECIPE % (shards, mode))
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "mmgnn_dist.cli", *map(str, words)]


def mmgnn(*words: object, code: int = 0, limit: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end and check its exit code."""
    done = subprocess.run(command(*words), check=False, capture_output=True, text=True, timeout=limit)
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


def interrupt(
    run: Path, step: int, number: signal.Signals, *words: object, limit: float = 240
) -> subprocess.Popen[str]:
    """Start a command line, and send a signal to it once the run's journal has reached a step."""
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + limit
    while not any(line["step"] >= step for line in journal(run)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.02)
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())
