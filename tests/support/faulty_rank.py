"""A rank of a run with a fault put in, started as any rank with the words RUN STEPS WHERE.

In the named steps (comma-separated, from 0 on) the loss of the last rank is NaN (`loss`), or finite with
a gradient that is not (`gradient`), or of which the norm alone is beyond float32 (`norm`), or the rank gets
no further (`hang`).
"""

from __future__ import annotations

import os
import sys
import time

import torch

import mmgnn_dist.train.loop as loop
from mmgnn_dist.train import run


class _Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def break_steps(steps: set[int], where: str) -> None:
    """Let some steps be faulty on the last rank."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    compute = loop.Trainer._loss

    def faulty(self, batch, labels):
        loss = compute(self, batch, labels)
        if self.state.step not in steps or rank != world - 1:
            return loss
        if where == "hang":
            time.sleep(600)
        if where == "loss":
            return loss * float("nan")
        return _Poison.apply(loss, 1e25 if where == "norm" else float("inf"))

    loop.Trainer._loss = faulty


def main() -> int:
    """Train with the fault."""
    break_steps({int(step) for step in sys.argv[2].split(",")}, sys.argv[3])
    return run.main()
