"""A rank of a run with a fault put in: `python faulty_rank.py RUN STEPS WHERE`, as the launcher starts one.

In the named steps (comma-separated, counted from 0) the loss of the last rank is NaN (`loss`), or finite with
a gradient that is not (`gradient`).
"""

from __future__ import annotations

import os
import sys

import torch

import mmgnn_dist.train.loop as loop
from mmgnn_dist.train.run import main


class _Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")


def break_steps(steps: set[int], where: str) -> None:
    """Let the loss of some steps be faulty on the last rank."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    compute = loop.Trainer._loss

    def faulty(self, batch, labels):
        loss = compute(self, batch, labels)
        if self.state.step not in steps or rank != world - 1:
            return loss
        return loss * float("nan") if where == "loss" else _Poison.apply(loss)

    loop.Trainer._loss = faulty


if __name__ == "__main__":
    break_steps({int(step) for step in sys.argv[2].split(",")}, sys.argv[3])
    code = main()
    sys.stderr.flush()
    os._exit(code)
