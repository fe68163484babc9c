"""Forms of read-outs from atom values: attention pooling, dipoles and spatial extents of charges.

Shapes: `N` atoms, `B` molecules, `K` values per atom. No form depends on the rotation or translation of a
molecule, on the order of its atoms, or on the other molecules of the batch.
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
    # subtract the largest score, so that nothing overflows; this does not change the softmax
    largest = lowest.scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - largest.index_select(0, graph.molecule)).exp()
    return weights / sum_molecules(weights, graph).index_select(0, graph.molecule)


def dipole_norms(
    charges: Tensor, graph: Graph, moments: Tensor | None = None, from_zero: bool = False
) -> Tensor:
    """Norms of the dipoles of atom charges: [B, K] in charge times Å.

    The charges of every molecule are shifted to sum to zero, as in PhysNet (Unke and Meuwly 2019, arXiv
    1902.08408), so the origin does not matter.

    Args:
        charges: atom charges [N, K].
        graph: the batch.
        moments: atomic dipoles [N, K, 3] that are added, as in PaiNN.
        from_zero: a vanishing dipole has the norm zero, not the root of `TINY`.
    """
    counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
    mean = sum_molecules(charges, graph) / counts
    neutral = charges - mean.index_select(0, graph.molecule)
    products = neutral.unsqueeze(-1) * graph.pos.unsqueeze(1)
    if moments is not None:
        products = products + moments
    vectors = sum_molecules(products.flatten(1), graph).unflatten(1, (-1, 3))
    squares = vectors.square().sum(-1)
    norms = (squares + TINY).sqrt()
    return squares / (norms + TINY**0.5) if from_zero else norms  # norms - TINY**0.5 without cancellation


def squared_distances(graph: Graph, masses: Tensor) -> Tensor:
    """Squared distance of each atom from the centre of mass of its molecule: [N, 1] in Å^2.

    Args:
        graph: the batch.
        masses: masses of the elements by atomic number [119].
    """
    mass = masses[graph.z].unsqueeze(-1)
    centre = sum_molecules(mass * graph.pos, graph) / sum_molecules(mass, graph)
    return (graph.pos - centre.index_select(0, graph.molecule)).square().sum(-1, keepdim=True)
