"""A rank of a run that notes by how much its memory grows, started as any rank.

Growth is the peak of the resident set (VmHWM) over training steps, less what is resident when the libraries
are loaded and the model is not. The files `peak_rank_N.json` of the run directory hold it in bytes. It leaves
with one checkpoint written.
"""

from __future__ import annotations

import json
from pathlib import Path

import mmgnn_dist.train.loop as loop
import mmgnn_dist.train.run as run
from mmgnn_dist.train.setup import Inputs


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def main() -> int:
    """Train, with memory noted before the model is built and after the last step."""
    import deepspeed  # noqa: F401  its own memory is not the model's
    import transformers.models.bert.modeling_bert  # noqa: F401

    build, save, train = Inputs.model, loop.Trainer._save, loop.Trainer.run
    before = {}

    def noting(self, *arguments, **options):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before["bytes"] = resident("VmRSS")
        return build(self, *arguments, **options)

    def saving(self):
        ranks = self.parts.ranks
        peak = resident("VmHWM") - before["bytes"]
        (self.parts.run / f"peak_rank_{ranks.rank}.json").write_text(json.dumps({"peak": peak}))
        save(self)

    Inputs.model, loop.Trainer._save = noting, saving
    loop.Trainer._validate = lambda self, epoch: False
    loop.Trainer.run = lambda self: train(self) and False  # leaves as one that was stopped
    return run.main()
