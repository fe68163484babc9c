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
        edges = len(matrices[0])
        out = [weight.new_empty(edges, 2 * c + 1, width) for c, width in enumerate(self.outputs)]
        shared = as_array(weight)
        self._run(features, [as_array(x) for x in features], matrices, weight, [shared], out)
        return out

    def backward(
        self,
        features: tuple[Tensor, ...],
        matrices: list[Tensor],
        weight: Tensor,
        slopes: tuple[Tensor, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute the gradients by the weights and by the features of each degree."""
        by_features = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in features]
        # where all edges share one row of weights each thread sums up its own
        copies = len(equal_parts(len(matrices[0]))) if len(weight) == 1 else 1
        by_weight = weight.new_zeros(copies, *weight.shape)
        to_features, to_weight = [as_array(x) for x in by_features], list(as_array(by_weight))
        self._run(features, to_features, matrices, weight, to_weight, list(slopes), backward=True)
        return by_weight.sum(0) if copies > 1 else by_weight[0], by_features

    def _run(
        self,
        features: tuple[Tensor, ...],
        by_features: list[np.ndarray],
        matrices: list[Tensor],
        weight: Tensor,
        by_weight: list[np.ndarray],
        results: list[Tensor],
        backward: bool = False,
    ) -> None:
        """Run the loops of all degrees; a thread has a part of the rows of the weights, or of the edges."""
        from mmgnn_dist.models.backbones.pairs.product_kernels import product_loop

        columns = np.cumsum([0, *self.sizes])
        weights, of_degrees = as_array(weight), tuple(map(as_array, results))
        arrays = [
            (as_array(x), by_x, as_array(matrix))
            for x, by_x, matrix in zip(features, by_features, matrices, strict=False)
        ]

        def run(place: int, part: slice) -> None:
            own = by_weight[place % len(by_weight)]
            for (x, by_x, matrix), column, places in zip(arrays, columns, self.places, strict=False):
                loop = product_loop(x.shape[2], x.shape[1], backward)
                loop(x, by_x, matrix, weights, own, column, places, of_degrees, part.start, part.stop)

        run_parts(equal_parts(len(weight) if len(weight) > 1 else len(matrices[0])), run)


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
