"""Frame averaging: coordinates of a molecule that do not change when the molecule rotates.

Puny et al.: "Frame Averaging for Invariant and Equivariant Network Design", ICLR 2022 (arXiv 2110.03336),
section 3.1; stochastic frames by Duval et al. 2023 (arXiv 2305.05577). The axes V of a molecule are the
principal axes of its atoms about their centroid, in descending order of the eigenvalues of X^T X. The sign of
each axis is arbitrary, so there are 8 frames x = (pos - centroid) V diag(s) over all signs s, reflections
included. The mean of any function over the 8 frames is invariant; a random frame is invariant in expectation.

If two eigenvalues are equal (symmetric tops such as CH4 or benzene; linear molecules; single atoms), the
axes within their plane are arbitrary. The code uses the axes that `eigh` returns: they are always finite,
but the mean over frames of a symmetric top depends on its orientation. 88 of 73,541 molecules of QM9 are
such tops. With fresh weights in float32, a rotation changes their atom vectors by 4e-5 (median) to 5e-2
(maximum) of the deviation of the vectors, since QM9's geometries are not symmetric to the last digit; it
changes those of an exactly tetrahedral CH4 by 0.3 (the tests print these). Linear molecules and single atoms
stay exactly invariant: their coordinates across the axis are zero in any frame.

Derivatives with respect to the positions include the axes, to first order, for every pair of eigenvalues
that differ by more than 1e-3 of the largest. For closer pairs the axes are held fixed, so that derivatives
stay finite.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from mmgnn_dist.models.graph import Graph, sum_molecules

GAP = 1e-3  # eigenvalues closer than this fraction of the largest count as equal


def axes(graph: Graph) -> tuple[Tensor, Tensor]:
    """Compute the centred positions and the principal axes of each molecule.

    Returns:
        centred: [N, 3] in Å.
        axes: [B, 3, 3], one axis per column, in descending order of the eigenvalues.
    """
    counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
    pos = graph.pos.double()  # the axes magnify rounding by the inverse of the gap
    centred = pos - (sum_molecules(pos, graph) / counts).index_select(0, graph.molecule)
    outer = (centred.unsqueeze(2) * centred.unsqueeze(1)).flatten(1)
    covariance = sum_molecules(outer, graph).unflatten(1, (3, 3))
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(-1), vectors.flip(-1)
        difference = values.unsqueeze(-2) - values.unsqueeze(-1)
        apart = difference.abs() > GAP * values[:, :1, None]
        inverse = torch.where(apart, 1 / difference, torch.zeros_like(difference))
    # first-order perturbation of eigenvectors: the value is `vectors`, the derivative is that of the axes.
    # The derivative of eigh itself divides by zero if eigenvalues are equal.
    change = vectors.mT @ (covariance - covariance.detach()) @ vectors
    return centred.to(graph.pos.dtype), (vectors + vectors @ (inverse * change)).to(graph.pos.dtype)


def signs(which: str, molecules: int, like: Tensor) -> Tensor:
    """Signs of the axes of each molecule, [F, B, 3], with the type and device of `like`.

    Args:
        which: `full` (F = 8, all signs) or `one` (F = 1, drawn per molecule from torch's generator).
        molecules: B.
        like: tensor that sets type and device.
    """
    if which == "full":
        every = torch.tensor(list(itertools.product([1.0, -1.0], repeat=3)), dtype=like.dtype)
        return every.to(like.device).unsqueeze(1).expand(-1, molecules, -1)
    return 2.0 * torch.randint(2, (1, molecules, 3), device=like.device).to(like.dtype) - 1.0


def in_frames(graph: Graph, which: str) -> Tensor:
    """Positions of the atoms in the frames of their molecule in Å, [F, N, 3]; `which` as in `signs`."""
    centred, columns = axes(graph)
    turned = (centred.unsqueeze(1) @ columns.index_select(0, graph.molecule)).squeeze(1)
    return turned * signs(which, graph.size, turned).index_select(1, graph.molecule)
