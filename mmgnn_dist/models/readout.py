"""Read-out and scale: fused atom vectors -> targets in their units.

The read-out sums atom contributions for extensive targets and takes their mean for the others. It works
in scaled units; `Scaler` holds what was fitted on the training part and turns scaled values into units:

    extensive   y = std * s + sum_i reference[z_i]         (reference: least squares on composition)
    others      y = std * s + mean

It computes in float64: total energies near -1e4 eV leave float32 no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.models.graph import Graph, sum_molecules


class ReadOut(nn.Module):
    """Fused atom vectors [N, H] -> scaled targets [B, T].

    Args:
        width: H.
        extensive: one flag a target.
        dropout: between the two layers.
    """

    extensive: Tensor

    def __init__(self, width: int, extensive: list[bool], dropout: float) -> None:
        super().__init__()
        last = nn.Linear(width, len(extensive))
        nn.init.zeros_(last.weight)  # start from what references and means predict
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), last)
        self.register_buffer("extensive", torch.tensor(extensive), persistent=False)

    def forward(self, atoms: Tensor, graph: Graph) -> Tensor:
        """Scaled targets [B, T]."""
        total = sum_molecules(self.layers(atoms), graph)
        counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
        return torch.where(self.extensive, total, total / counts)


@dataclass
class Scaler:
    """Scale, mean and atom references of T targets, float64.

    Attributes:
        std: [T]. mean: [T], zero for extensive targets. reference: [119, T], zero for the others.
    """

    std: Tensor
    mean: Tensor
    reference: Tensor

    def to(self, device: torch.device) -> Scaler:
        """Move to a device."""
        return Scaler(self.std.to(device), self.mean.to(device), self.reference.to(device))

    def offset(self, graph: Graph) -> Tensor:
        """What the model adds to: mean and summed references, float64 [B, T]."""
        return self.mean + sum_molecules(self.reference[graph.z], graph)

    def scaled(self, y: Tensor, graph: Graph) -> Tensor:
        """Targets in units, float64 [B, T] -> scaled, float32."""
        return ((y - self.offset(graph)) / self.std).float()

    def units(self, scaled: Tensor, graph: Graph) -> Tensor:
        """Scaled [B, T] -> targets in units, float64."""
        return scaled.double() * self.std + self.offset(graph)
