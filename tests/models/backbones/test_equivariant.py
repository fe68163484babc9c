"""Products, norms and gates of degree-2 features against e3nn's own modules."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from e3nn.math import normalize2mom
from torch import Tensor

from mmgnn_dist.models.backbones.equiformer import LEAKY
from mmgnn_dist.models.backbones.equivariant import (
    SIGMOID,
    SILU,
    DegreeLinear,
    DegreeNorm,
    DepthwiseProduct,
    EdgeMatrices,
    Gate,
    paths,
)

CHANNELS = (5, 4, 3)
EDGES = 11

pytestmark = pytest.mark.usefixtures("double")


def features(channels=CHANNELS) -> list[Tensor]:
    return [torch.randn(EDGES, 2 * degree + 1, c) for degree, c in enumerate(channels)]


def flat(parts: list[Tensor]) -> Tensor:
    """e3nn's order: degree, channel, component."""
    return torch.cat([x.transpose(1, 2).flatten(1) for x in parts], 1)


def irreps(channels) -> o3.Irreps:
    return o3.Irreps([(c, (degree, 1)) for degree, c in enumerate(channels)])


def turned(parts: list[Tensor], matrix: Tensor) -> list[Tensor]:
    return [o3.Irrep(degree, 1).D_from_matrix(matrix) @ x for degree, x in enumerate(parts)]


@pytest.mark.parametrize("channels", [CHANNELS, (4,)])
@pytest.mark.parametrize("top", [0, 1, 2])
def test_product_equals_e3nn(channels, top):
    torch.manual_seed(0)
    product, vectors, x = DepthwiseProduct(channels, top), torch.randn(EDGES, 3), features(channels)
    weight = torch.randn(EDGES, product.weights)
    order = sorted(
        range(len(product.paths)), key=lambda k: product.paths[k][2]
    )  # stable: by degree, then path
    outputs = [(channels[product.paths[k][0]], (product.paths[k][2], 1)) for k in order]
    instructions = [(a, b, order.index(k), "uvu", True) for k, (a, b, _) in enumerate(product.paths)]
    reference = o3.TensorProduct(
        irreps(channels),
        irreps((1, 1, 1)),
        o3.Irreps(outputs),
        instructions,
        shared_weights=False,
        internal_weights=False,
        irrep_normalization="component",
        path_normalization="none",
    )
    harmonics = o3.spherical_harmonics([0, 1, 2], vectors, normalize=True, normalization="component")
    expected = reference(flat(x), harmonics, weight)
    found = product(x, EdgeMatrices()(vectors), weight)
    assert tuple(part.shape[-1] for part in found) == product.outputs
    torch.testing.assert_close(flat(found), expected, rtol=1e-12, atol=1e-12)


def test_paths_are_those_of_the_triangle_rule():
    assert len(paths(3, 2)) == 15 and paths(3, 0) == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]


def test_scales_of_activations_are_those_of_e3nn():
    leaky = lambda x: 0.6 * x + 0.4 * x * (2 * torch.sigmoid(x) - 1)  # noqa: E731
    for function, ours in ((torch.nn.functional.silu, SILU), (torch.sigmoid, SIGMOID), (leaky, LEAKY)):
        assert abs(normalize2mom(function).cst - ours) < 1e-12


def test_maps_commute_with_rotations():
    torch.manual_seed(0)
    matrix, x = o3.rand_matrix(), features()
    gate = Gate(CHANNELS)
    for layer, inputs in (
        (DegreeLinear(CHANNELS, (3, 6, 2)), x),
        (DegreeNorm(CHANNELS), x),
        (gate, features(gate.inputs)),
    ):
        for found, expected in zip(layer(turned(inputs, matrix)), turned(layer(inputs), matrix), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    product, vectors, edges = DepthwiseProduct(CHANNELS, 2), torch.randn(EDGES, 3), EdgeMatrices()
    weight = torch.randn(1, product.weights)
    found = product(turned(x, matrix), edges(vectors @ matrix.T), weight)
    for part, expected in zip(found, turned(product(x, edges(vectors), weight), matrix), strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_norm_sets_the_root_mean_square_of_a_degree():
    for degree, part in enumerate(DegreeNorm(CHANNELS)(features())):
        mean = part.square().mean((1, 2))
        torch.testing.assert_close(mean, torch.ones(EDGES), rtol=1e-3, atol=0)
        if degree == 0:
            assert float(part.detach().mean(-1).abs().max()) < 1e-12


def test_tables_are_exact_however_the_model_was_built():
    vectors = torch.randn(EDGES, 3)
    torch.set_default_dtype(torch.float32)
    built_small = EdgeMatrices()
    torch.set_default_dtype(torch.float64)
    for a, b in zip(built_small.double()(vectors), EdgeMatrices()(vectors), strict=True):
        assert torch.equal(a, b)
    assert all(m.dtype == torch.float32 for m in built_small(vectors.float()))
