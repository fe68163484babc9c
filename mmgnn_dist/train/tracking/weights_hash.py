"""A 64-bit hash of all trained weights, equal for equal bits at any number of ranks and any ZeRO stage.

The bytes of all trained parameters, in the order of their names, form a table of 64-bit words with
`COLUMNS` columns; every parameter begins a row. The hash is the sum of the words, modulo 2^64, each times a
constant of its column plus a constant of its row, so that no word may change and no two may change places
unnoticed. It needs the sums of rows and columns only: two readings of the weights at the speed of the
memory, and no copy.

A sum can be taken in parts. At ZeRO stage 3 every rank adds up the parts that it holds, and the sum over
ranks is the hash of the whole. At stages 0 to 2 every rank has all weights; each hashes its own copy, and
the ranks find out whether the copies are equal. The hash tells accidents, not forgeries, as anybody can
compute it.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from torch import Tensor, nn

from mmgnn_dist.models.zero3 import count, is_sharded, local_shard
from mmgnn_dist.train.ranks import Ranks

COLUMNS = 1024
WORD = 8  # bytes
ROW = COLUMNS * WORD
SMALL = 64 * ROW  # bytes below which parts are first copied together: one addition for all of them


class WeightsHash:
    """Hashes the trained weights of a model; all ranks call it together.

    Args:
        model: the model, sharded or not.
        ranks: this process among all ranks.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._ranks, self._sharded = ranks, is_sharded(model)
        named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
        layout = [
            (name, list(getattr(p, "ds_shape", p.shape)), str(local_shard(p).dtype)) for name, p in named
        ]
        digest = hashlib.blake2b(json.dumps(layout).encode(), digest_size=WORD).digest()
        self._layout = int.from_bytes(digest, "little")
        self._small: list[tuple[nn.Parameter, int, int]] = []  # parameter, bytes, place in the buffer
        self._large: list[tuple[nn.Parameter, int, int]] = []  # parameter, bytes, first byte in the table
        small_rows: list[np.ndarray] = []
        begin = place = 0
        for _, parameter in named:
            part, offset = local_shard(parameter), 0
            whole = count(parameter) * part.element_size()
            if self._sharded:
                offset = ranks.rank * part.numel() * part.element_size()
            size = max(0, min(part.numel() * part.element_size(), whole - offset))  # the rest is padding
            if 0 < size < SMALL:
                first, inside = divmod(begin + offset, ROW)
                rows = -(-(inside + size) // ROW)
                self._small.append((parameter, size, place + inside))
                small_rows.append(np.arange(first, first + rows))
                place += rows * ROW
            elif size:
                self._large.append((parameter, size, begin + offset))
            begin += -(-whole // ROW) * ROW
        self._device = local_shard(named[0][1]).device if named else ranks.device
        self._columns = self._constants(np.arange(COLUMNS))
        self._rows = self._constants(COLUMNS + np.arange(begin // ROW))
        at = np.concatenate(small_rows) if small_rows else np.zeros(0, np.int64)
        self._small_rows = self._rows[torch.from_numpy(at).to(self._device)]
        self._buffer = torch.zeros(place, dtype=torch.uint8, device=self._device)

    def _constants(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(splitmix64(numbers).view(np.int64)).to(self._device)

    @torch.no_grad()
    def begin(self) -> Tensor:
        """Hash the weights as they are now.

        Returns:
            What `finish` takes, int64 [2] on the device: nothing waits for the device here.
        """
        total = self._columns.new_zeros(())
        for parameter, size, place in self._small:
            self._buffer[place : place + size] = _bytes_of(parameter)[:size]
        if self._small:
            total += self._weighted(self._buffer, self._small_rows)
        for parameter, size, first in self._large:
            row, inside = divmod(first, ROW)
            words = _bytes_of(parameter)[:size]
            if inside or size % WORD or words.data_ptr() % WORD or words.storage_offset() % WORD:
                ahead = words.new_zeros(inside)
                words = torch.cat([ahead, words, words.new_zeros(-(inside + size) % WORD)])
            total += self._weighted(words, self._rows[row : row + -(-len(words) // ROW)])
        own = total.to(self._ranks.device)
        first_copy = own if self._sharded or self._ranks.is_rank0 else torch.zeros_like(own)
        return self._ranks.all_reduce_sum(torch.stack([first_copy, own]))

    def finish(self, sums: Tensor) -> tuple[str, bool]:
        """Return the hash as 16 hexadecimal digits, and whether the copies of all ranks are equal."""
        found, of_all = (int(value) for value in sums.cpu())
        copies = 1 if self._sharded else self._ranks.world
        same = (found * copies - of_all) % 2**64 == 0
        return f"{(found + self._layout) % 2**64:016x}", same

    def _weighted(self, content: Tensor, rows: Tensor) -> Tensor:
        words = content.view(torch.int64)
        whole = len(words) // COLUMNS
        table, rest = words[: whole * COLUMNS].view(whole, COLUMNS), words[whole * COLUMNS :]
        columns = table.sum(0)
        total = (table.sum(1) * rows[:whole]).sum()
        if len(rest):
            columns[: len(rest)] += rest
            total += rest.sum() * rows[whole]
        return total + (columns * self._columns).sum()


def _bytes_of(parameter: nn.Parameter) -> Tensor:
    return local_shard(parameter).reshape(-1).view(torch.uint8)


def splitmix64(numbers: np.ndarray) -> np.ndarray:
    """Numbers of SplitMix64 (Steele, Lea and Flood 2014) with seed 0 by place, int64 [N] to uint64 [N]."""
    z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
