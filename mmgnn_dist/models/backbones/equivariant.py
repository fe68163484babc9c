"""Equivariant features of degree 0, 1 and 2, and the maps between them that commute with rotations.

The features of N atoms (or edges) are a list: entry l is [N, 2l + 1, C_l], C_l channels of degree l, in
e3nn's basis (degree 1: x, y, z). Under a rotation each entry is multiplied by its Wigner matrix D^l from
the left. Harmonics and Wigner 3j symbols are e3nn's (Geiger and Smidt 2022, arXiv 2207.09453). Tensor
products are batched matrix products in plain torch, without code generation. They equal e3nn's
`TensorProduct` (see the tests) and are about twice as fast on a CPU, since the matrices of an edge are
computed once for all layers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from mmgnn_dist.models.backbones.pairs.pair_loop import looped
from mmgnn_dist.models.backbones.pairs.product_loop import ProductLoop

Features = list[Tensor]
Channels = tuple[int, ...]  # C_0, C_1, ...
Path = tuple[int, int, int]  # degrees of the feature, of the harmonics and of the result

DEGREES = 3
# activations are scaled to unit second moment for a normal input; e3nn samples these constants
SILU = 1.6791767923989418
SIGMOID = 1.8467055342154763


def paths(inputs: int, top: int) -> list[Path]:
    """Paths from degrees below `inputs`, with harmonics up to degree 2, to degrees up to `top`."""
    return [
        (a, b, c)
        for a in range(inputs)
        for b in range(DEGREES)
        for c in range(abs(a - b), min(top, a + b) + 1)
    ]


class EdgeMatrices(nn.Module):
    """The tensor product with the harmonics of an edge, as one matrix per path.

    Path (a, b, c) maps degree a to degree c by sqrt(2c + 1) sum_m w3j[:, m, :] Y_bm, which is linear in the
    harmonics Y (e3nn's 'component' normalisation).
    """

    def __init__(self) -> None:
        super().__init__()
        self.harmonics = o3.SphericalHarmonics(
            list(range(DEGREES)), normalize=True, normalization="component"
        )
        self.shapes: list[tuple[int, int]] = []
        for a in range(DEGREES):
            rows = []
            for _, b, c in (path for path in paths(DEGREES, DEGREES - 1) if path[0] == a):
                coupling = o3.wigner_3j(a, b, c, dtype=torch.float64).permute(1, 2, 0)
                block = torch.zeros(DEGREES**2, 2 * c + 1, 2 * a + 1, dtype=torch.float64)
                block[b * b : (b + 1) ** 2] = math.sqrt(2 * c + 1) * coupling
                rows.append(block)
            table = torch.cat(rows, 1)
            self.shapes.append((table.shape[1], table.shape[2]))
            # kept in float64 and cast in the forward pass: a model built in float32 may be cast to float64
            self.register_buffer(f"table_{a}", table.flatten(1), persistent=False)

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Compute the matrices of edge vectors [E, 3]; the vectors may have any length above 0.

        Returns:
            For each degree a: [E, rows of its paths, 2a + 1].
        """
        harmonics = self.harmonics(vectors)
        tables = [getattr(self, f"table_{a}").to(vectors.dtype) for a in range(DEGREES)]
        return [
            (harmonics @ table).unflatten(1, shape) for table, shape in zip(tables, self.shapes, strict=True)
        ]


class DepthwiseProduct(nn.Module):
    """Tensor product of features with the harmonics of their edges, channel by channel.

    Args:
        channels: channels of each degree of the features.
        top: highest degree of the result.

    Attributes:
        outputs: channels of each degree of the result: the channels of its paths, concatenated.
        weights: number of weights per edge: one per path and channel, in the order of `paths`.
    """

    def __init__(self, channels: Channels, top: int) -> None:
        super().__init__()
        self.paths = paths(len(channels), top)
        self.outputs = tuple(
            sum(channels[a] for a, _, c in self.paths if c == degree) for degree in range(top + 1)
        )
        self.sizes = [sum(path[0] == a for path in self.paths) * width for a, width in enumerate(channels)]
        self.weights = sum(self.sizes)
        places: list[list[tuple[int, int, int]]] = []  # see ProductLoop
        filled = [0] * len(self.outputs)
        for a in range(len(channels)):
            every = [path for path in paths(DEGREES, DEGREES - 1) if path[0] == a]
            kept = torch.tensor([path in self.paths for path in every])
            rows_before = np.cumsum([0, *(2 * c + 1 for _, _, c in every)])
            places.append([])
            for path, row in zip(every, rows_before, strict=False):
                if path in self.paths:
                    places[a].append((path[2], row, filled[path[2]]))
                    filled[path[2]] += channels[a]
            rows = kept.repeat_interleave(torch.tensor([2 * c + 1 for _, _, c in every])).nonzero()[:, 0]
            self.register_buffer(f"rows_{a}", rows, persistent=False)
        self.loop = ProductLoop([np.array(of_a) for of_a in places], self.outputs, self.sizes)

    def forward(self, features: Features, matrices: list[Tensor], weight: Tensor) -> Features:
        """Compute the product.

        Args:
            features: features of E edges.
            matrices: matrices of the edges, see `EdgeMatrices`.
            weight: [E, weights]; [E / 2, weights], where the second half of the edges has those of the first;
                or [1, weights] for all.
        """
        differentiable = any(matrix.requires_grad for matrix in matrices)
        if looped(weight, len(matrices[0])) and not differentiable:
            return self.loop(features, matrices, weight)
        if len(weight) > 1:
            weight = weight.repeat(len(matrices[0]) // len(weight), 1)
        out: list[list[Tensor]] = [[] for _ in self.outputs]
        for a, part in enumerate(weight.split(self.sizes, 1)):
            matrix, rows = matrices[a], getattr(self, f"rows_{a}")
            if len(rows) < matrix.shape[1]:
                matrix = matrix.index_select(1, rows)
            degrees = [c for first, _, c in self.paths if first == a]
            blocks = (matrix @ features[a]).split([2 * c + 1 for c in degrees], 1)
            scales = part.unflatten(1, (len(degrees), -1)).unbind(1)
            for c, block, scale in zip(degrees, blocks, scales, strict=True):
                out[c].append(block * scale.unsqueeze(1))
        return [torch.cat(blocks, -1) for blocks in out]


class DegreeLinear(nn.Module):
    """A linear map of the channels of each degree; a bias for scalars only.

    Args:
        inputs: channels of each degree of the input.
        outputs: channels of each degree of the result; higher degrees of the input are dropped.
        bias: whether scalars get a bias. It starts at zero; weights start normal with variance 1 / C_l.
    """

    def __init__(self, inputs: Channels, outputs: Channels, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.ParameterList(
            torch.randn(c, d) / math.sqrt(c) for c, d in zip(inputs, outputs, strict=False)
        )
        self.bias = nn.Parameter(torch.zeros(outputs[0])) if bias else None

    def forward(self, features: Features) -> Features:
        """Apply the map."""
        out = [x @ weight for x, weight in zip(features, self.weight, strict=False)]
        if self.bias is not None:
            out[0] = out[0] + self.bias
        return out


class DegreeNorm(nn.Module):
    """Equivariant layer norm: each degree is divided by its root mean square over channels and components.

    Scalars are centred first. If the vectors of an atom nearly vanish (symmetric environments), the division
    magnifies rounding errors by up to 1 / sqrt(1e-5) = 316: float32 gradients are noisy there.
    """

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.weight = nn.ParameterList(torch.ones(c) for c in channels)
        self.bias = nn.Parameter(torch.zeros(channels[0]))

    def forward(self, features: Features) -> Features:
        """Normalise the degrees that have weights."""
        out = []
        for degree, (x, weight) in enumerate(zip(features, self.weight, strict=False)):
            centred = x - x.mean(-1, keepdim=True) if degree == 0 else x
            mean = centred.square().mean((1, 2), keepdim=True)
            out.append(centred * ((mean + 1e-5).rsqrt() * weight))
        out[0] = out[0] + self.bias
        return out


class Gate(nn.Module):
    """Gate: SiLU of the scalars; every other channel is multiplied by the sigmoid of its own scalar.

    Args:
        channels: channels of each degree of the result.

    Attributes:
        inputs: channels of each degree of the input: one scalar more for each gate.
    """

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = channels
        self.inputs: Channels = (sum(channels), *channels[1:])

    def forward(self, features: Features) -> Features:
        """Apply the gates; `features[0]` holds the scalars, then the gates of degree 1, then of degree 2."""
        scalars, *gates = features[0].split(self.channels, -1)
        others = [x * (SIGMOID * torch.sigmoid(g)) for x, g in zip(features[1:], gates, strict=True)]
        return [SILU * nn.functional.silu(scalars), *others]
