"""A rank of a run that notes by how much its memory grows: `python peak_rank.py RUN`, started as any rank.

Growth is the peak of the resident set (VmHWM) over training steps, less what is resident when the libraries
are loaded and the model is not. The files `peak_rank_N.json` of the run directory hold it in bytes.
"""

from __future__ import annotations

import json
import os
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

    build, train = Inputs.model, loop.Trainer.run
    before = {}

    def noting(self, *arguments, **options):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before["bytes"] = resident("VmRSS")
        return build(self, *arguments, **options)

    def stepping(self):
        self._validate = lambda epoch: None
        self._save = lambda: None
        train(self)
        grown = resident("VmHWM") - before["bytes"]
        path = self.parts.run / f"peak_rank_{self.parts.ranks.rank}.json"
        path.write_text(json.dumps(grown))
        self.parts.ranks.barrier()
        os._exit(0)

    Inputs.model, loop.Trainer.run = noting, stepping
    return run.main()


if __name__ == "__main__":
    os._exit(main())
