"""Read-out and scale: fused atom vectors -> targets in their units.

The read-out follows the physics of the target: extensive targets are sums of atom contributions, others
their mean, and the dipole moment has the norm of a dipole of atom charges q beside its mean,

    mu = mean_i s_i + |sum_i (q_i - mean q) r_i|

(neutral atom charges as in PhysNet, Unke and Meuwly 2019, arXiv 1902.08408; the origin is then of no matter).
It works in scaled units; `Scaler` holds what was fitted on the training part and turns them into units:

    extensive   y = std * s + sum_i reference[z_i]         (reference: least squares on composition)
    others      y = std * s + mean

in float64: total energies near -1e4 eV leave float32 no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.models.graph import Graph, sum_molecules

TINY = 1e-8  # keeps the norm of a vanishing dipole differentiable


class ReadOut(nn.Module):
    """Fused atom vectors [N, H] -> scaled targets [B, T].

    Args:
        width: H.
        kinds: one a target: extensive, dipole, or another, which takes the mean.
        dropout: between the layers.
    """

    extensive: Tensor

    def __init__(self, width: int, kinds: list[str], dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout))
        self.contribution = nn.Linear(width, len(kinds))
        nn.init.zeros_(self.contribution.weight)  # start from what references and means predict
        nn.init.zeros_(self.contribution.bias)
        self.register_buffer("extensive", torch.tensor([k == "extensive" for k in kinds]), persistent=False)
        self.dipoles = [place for place, kind in enumerate(kinds) if kind == "dipole"]
        if self.dipoles:
            # not zero: the norm has no gradient where every charge vanishes
            self.charge = nn.Linear(width, len(self.dipoles))

    def forward(self, atoms: Tensor, graph: Graph) -> Tensor:
        """Scaled targets [B, T]."""
        hidden = self.hidden(atoms)
        total = sum_molecules(self.contribution(hidden), graph)
        counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
        out = torch.where(self.extensive, total, total / counts)
        for place, charges in zip(self.dipoles, self.charge(hidden).T if self.dipoles else (), strict=True):
            out = out.index_add(1, torch.tensor([place], device=out.device), _dipole(charges, graph, counts))
        return out


def _dipole(charges: Tensor, graph: Graph, counts: Tensor) -> Tensor:
    """Norm of the dipole of atom charges [N], made neutral in every molecule: [B, 1]."""
    mean = sum_molecules(charges.unsqueeze(-1), graph) / counts
    neutral = charges.unsqueeze(-1) - mean[graph.molecule]
    vector = sum_molecules(neutral * graph.pos, graph)
    return (vector.square().sum(-1, keepdim=True) + TINY).sqrt()


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
