"""Molecules of a shard set for PyTorch Geometric: `Data`, a `Dataset`, and batches of the own loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data, Dataset

from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.errors import UserError, nearest


def to_pyg(shards: ShardSet, row: int, targets: Sequence[str] | None = None) -> Data:
    """Return one molecule of a shard set as PyG `Data`.

    Args:
        shards: the shard set.
        row: global row of the molecule.
        targets: names of the targets of `y`; None for all.

    Returns:
        `z` int64 [N], `pos` float32 [N, 3] in Å, `y` float64 [1, T] in the units of the set (NaN without a
        label), `charge` and `multiplicity` int64 [1], `id`, `smiles`, `inchikey` and the text fields. PyG
        collates no None: an absent text is "", an absent list empty, an absent number NaN.
    """
    number = int(np.searchsorted(shards.starts, row, side="right")) - 1
    shard, place = shards.shards[number], row - int(shards.starts[number])
    atoms = slice(int(shard.ptr[place]), int(shard.ptr[place + 1]))
    names = shards.targets if targets is None else targets
    chosen = [shards.targets.index(name) for name in names]
    data = Data(
        z=torch.from_numpy(shard.z[atoms].astype(np.int64)),
        pos=torch.from_numpy(shard.pos[atoms].copy()),
        y=torch.from_numpy(shard.y[place, chosen][None]),
        charge=torch.tensor([int(shard.charge[place])]),
        multiplicity=torch.tensor([int(shard.multiplicity[place])]),
    )
    for name in ("id", "smiles", "inchikey", *(f for f in shards.text_fields if f not in CONTEXT_FIELDS)):
        value = shard.table.column(name)[place].as_py()
        data[name] = value or ([] if name == "synonyms" else "")
    for name, value in zip(CONTEXT_FIELDS, shard.context[place].tolist(), strict=True):
        data[name] = value
    return data


class MoleculeDataset(Dataset):
    """The molecules of a shard set as a PyG data set: see `to_pyg` for what each has.

    Args:
        shards: path of the shard set.
        part: `train`, `val` or `test`; None for all molecules.
        split: name of the stored split.
        fold: fold of the split.
        targets: names of the targets of `y`; None for all.

    Attributes:
        shards: the opened shard set.
        rows: global rows of the molecules.
        targets: names of the targets of `y`; `shards.units` has their units.

    Raises:
        UserError: there is no such set, split, part or target.
    """

    def __init__(
        self,
        shards: str | Path,
        part: str | None = None,
        split: str = "random",
        fold: int = 0,
        targets: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.shards = ShardSet.open(Path(shards))
        self.targets = list(self.shards.targets if targets is None else targets)
        for name in self.targets:
            if name not in self.shards.targets:
                close = nearest(name, self.shards.targets)
                raise UserError(
                    f"unknown target '{name}'{close}: {shards} has {', '.join(self.shards.targets)}"
                )
        self.rows = np.arange(self.shards.rows)
        if part is not None:
            parts = load_split(self.shards, split, fold)
            if part not in parts:
                raise UserError(f"part '{part}': give one of {', '.join(parts)}, or None for all molecules")
            self.rows = parts[part]

    def len(self) -> int:
        """Return the number of molecules."""
        return len(self.rows)

    def get(self, idx: int) -> Data:
        """Return the molecule at a place of the data set."""
        return to_pyg(self.shards, int(self.rows[idx]), self.targets)

    def batches(self, size: int = 32, epoch: int = 0, seed: int = 0, shuffle: bool = True) -> Iterator[Batch]:
        """Yield the batches of an epoch from the loader of `mmgnn train`, which makes no object a molecule.

        The tensors are views of a larger window: clone those that must outlive the epoch.

        Args:
            size: molecules in a batch.
            epoch: number of the epoch; with the seed it decides the order.
            seed: seed of the order.
            shuffle: False keeps the order of the data set.
        """
        loader = Loader(self.shards, self.rows, self.targets, batch=size, seed=seed, shuffle=shuffle)
        for step in loader.epoch(epoch):
            yield from step.micro
