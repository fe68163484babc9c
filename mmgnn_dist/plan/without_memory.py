"""Tensors with sizes and without memory, on which the operations and activations of a model are counted.

Numbers that decide shapes (atoms of a molecule, pairs, lengths of texts) are computed; weights and
activations are torch's fake tensors, which have a shape, a type and a size in bytes. Counts are those of the
same model with memory. What they take depends neither on the width of the model nor on the instructions of
the processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from mmgnn_dist.data.loading.batch import Batch

SMALL = 2**16  # elements up to which a tensor of a model in the making has memory: constants that code reads


class WithoutMemory(FakeTensorMode):
    """Mode in which new floating-point tensors have no memory, and integers have.

    Make a model in it, pass the model to `hollow`, and run it on a batch from `emptied` in the same mode.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._making = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> Any:
        """Run an operation on tensors with memory as it is, and any other one without memory."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            return func(*args, **(kwargs or {}))
        if self._making and func is torch.ops.aten._local_scalar_dense.default:
            return 0  # initial values are drawn again while one is out of bounds: none is
        out = super().__torch_dispatch__(func, types, args, kwargs or {})
        if tensors or not isinstance(out, Tensor):
            return out
        constant = self._making and out.numel() <= SMALL
        return func(*args, **(kwargs or {})) if constant or not out.is_floating_point() else out

    def hollow(self, model: nn.Module) -> None:
        """Take the memory of all weights and buffers of a model; no constants are made from now on."""
        hollowed: dict[Tensor, nn.Parameter] = {}  # shared weights stay shared
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None and not isinstance(weight, FakeTensor):
                    if weight not in hollowed:
                        empty = self.from_tensor(weight.detach())
                        hollowed[weight] = nn.Parameter(empty, weight.requires_grad)
                    module._parameters[name] = hollowed[weight]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point() and not isinstance(buffer, FakeTensor):
                    module._buffers[name] = self.from_tensor(buffer)
        self._making = False

    def emptied(self, batch: Batch) -> Batch:
        """Take the memory of the positions of a batch, and so of everything that is computed from them."""
        batch.pos = self.from_tensor(batch.pos)
        return batch
