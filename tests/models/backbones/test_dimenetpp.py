"""DimeNet++: the suite of all backbones, PyG's module with copied weights, the angle, published sizes."""

from __future__ import annotations

import pytest
import sympy
import torch
from backbone_suite import BackboneSuite, assert_near
from golden import BlockHeads, WithHead, compare, dimenet_mapping
from model_batches import real_molecules
from scipy.special import spherical_jn
from torch_geometric.nn.models import dimenet, dimenet_utils
from triplet_form import cosines, legendre, spherical_basis

from mmgnn_dist.config import DimeNetPPConfig
from mmgnn_dist.models.backbones.angular_density import neighbour_sums
from mmgnn_dist.models.backbones.dimenetpp import DimeNetPP, SphericalWaves
from mmgnn_dist.models.backbones.radial import bessel_zeros, spherical_bessel
from mmgnn_dist.models.graph import Graph, edge_vectors, edges_within, triplets

SMALL = DimeNetPPConfig(hidden=32, triplet=32, basis=32, output=32, blocks=2, radial=2, spherical=3)


class TestDimeNetPP(BackboneSuite):
    config = DimeNetPPConfig(hidden=32, triplet=16, output=32, blocks=2)
    published = DimeNetPPConfig()

    @pytest.mark.slow
    def test_overfits_sixteen_molecules(self):
        super().test_overfits_sixteen_molecules()


class ExactBessel(torch.autograd.Function):
    """j_l of scipy with its derivative."""

    @staticmethod
    def forward(ctx, order, x):
        ctx.save_for_backward(torch.from_numpy(spherical_jn(order, x.detach().numpy(), derivative=True)))
        return torch.from_numpy(spherical_jn(order, x.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient * ctx.saved_tensors[0]


def pyg(config: DimeNetPPConfig) -> dimenet.DimeNetPlusPlus:
    return dimenet.DimeNetPlusPlus(
        hidden_channels=config.hidden,
        out_channels=1,
        num_blocks=config.blocks,
        cutoff=config.cutoff,
        int_emb_size=config.triplet,
        basis_emb_size=config.basis,
        out_emb_channels=config.output,
        num_spherical=config.spherical,
        num_radial=config.radial,
    )


def without_sympy(monkeypatch) -> None:
    """PyG works out its basis for a good while, which is of no use where another takes its place."""
    monkeypatch.setattr(dimenet_utils, "bessel_basis", lambda n, k: [[sympy.S(0)] * k for _ in range(n)])


@pytest.mark.parametrize("config", [TestDimeNetPP.config, SMALL], ids=["published basis", "small basis"])
def test_equals_pyg_with_copied_weights(double, monkeypatch, config):
    """PyG's blocks on our edges and triplets, with scipy's basis for its own of 24 bits: every gradient."""
    without_sympy(monkeypatch)
    torch.manual_seed(2)
    reference = pyg(config).double()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    graph = real_molecules(6, torch.float64)
    i, j = edges_within(graph, config.cutoff)
    kj, ji = triplets(i, j, len(graph.z))
    monkeypatch.setattr(dimenet, "radius_graph", lambda *_, **__: torch.stack([j, i]))
    monkeypatch.setattr(dimenet, "triplets", lambda *_, **__: (i, j, i[ji], j[ji], j[kj], kj, ji))

    zeros = bessel_zeros(config.spherical, config.radial).tolist()
    reference.sbf.bessel_funcs = [
        lambda x, order=order, zero=zero: (
            2**0.5 / abs(spherical_jn(order + 1, zero)) * ExactBessel.apply(order, zero * x)
        )
        for order, row in enumerate(zeros)
        for zero in row
    ]
    body = DimeNetPP(config)
    model = WithHead(body, BlockHeads(config.output, config.blocks + 1), body.output_vectors)
    graph.pos.requires_grad_()
    compare(
        model,
        reference,
        dimenet_mapping(config.blocks),
        graph,
        lambda: reference(graph.z, graph.pos, graph.molecule).squeeze(-1),
    )


def test_angle_is_that_of_the_authors():
    """R1 = R_j - R_i and R2 = R_k - R_j, as in the authors' TensorFlow code: pi minus the bond angle."""
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.5, 0.8, 0.3]]).double()
    graph = Graph.make(torch.tensor([1, 8, 1]), pos, torch.tensor([0, 3]))
    i, j = edges_within(graph, 5.0)
    kj, ji = triplets(i, j, 3)
    vector = edge_vectors(graph, i, j)
    found = torch.acos(cosines(vector / vector.norm(dim=-1, keepdim=True), kj, ji))
    for place, (a, b, c) in enumerate(zip(i[ji], j[ji], j[kj], strict=True)):
        first, second = pos[b] - pos[a], pos[c] - pos[b]
        angle = torch.atan2(torch.linalg.cross(first, second).norm(), first @ second)
        arms = pos[a] - pos[b], pos[c] - pos[b]
        bond = torch.acos(arms[0] @ arms[1] / arms[0].norm() / arms[1].norm())
        torch.testing.assert_close(found[place], angle, rtol=1e-12, atol=0)
        torch.testing.assert_close(found[place], torch.pi - bond, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", range(9))
def test_spherical_bessel_functions(order):
    """Against scipy, in both types, and against the derivative's recurrence."""
    x = torch.linspace(1e-4, 40.0, 5001, dtype=torch.float64, requires_grad=True)
    found = spherical_bessel(order, x)
    expected = torch.from_numpy(spherical_jn(order, x.detach().numpy()))
    torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-15)
    slope = torch.from_numpy(spherical_jn(order, x.detach().numpy(), derivative=True))
    gradient = torch.autograd.grad(found.sum(), x)[0]
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-14)
    single = spherical_bessel(order, x.detach().float()).double()
    exact = torch.from_numpy(spherical_jn(order, x.detach().float().double().numpy()))
    torch.testing.assert_close(single, exact, rtol=0, atol=5e-7)


def test_zeros_are_zeros_and_none_is_left_out():
    zeros = bessel_zeros(8, 6)
    for order, row in enumerate(zeros):
        assert float(spherical_bessel(order, row).abs().max()) < 1e-15
        fine = torch.linspace(0.5, float(row[-1]) + 0.5, 20000, dtype=torch.float64)
        signs = torch.sign(spherical_bessel(order, fine))
        assert int((signs[1:] != signs[:-1]).sum()) == len(row)


@pytest.mark.parametrize("orders", [1, 3, 7, 12])
def test_densities_equal_the_sum_over_triplets(orders):
    """In value and gradient, with straight chains, a lone atom and a molecule of two."""
    torch.manual_seed(0)
    real = real_molecules(3, torch.float64)
    line = torch.tensor(
        [[0.0, 0, 0], [0, 0, 1.2], [0, 0, 2.4], [9, 9, 9], [0, 0, 0], [0.6, 0.4, 0.7]]
    ).double()
    ptr = torch.cat([real.ptr, int(real.ptr[-1]) + torch.tensor([3, 4, 6])])
    pos = torch.cat([real.pos, line]).requires_grad_()
    graph = Graph.make(torch.ones(len(pos), dtype=torch.int64), pos, ptr)
    i, j = edges_within(graph, 4.0)
    kj, ji = triplets(i, j, len(pos))
    waves = SphericalWaves(orders, 4).double()
    sent = torch.randn(len(i), 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(orders, 4, 5, dtype=torch.float64, requires_grad=True)
    sums = []
    for densities in (True, False):
        vector = edge_vectors(graph, i, j)
        distance = vector.norm(dim=-1)
        unit, radial = vector / distance.unsqueeze(-1), waves(distance / 4.0)
        if densities:
            heard = neighbour_sums(i, j, unit, radial, graph, 5).chains(sent, weights)
        else:
            basis = spherical_basis(radial, cosines(unit, kj, ji), kj) @ weights.flatten(0, 1)
            heard = torch.zeros_like(sent).index_add(0, ji, sent.index_select(0, kj) * basis)
        loss = (heard * torch.linspace(-1, 1, 5, dtype=torch.float64)).sin().sum()
        sums.append([heard, *torch.autograd.grad(loss, [pos, sent, weights])])
    for found, expected in zip(*sums, strict=True):
        assert_near(found, expected, 1e-10)


def test_legendre_polynomials():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    found = legendre(4, x)
    expected = [torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2]
    torch.testing.assert_close(found, torch.stack(expected, -1))
    assert legendre(1, x).shape == (11, 1)


def test_an_atom_alone_does_not_know_its_element():
    """As in the published architecture, where elements enter through edges only; the references know it."""
    model = DimeNetPP(SMALL)
    z, ptr = torch.tensor([1, 8]), torch.tensor([0, 1, 2])
    h = model(Graph.make(z, torch.zeros(2, 3), ptr))
    assert torch.equal(h[0], h[1])


def test_parameters_of_the_published_settings(monkeypatch):
    """46,818 in the paper's table for its setting with one value a molecule; PyG's count for the authors'.

    Ours has 119 elements for their 95, and not the last layer of each output block, which is a head.
    """
    without_sympy(monkeypatch)
    for config in (SMALL, DimeNetPPConfig()):
        count = sum(p.numel() for p in DimeNetPP(config).parameters())
        theirs = count - (119 - 95) * config.hidden + (config.blocks + 1) * config.output
        assert theirs == sum(p.numel() for p in pyg(config).parameters())
        assert theirs == {32: 46_818, 128: 1_885_830}[config.hidden]
