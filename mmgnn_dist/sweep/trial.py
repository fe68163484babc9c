"""A trial of a sweep as Ray Tune runs it: a run directory that `mmgnn_dist.train.run` trains.

The ranks are processes of their own under DeepSpeed, as in `mmgnn train`; the trial reports each validation
in the journal to Tune. Tune keeps no checkpoint of a trial: the run directory has its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.sweep.ledger import validation_scores

POLL = 0.3  # seconds between two reads of the journal
ANSWER = 2.0  # seconds after which Tune gets an empty result, so that it can stop the trial
LEAVE = 90.0  # seconds within which a stopped trial must save


class Trial(Trainable):
    """Trainable that runs one trial; `config` holds run, metric, ranks, cpus and gpus."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the ranks."""
        self._run, self._metric, self._told = Path(config["run"]), config["metric"], 0
        environment = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_TOKEN"}
        environment |= {"OMP_NUM_THREADS": str(config["cpus"]), "OMP_WAIT_POLICY": "PASSIVE"}
        environment["DS_ACCELERATOR"] = "cuda" if config["gpus"] else "cpu"
        if not config["gpus"]:
            environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from a task that asks for none
        path = RunDir(self._run).trial_log
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mmgnn_dist.train.launch", str(self._run), str(config["ranks"])],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def step(self) -> dict[str, Any]:
        """Wait for the next validation or the end.

        Raises:
            RuntimeError: if the ranks died; Tune may start the trial again.
        """
        end = time.monotonic() + ANSWER
        while True:
            code = self._process.poll()  # polled before the read: after the end the journal is complete
            scores = validation_scores(self._run, self._metric)
            if len(scores) > self._told:
                self._told += 1
                return {self._metric: scores[self._told - 1], "validations": self._told}
            if code is not None:
                return self._end(code, scores)
            if time.monotonic() > end:
                return {}
            time.sleep(POLL)

    def _end(self, code: int, scores: list[float]) -> dict[str, Any]:
        ends = {EXIT_DONE: "done", EXIT_STOPPED: "interrupted", EXIT_USER: "failed"}
        if code not in ends or (code == EXIT_DONE and not scores):
            log = RunDir(self._run).trial_log
            raise RuntimeError(f"the ranks of {self._run} left with exit code {code}: see {log}")
        result = {"done": True, "ended": ends[code], "validations": self._told}
        return result | ({self._metric: scores[-1]} if scores else {})

    def cleanup(self) -> None:
        """Make the ranks save and exit."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(LEAVE)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the run directory has checkpoints of its own."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing: the run continues from its own checkpoint."""


def reason(run: Path) -> str:
    """Return why a trial failed: the last message of a rank to the user, or else the last line of its log."""
    path = RunDir(run).trial_log
    log = path.read_text(errors="replace") if path.exists() else ""
    lines = [line for line in log.splitlines() if line.strip()]
    messages = [line.removeprefix("mmgnn: ") for line in lines if line.startswith("mmgnn: ")]
    return [*lines, *messages][-1] if lines else "it said nothing"
