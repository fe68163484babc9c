"""The base class of all backbones.

A backbone reads the atoms of a batch and returns one vector per atom, [N, H]. The vectors do not depend on
the rotation or translation of a molecule, on the order of its atoms, or on the other molecules of the batch.
If the architecture has equivariant vectors, `features` returns them too: they rotate with the molecule. The
backbone ends before the read-out of a target; the heads of the published architectures are not part of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmgnn_dist.models.backbones.state_embedding import StateEmbedding
from mmgnn_dist.models.graph import Graph

ELEMENTS = 119  # atomic numbers 0 (unused) to 118


@dataclass
class AtomFeatures:
    """Features of the atoms of a batch, as a backbone computes them.

    Attributes:
        scalars: invariant features [N, H].
        vectors: equivariant features [N, 3, V] (x, y, z before channels); None if the architecture has none.
    """

    scalars: Tensor
    vectors: Tensor | None = None


class Backbone(nn.Module, ABC):
    """Base class of a backbone: batch -> atom vectors.

    Attributes:
        config: settings of the architecture.
        width: H, the width of the atom vectors.
        vector_width: V, the number of equivariant vectors per atom.
        tabulated: whether radial functions may be tabulated (`radial_table.py`); training turns it on.
        start_width: width of the vectors of the elements, to which `with_state` adds; 0 if the backbone does
            not call it.
        directed: whether the backbone reads `edges_within` (True) or `pairs_within` (False) of its
            `config.cutoff`, which are then found before the step; None: neither.
        state: embedding of charge and multiplicity; None if all molecules are neutral singlets.
    """

    width: int
    vector_width: int = 0
    tabulated: bool = False
    start_width: int = 0
    directed: bool | None = None
    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.state: StateEmbedding | None = None

    def with_state(self, elements: Tensor, graph: Graph) -> Tensor:
        """Add charge and multiplicity to the vectors of the elements, [N, start_width]."""
        if self.state is None or graph.charge is None or graph.multiplicity is None:
            return elements
        return elements + self.state(graph.charge, graph.multiplicity, graph)

    @abstractmethod
    def features(self, graph: Graph) -> AtomFeatures:
        """Compute all features of the atoms; positions in Å."""

    def table_error(self) -> float:
        """Measure the largest relative error of tabulated radial functions; 0 if the backbone has none."""
        return 0.0

    def forward(self, graph: Graph) -> Tensor:
        """Compute atom vectors [N, H]."""
        return self.features(graph).scalars
