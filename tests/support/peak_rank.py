"""A rank of a run that notes by how much its memory grows and what it sends, started as any rank.

Growth is the peak of the resident set (VmHWM) over training steps, less what is resident when the libraries
are loaded and the model is not. What is sent is what the loopback device carries in the later steps, by step
and rank. The files `peak_rank_N.json` of the run directory hold both in bytes. It leaves with one
checkpoint written.
"""

from __future__ import annotations

import json
from pathlib import Path

import mmgnn_dist.train.loop as loop
import mmgnn_dist.train.run as run
from mmgnn_dist.train.inputs import Inputs


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def carried() -> int:
    """Bytes that the loopback device has sent since the machine started."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    raise AssertionError("no loopback device")


def main() -> int:
    """Train, with memory noted before the model is built and after the last step."""
    import deepspeed  # noqa: F401  its own memory is not the model's
    import transformers.models.bert.modeling_bert  # noqa: F401

    build, save, train, step = Inputs.model, loop.Trainer._save, loop.Trainer.run, loop.Trainer._step
    before = {}

    def noting(self, *arguments, **options):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before["bytes"] = resident("VmRSS")
        return build(self, *arguments, **options)

    def stepping(self, *arguments):
        stop = step(self, *arguments)
        self.parts.ranks.barrier()
        if self.state.step == 1:
            before["sent"] = carried()
        return stop

    def saving(self):
        ranks = self.parts.ranks
        found = {
            "peak": resident("VmHWM") - before["bytes"],
            "sent": (carried() - before["sent"]) / (self.state.step - 1) / ranks.world,
        }
        ranks.barrier()
        (self.parts.run.path / f"peak_rank_{ranks.rank}.json").write_text(json.dumps(found))
        save(self)

    Inputs.model, loop.Trainer._save, loop.Trainer._step = noting, saving, stepping
    loop.Trainer._validate = lambda self, epoch: False
    loop.Trainer.run = lambda self: train(self) and False  # leaves as one that was stopped
    return run.main()
