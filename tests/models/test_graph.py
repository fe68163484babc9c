"""Pairs, edges and triplets against brute force."""

from __future__ import annotations

import pytest
import torch
from model_batches import random_molecules, real_molecules

from mmgnn_dist.models.graph import Graph, edges_within, pairs_within, triplets


def brute_force(pos: torch.Tensor, ptr: torch.Tensor, cutoff: float) -> dict[tuple[int, int], float]:
    found = {}
    for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        for i in range(first, last):
            for j in range(first, i):
                distance = float(torch.dist(pos[i], pos[j]))
                if distance < cutoff:
                    found[i, j] = distance
    return found


@pytest.mark.parametrize("sizes", [[5, 1, 9, 2], [1], [40, 3]])
def test_pairs_equal_brute_force(sizes):
    z, pos, ptr = random_molecules(sizes)
    i, j, distance = pairs_within(Graph.make(z, pos, ptr), 4.0)
    found = {(a, b): d for a, b, d in zip(i.tolist(), j.tolist(), distance.tolist(), strict=True)}
    expected = brute_force(pos, ptr, 4.0)
    assert found.keys() == expected.keys() and len(i) == len(expected)
    assert all(abs(found[key] - expected[key]) < 1e-12 for key in expected)


def test_no_cap_on_neighbours():
    pos = torch.rand(200, 3, dtype=torch.float64)
    i, _, _ = pairs_within(Graph.make(torch.ones(200), pos, torch.tensor([0, 200])), 5.0)
    assert len(i) == 200 * 199 // 2


SIZES = pytest.mark.parametrize("sizes", [[5, 1, 9, 2], [1], [1, 1], [2], [23, 3]])


@SIZES
def test_edges_are_the_pairs_in_both_directions(sizes):
    z, pos, ptr = random_molecules(sizes)
    i, j = edges_within(Graph.make(z, pos, ptr), 4.0)
    pairs = brute_force(pos, ptr, 4.0)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == sorted([*pairs, *((b, a) for a, b in pairs)])


@SIZES
def test_triplets_equal_brute_force(sizes):
    z, pos, ptr = random_molecules(sizes)
    i, j = edges_within(Graph.make(z, pos, ptr), 4.0)
    kj, ji = triplets(i, j, len(z))
    edges = list(zip(j.tolist(), i.tolist(), strict=True))  # source, receiver
    expected = [
        (b, a) for a, (j1, i1) in enumerate(edges) for b, (k, j2) in enumerate(edges) if j2 == j1 and k != i1
    ]
    assert list(zip(kj.tolist(), ji.tolist(), strict=True)) == expected


def test_triplets_of_real_molecules_are_all_there():
    """Without a cap an atom that hears n others gives n - 1 chains to each edge that leaves it."""
    graph = real_molecules(12, torch.float64)
    i, j = edges_within(graph, 5.0)
    kj, ji = triplets(i, j, len(graph.z))
    heard = torch.bincount(i, minlength=len(graph.z))
    assert len(kj) == int((heard * (heard - 1)).sum())
    assert torch.equal(i[kj], j[ji]) and not (j[kj] == i[ji]).any()
