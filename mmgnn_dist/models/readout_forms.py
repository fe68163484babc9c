"""What read-outs make of atom values: averages by attention, dipoles and spatial extents of charges.

Shapes: `N` atoms, `B` molecules, `K` values of an atom. All forms are unchanged by rotation and translation
of a molecule, by the order of its atoms and by its companions in the batch.
"""

from __future__ import annotations

from torch import Tensor

from mmgnn_dist.models.graph import Graph, sum_molecules

TINY = 1e-8  # keeps the norm of a vanishing dipole differentiable


def attention_weights(scores: Tensor, graph: Graph) -> Tensor:
    """Softmax of atom scores [N, K] over the atoms of each molecule: weights [N, K] with sum 1.

    Attention pooling as in Ilse, Tomczak, Welling 2018 (arXiv 1802.04712), eq. 7 and 8.
    """
    index = graph.molecule.unsqueeze(-1).expand_as(scores)
    lowest = scores.new_full((graph.size, scores.shape[-1]), float("-inf"))
    # the largest score goes first, so that nothing overflows; softmax does not change with it
    largest = lowest.scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - largest.index_select(0, graph.molecule)).exp()
    return weights / sum_molecules(weights, graph).index_select(0, graph.molecule)


def dipole_norms(charges: Tensor, graph: Graph, moments: Tensor | None = None) -> Tensor:
    """Norms of the dipoles of charges, made neutral in every molecule: [B, K], charge times Å.

    Neutral charges as in PhysNet, Unke and Meuwly 2019 (arXiv 1902.08408): the origin is of no matter.

    Args:
        charges: [N, K].
        graph: the batch.
        moments: dipoles of the atoms themselves [N, K, 3] that are added, as PaiNN does.
    """
    counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
    mean = sum_molecules(charges, graph) / counts
    neutral = charges - mean.index_select(0, graph.molecule)
    products = neutral.unsqueeze(-1) * graph.pos.unsqueeze(1)
    if moments is not None:
        products = products + moments
    vectors = sum_molecules(products.flatten(1), graph).unflatten(1, (-1, 3))
    return (vectors.square().sum(-1) + TINY).sqrt()


def squared_distances(graph: Graph, masses: Tensor) -> Tensor:
    """|r_i - r_c|^2 of each atom, r_c the centre of mass of its molecule: [N, 1] in Å^2.

    Args:
        graph: the batch.
        masses: of the elements, by atomic number [119].
    """
    mass = masses[graph.z].unsqueeze(-1)
    centre = sum_molecules(mass * graph.pos, graph) / sum_molecules(mass, graph)
    return (graph.pos - centre.index_select(0, graph.molecule)).square().sum(-1, keepdim=True)
