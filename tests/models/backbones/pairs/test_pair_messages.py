"""Messages along pairs equal sums over single pairs, in value and gradient, for any size of the pieces."""

from __future__ import annotations

import pytest
import torch

from mmgnn_dist.models.backbones.pairs import pair_messages
from mmgnn_dist.models.backbones.pairs.painn_messages import exchange_vectors
from mmgnn_dist.models.backbones.pairs.pair_messages import exchange
from mmgnn_dist.models.graph import Graph

FIRST, SECOND = torch.tensor([1, 2, 2, 4]), torch.tensor([0, 0, 1, 3])
GRAPH = Graph.make(torch.ones(5), torch.zeros(5, 3), torch.tensor([0, 3, 5]))
BOTH = [*zip(range(4), FIRST.tolist(), SECOND.tolist(), [1.0] * 4, strict=True)]
BOTH += [(p, j, i, -1.0) for p, i, j, _ in BOTH]  # pair, receiver, sender, sign of the direction


@pytest.fixture(autouse=True, params=[1, 2**17], ids=["pair by pair", "at once"])
def piece(request, monkeypatch):
    monkeypatch.setattr(pair_messages, "PIECE", request.param)


def test_scalars():
    torch.manual_seed(0)
    source, weight = torch.randn(5, 3).double(), torch.randn(4, 3).double()
    expected = torch.zeros_like(source)
    for p, to, sender, _ in BOTH:
        expected[to] += source[sender] * weight[p]
    torch.testing.assert_close(exchange(source, weight, FIRST, SECOND), expected)
    assert torch.autograd.gradcheck(
        exchange, (source.requires_grad_(), weight.requires_grad_(), FIRST, SECOND)
    )


def test_scalars_and_vectors():
    torch.manual_seed(0)
    context, v = torch.randn(5, 6).double(), torch.randn(5, 3, 2).double()
    weight, unit = torch.randn(4, 6).double(), torch.randn(4, 3, 1).double()
    scalars, vectors = torch.zeros(5, 2).double(), torch.zeros(5, 3, 2).double()
    for p, to, sender, sign in BOTH:
        a_ss, a_sv, a_vv = (context[sender] * weight[p]).chunk(3)
        scalars[to] += a_ss
        vectors[to] += a_sv * sign * unit[p] + a_vv * v[sender]
    found = exchange_vectors(context, v, weight, unit, FIRST, SECOND, GRAPH)
    torch.testing.assert_close(found, (scalars, vectors))
    inputs = [x.requires_grad_() for x in (context, v, weight, unit)]
    assert torch.autograd.gradcheck(exchange_vectors, (*inputs, FIRST, SECOND, GRAPH), fast_mode=True)
    unit.requires_grad_(False)
    assert torch.autograd.gradcheck(
        exchange_vectors, (*inputs[:3], unit, FIRST, SECOND, GRAPH), fast_mode=True
    )


@pytest.mark.parametrize("atoms", [1, 2])
def test_no_pairs(atoms):
    none = torch.empty(0, dtype=torch.int64)
    source, weight = torch.randn(atoms, 3, requires_grad=True), torch.randn(0, 3, requires_grad=True)
    out = exchange(source, weight, none, none)
    out.sum().backward()
    assert not out.any() and not source.grad.any() and weight.grad.shape == (0, 3)
