"""A batch of molecules as torch tensors: packed atoms, targets, packed tokens, physical context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Pairs of atoms of one molecule that are closer than a cutoff, found before the step.

    Attributes:
        cutoff: cutoff in Å, exclusive.
        directed: whether every pair stands in both directions.
        i: first atom of each pair, int64 [P].
        j: second atom of each pair, int64 [P].
        most: largest number of pairs whose first atom is the same.
    """

    cutoff: float
    directed: bool
    i: torch.Tensor
    j: torch.Tensor
    most: int


@dataclass(slots=True)
class Batch:
    """B molecules with N atoms and K tokens in all.

    The tensors are views of a larger window of the loader: clone tensors that must outlive the epoch.

    Attributes:
        rows: global rows in the shard set, int64 [B].
        z: atomic numbers, int64 [N].
        pos: positions in Å, float32 [N, 3].
        ptr: first atom of each molecule and the end, int64 [B + 1].
        y: targets in canonical units, float64 [B, T], 0 where missing (energies near -1e4 eV need float64).
        y_mask: which targets are known, bool [B, T].
        tokens: special tokens and text of each molecule, int64 [K]; none for a molecule without text.
        token_ptr: first token of each molecule and the end, int64 [B + 1].
        context: numeric text fields (`CONTEXT_FIELDS`), raw, float32 [B, 6], 0 where missing.
        context_mask: which of them are known, bool [B, 6].
        charge: total charge in e, int64 [B]; None if all molecules of the set are neutral singlets.
        multiplicity: spin multiplicity, int64 [B]; None as `charge`.
        neighbours: pairs of atoms; None if the backbone searches them itself.
    """

    rows: torch.Tensor
    z: torch.Tensor
    pos: torch.Tensor
    ptr: torch.Tensor
    y: torch.Tensor
    y_mask: torch.Tensor
    tokens: torch.Tensor
    token_ptr: torch.Tensor
    context: torch.Tensor
    context_mask: torch.Tensor
    charge: torch.Tensor | None = None
    multiplicity: torch.Tensor | None = None
    neighbours: Neighbours | None = None

    @property
    def size(self) -> int:
        """Number of molecules."""
        return self.rows.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pinned(self) -> Batch:
        """Return the batch in memory from which a GPU copies while the host goes on."""
        return self._moved(torch.Tensor.pin_memory)

    def cloned(self) -> Batch:
        """Return the batch with memory of its own, which outlives the epoch."""
        return self._moved(torch.Tensor.clone)

    def _moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        found = self.neighbours
        if found is not None:
            found = replace(found, i=move(found.i), j=move(found.j))
        return Batch(**{name: move(tensor) for name, tensor in self.tensors().items()}, neighbours=found)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that the loader has read, by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in named if isinstance(tensor, torch.Tensor)}
