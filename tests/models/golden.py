"""Reference values made with the authors' code: weights, molecules, inputs and outputs, in float64."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmgnn_dist.models.graph import Graph


class Golden:
    """One case: `weights` and `io` under the authors' names, the 24 molecules as a graph."""

    def __init__(self, shared: Path, case: str) -> None:
        folder = shared / "data" / "golden"
        self.weights = load_file(folder / f"{case}.safetensors")
        self.io = load_file(folder / f"{case}_io.safetensors")
        molecules = load_file(folder / "molecules.safetensors")
        self.z, self.ptr = molecules["z"], molecules["ptr"]
        self.pos = molecules["pos"].requires_grad_()
        self.graph = Graph.make(self.z, self.pos, self.ptr)

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def atoms(self, b: int) -> slice:
        """Atoms of molecule b."""
        return slice(int(self.ptr[b]), int(self.ptr[b + 1]))

    def alone(self, b: int) -> Graph:
        """Molecule b by itself; its positions are part of `pos`."""
        at = self.atoms(b)
        return Graph.make(self.z[at], self.pos[at], torch.tensor([0, at.stop - at.start]))


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest deviation over the largest expected value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found.detach() - expected).abs().max() / expected.abs().max())
