"""The depth-wise tensor product by compiled loops (`product_kernels.py`), in one part for each thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgnn_dist.models.backbones.pairs.pair_loop import as_array, equal_parts, run_parts


class ProductLoop:
    """Product of features with the harmonics of their edges, channel by channel.

    Args:
        places: of each degree a of the features [paths, 3]: degree c of the path's result, its first row of
            the matrices, its first channel of the result.
        outputs: channels of each degree of the result.
        sizes: number of weights of each degree a.
    """

    def __init__(self, places: list[np.ndarray], outputs: tuple[int, ...], sizes: list[int]) -> None:
        self.places, self.outputs, self.sizes = places, outputs, sizes

    def __call__(self, features: list[Tensor], matrices: list[Tensor], weight: Tensor) -> list[Tensor]:
        """Compute the product; see `DepthwiseProduct.forward`."""
        return list(_Product.apply(self, matrices, weight, *features))

    def forward(self, features: tuple[Tensor, ...], matrices: list[Tensor], weight: Tensor) -> list[Tensor]:
        """Compute the result of each degree."""
        from mmgnn_dist.models.backbones.pairs.product_kernels import product_forward

        edges = len(matrices[0])
        out = [weight.new_empty(edges, 2 * c + 1, width) for c, width in enumerate(self.outputs)]
        results = tuple(map(as_array, out))
        arrays = self._arrays(features, matrices, weight)

        def run(_: int, part: slice) -> None:
            for of_a in arrays:
                channels, components = of_a[0].shape[2], of_a[0].shape[1]
                product_forward(channels, components)(*of_a, results, part.start, part.stop)

        run_parts(equal_parts(edges), run)
        return out

    def backward(
        self,
        features: tuple[Tensor, ...],
        matrices: list[Tensor],
        weight: Tensor,
        slopes: tuple[Tensor, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute the gradients by the weights and by the features of each degree."""
        from mmgnn_dist.models.backbones.pairs.product_kernels import product_backward

        edges = len(matrices[0])
        parts = equal_parts(edges)
        of_features = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in features]
        shared = len(weight) == 1  # then each thread sums up its own
        of_weights = [
            [weight.new_zeros(len(weight), size) for size in self.sizes]
            for _ in parts[: None if shared else 1]
        ]
        slope = tuple(map(as_array, slopes))
        arrays = self._arrays(features, matrices, weight)

        def run(place: int, part: slice) -> None:
            of_weight = of_weights[place if shared else 0]
            for of_a, of_x, of_w in zip(arrays, of_features, of_weight, strict=True):
                channels, components = of_a[0].shape[2], of_a[0].shape[1]
                gradients = as_array(of_x), as_array(of_w)
                product_backward(channels, components)(*of_a, slope, *gradients, part.start, part.stop)

        run_parts(parts, run)
        joined = [torch.cat(of_weight, 1) for of_weight in of_weights]
        return torch.stack(joined).sum(0) if len(joined) > 1 else joined[0], of_features

    def _arrays(
        self, features: tuple[Tensor, ...], matrices: list[Tensor], weight: Tensor
    ) -> list[tuple[np.ndarray, ...]]:
        return [
            (as_array(x), as_array(matrix), as_array(part), places)
            for x, matrix, part, places in zip(
                features, matrices, weight.split(self.sizes, 1), self.places, strict=False
            )
        ]


class _Product(torch.autograd.Function):
    """The product; only its inputs are kept for the backward pass."""

    @staticmethod
    def forward(
        save: Any, loop: ProductLoop, matrices: list[Tensor], weight: Tensor, *features: Tensor
    ) -> tuple[Tensor, ...]:
        save.save_for_backward(weight, *features)
        save.loop, save.matrices = loop, matrices
        return tuple(loop.forward(features, matrices, weight))

    @staticmethod
    @once_differentiable
    def backward(save: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        weight, *features = save.saved_tensors
        of_weight, of_features = save.loop.backward(tuple(features), save.matrices, weight, slopes)
        return None, None, of_weight, *of_features
