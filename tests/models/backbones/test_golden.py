"""Our backbones with the authors' weights against what the authors' own code gives, in float64."""

from __future__ import annotations

import pytest
import torch
from golden import (
    ATOMWISE,
    PYG_HEAD,
    PYG_SCHNET,
    SPK_SCHNET,
    Atomwise,
    BlockHeads,
    Golden,
    Mapping,
    WithHead,
    close,
    dimenet_mapping,
    linear,
    schnet_mapping,
)
from torch_geometric.nn.models.dimenet import SphericalBasisLayer
from torch_geometric.nn.models.schnet import ShiftedSoftplus
from triplet_form import cosines, spherical_basis

from mmgnn_dist.config import DimeNetPPConfig, PaiNNConfig, SchNetConfig
from mmgnn_dist.models.backbones.dimenetpp import DimeNetPP, SphericalWaves
from mmgnn_dist.models.backbones.painn import PaiNN
from mmgnn_dist.models.backbones.radial import bessel_zeros
from mmgnn_dist.models.backbones.schnet import SchNet
from mmgnn_dist.models.graph import edge_vectors, edges_within, triplets

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("double")]


@pytest.fixture
def golden(shared):
    return lambda name: Golden(shared / "data" / "golden", name)


def test_schnet_of_pyg(golden):
    case = golden("schnet_pyg")
    body = SchNet(SchNetConfig(hidden=32, filters=48, interactions=3, gaussians=25, cutoff=5.0))
    mapping = schnet_mapping(3, "", PYG_SCHNET) | PYG_HEAD
    model = WithHead(body, Atomwise(32, ShiftedSoftplus()), body)
    shared = tuple(f"interactions.{k}.conv.nn" for k in range(3))  # the filters again
    case.load(model, mapping, ("distance_expansion", *shared))
    close(body.smearing.offset, case.weights["distance_expansion.offset"], 1e-15)
    close(body(case.graph), case.io["h_atom"], 1e-9)
    case.check(model(case.graph), model, mapping)


def test_schnet_of_schnetpack(golden):
    case = golden("schnet_spk")
    body = SchNet(SchNetConfig(hidden=32, filters=48, interactions=3, gaussians=20, cutoff=5.0))
    mapping = schnet_mapping(3, "representation.", SPK_SCHNET) | ATOMWISE
    model = WithHead(body, Atomwise(32, torch.nn.SiLU()), body)
    case.load(model, mapping, ("representation.radial_basis", "representation.cutoff_fn"))
    close(body.smearing.offset, case.weights["representation.radial_basis.offsets"], 1e-15)
    close(body(case.graph), case.io["h_atom"], 1e-9)
    case.check(model(case.graph), model, mapping)


@pytest.mark.parametrize("name", ["painn", "painn_bessel"])
def test_painn_of_schnetpack(golden, name):
    case = golden(name)
    basis = "bessel" if name == "painn_bessel" else "gaussian"
    body = PaiNN(PaiNNConfig(hidden=32, interactions=3, basis=basis, radial=20, cutoff=5.0))
    mapping: Mapping = {"representation.embedding.weight": ["body.embedding.weight"], **ATOMWISE}
    # theirs has the filters of all layers in one matrix
    mapping |= linear("representation.filter_net", [f"body.messages.{k}.filter" for k in range(3)])
    for k in range(3):
        message = f"representation.interactions.{k}.interatomic_context_net"
        update = f"representation.mixing.{k}.intraatomic_context_net"
        for theirs, ours in ((message, f"body.messages.{k}"), (update, f"body.updates.{k}")):
            mapping |= linear(f"{theirs}.0", f"{ours}.context.0")
            mapping |= linear(f"{theirs}.1", f"{ours}.context.2")
        mix = f"representation.mixing.{k}.mu_channel_mix"
        mapping |= linear(mix, f"body.updates.{k}.mix", bias=False)
    model = WithHead(body, Atomwise(32, torch.nn.SiLU()), body)
    case.load(model, mapping, ("representation.radial_basis", "representation.cutoff_fn"))
    if name == "painn":
        features = body.features(case.graph)
        close(features.scalars, case.io["h_atom"], 1e-9)
        close(features.vectors, case.io["vec_atom"], 1e-9)
    case.check(model(case.graph), model, mapping)


DIMENET = {
    "dimenetpp": DimeNetPPConfig(hidden=32, triplet=24, basis=8, output=40, blocks=2, spherical=7, radial=6),
    "dimenetpp_small": DimeNetPPConfig(
        hidden=32, triplet=32, basis=32, output=32, blocks=2, spherical=3, radial=2
    ),
}


@pytest.mark.parametrize("name", DIMENET)
def test_dimenetpp(golden, name):
    case = golden(name)
    body = DimeNetPP(DIMENET[name])
    model = WithHead(body, BlockHeads(body.width, 3), body.output_vectors)
    case.load(model, dimenet_mapping(2))
    close(body(case.graph), sum(body.output_vectors(case.graph)), 1e-15)
    y = model(case.graph)
    case.check_positions(y, "_exact")
    close(y, case.io["y"], 1e-6)  # the package's own basis has 24 bits


class PackageBasis(torch.nn.Module):
    """The radial part of PyTorch Geometric's spherical basis, rounded as it is: its value at angle 0."""

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        self.layer = SphericalBasisLayer(config.spherical, config.radial, config.cutoff)
        self.cutoff = config.cutoff

    def forward(self, x):
        basis = self.layer(x * self.cutoff, torch.zeros_like(x), torch.arange(len(x)))
        return basis.view(len(x), self.layer.num_spherical, self.layer.num_radial)


@pytest.mark.parametrize(
    "name",
    [pytest.param("dimenetpp", marks=pytest.mark.slow), "dimenetpp_small"],  # building the basis takes long
)
def test_dimenetpp_with_the_basis_of_the_package(golden, name):
    """Parameter gradients are saved for the package's own basis alone, so it takes the place of ours."""
    case = golden(name)
    body = DimeNetPP(DIMENET[name])
    body.waves = PackageBasis(DIMENET[name])
    model = WithHead(body, BlockHeads(body.width, 3), body.output_vectors)
    case.load(model, dimenet_mapping(2))
    y = model(case.graph)
    close(y, case.io["y"], 1e-9)
    case.check_parameters(y, model, dimenet_mapping(2))


def test_dimenetpp_intermediate_values(golden):
    case = golden("dimenetpp")
    body = DimeNetPP(DIMENET["dimenetpp"])
    case.load(WithHead(body, BlockHeads(40, 3), body), dimenet_mapping(2))
    i, j = edges_within(case.graph, 5.0)
    assert torch.equal(torch.stack([j, i]), case.io["edge_index"])
    kj, ji = triplets(i, j, len(case.graph.z))
    assert torch.equal(kj, case.io["idx_kj"]) and torch.equal(ji, case.io["idx_ji"])
    vector = edge_vectors(case.graph, i, j)
    distance = vector.norm(dim=-1)
    cosine = cosines(vector / distance.unsqueeze(-1), kj, ji)
    close(cosine, torch.cos(case.io["angle"]), 1e-14)
    x = distance / 5.0
    first = body.embedding(body.embedding.element(case.graph.z), body.rbf(x), i, j)
    values = {"rbf": body.rbf(x), "sbf_exact": spherical_basis(body.waves(x), cosine, kj), "x_emb": first}
    for name, found in values.items():
        expected = case.io[f"{name}_first8"]  # of the first eight molecules
        assert 0 < len(expected) <= len(found)
        close(found[: len(expected)], expected, 1e-12)
    close(bessel_zeros(7, 6), case.io["aux.bessel_zeros_exact"], 1e-15)
    order = 2.0 * torch.arange(7.0).unsqueeze(-1) + 1.0
    norm = SphericalWaves(7, 6).scale / (order / (4.0 * torch.pi)).sqrt()
    close(norm, case.io["aux.bessel_norm_exact"], 1e-14)
