"""A step of stage 0 reads one value from the device: loss, flags and norm together."""

from __future__ import annotations

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from worlds import BASE

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train import run as entry
from mmgnn_dist.train.loop import Trainer

# operations by which the host waits for a GPU: they read a value, or need one for the size of their result
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal")


class Operations(TorchDispatchMode):
    """Counts operations, and reads of whole tensors by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("index", "index_put_") and torch.bool in {i.dtype for i in args[1] if i is not None}:
            name = "nonzero"  # masks become indices
        self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def test_host_reads_once_a_step(small_shards, tmp_path, monkeypatch):
    counts, reads = [], [0]  # reads before, within and after each step
    step, cpu = Trainer._step, torch.Tensor.cpu

    def counted(self, *words):
        reads.append(0)
        with Operations() as operations:
            stop = step(self, *words)
        counts.append(operations.counts)
        reads.append(0)
        return stop

    def read(self, *words):
        reads[-1:] = [n + 1 for n in reads[-1:]]
        return cpu(self, *words)

    monkeypatch.setattr(Trainer, "_step", counted)
    monkeypatch.setattr(torch.Tensor, "cpu", read)
    monkeypatch.setattr("mmgnn_dist.models.table_watch.WATCH_EVERY", 10**9)
    words = ["model.modality=graph", "train.max_steps=3", "train.epochs=9", "train.validate_every=9"]
    load_recipe(None, [*BASE, f"data.shards={small_shards}", *words]).save(tmp_path / "recipe.yaml")
    assert entry.run(tmp_path, quiet=True) == 0
    assert len(counts) == 3
    assert not {name: counts[-1][name] for name in WAITING if counts[-1][name]}
    assert reads[1::2] == [2, 1, 1]  # the first one also hashes the weights, as every hundredth does
