"""Learned embedding of the charge and the multiplicity of a molecule, the same for every backbone.

It is added to the vectors of the elements with which a backbone starts. The rows of charge 0 and of
multiplicity 1 are zero and stay zero, so that a neutral singlet is read as by a model without it; the other
rows start at zero. Neither depends on the geometry: the symmetries of the backbone hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgnn_dist.chem.states.electronic_state import MAX_CHARGE, MAX_MULTIPLICITY
from mmgnn_dist.models.graph import Graph


class StateEmbedding(nn.Module):
    """Embedding of charge and multiplicity: batch -> one vector per atom, [N, H].

    Args:
        width: H, the width of the vectors with which the backbone starts.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.charge = nn.Embedding(2 * MAX_CHARGE + 1, width, padding_idx=MAX_CHARGE)
        self.multiplicity = nn.Embedding(MAX_MULTIPLICITY, width, padding_idx=0)
        for table in (self.charge, self.multiplicity):
            nn.init.zeros_(table.weight)

    def forward(self, charge: Tensor, multiplicity: Tensor, graph: Graph) -> Tensor:
        """Embed charges [B] and multiplicities [B] and repeat them for the atoms of each molecule."""
        vectors = self.charge(charge + MAX_CHARGE) + self.multiplicity(multiplicity - 1)
        return torch.index_select(vectors, 0, graph.molecule)
