"""What every backbone gives.

A backbone reads the atoms of a batch and gives one vector per atom, [N, H], unchanged by rotation and
translation of a molecule, by the order of its atoms and by its companions in the batch. Where the
architecture carries vectors, `features` gives them too: they turn with the molecule. Everything before a
target's own read-out belongs to the backbone, the authors' heads do not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from mmgnn_dist.models.graph import Graph

ELEMENTS = 119  # atomic numbers 0 (unused) to 118


@dataclass
class AtomFeatures:
    """What a backbone knows about the atoms of a batch.

    Attributes:
        scalars: [N, H].
        vectors: [N, 3, V] (x, y, z before channels), None where the architecture has none.
    """

    scalars: Tensor
    vectors: Tensor | None = None


class Backbone(nn.Module, ABC):
    """Batch -> atom vectors.

    Attributes:
        width: H, of the atom vectors.
        vector_width: V, number of vectors of an atom.
    """

    width: int
    vector_width: int = 0

    @abstractmethod
    def features(self, graph: Graph) -> AtomFeatures:
        """All features of the atoms; positions in Å."""

    def forward(self, graph: Graph) -> Tensor:
        """Atom vectors [N, H]."""
        return self.features(graph).scalars
