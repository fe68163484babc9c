"""Cost of a model: parameters by branch, operations, and memory kept for the backward pass.

torch's FlopCounterMode counts operations as the model runs: 2 for each multiply-add of matrix products and
attention, which take most of the time. It does not count element-wise operations and data movement; with E
edges, N atoms, K tokens and width H, a forward pass has at least these as well:

    scatter of messages     E H additions per layer          activations   about 4 N H per layer
    radial basis            about 10 E per function          LayerNorm     8 N H, or 8 K H
    softmax of attention    5 per score                      pooling       N H

This is below a tenth of the matrix products at the usual widths (H of 64 and more).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ADAPTERS = "adapters"
BRANCHES = ("backbone", "text_encoder", ADAPTERS, "context", "fusion", "readout")
OTHER = "fusion"  # includes projections and learned constants
HEADS = {"backbone": "backbone", "encoder": "text_encoder", "context": "context", "readout": "readout"}


def branch_of(name: str) -> str:
    """The branch of a parameter or module of the fused model, by its dotted name."""
    return ADAPTERS if ".lora_" in name else HEADS.get(name.split(".", 1)[0], OTHER)


def count_parameters(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, tuple[int, int]]:
    """Number of parameters and of trainable parameters of each branch that has parameters."""
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in named:
        total, trainable = counts.get(branch_of(name), (0, 0))
        size = parameter.numel()
        counts[branch_of(name)] = (total + size, trainable + size * parameter.requires_grad)
    return {branch: counts[branch] for branch in BRANCHES if branch in counts}


def count_flops(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[dict[str, int], int]:
    """Count the operations of a forward and backward pass.

    Args:
        model: the model whose branches are counted.
        forward: runs the model and returns the tensor to differentiate.

    Returns:
        Forward operations by branch (adapters count with the text encoder); total operations of the forward
        and backward pass.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = forward()
        branches = _named_branches(model, counter)
        if out.requires_grad:
            out.sum().backward()
    return branches, counter.get_total_flops()


def count_forward(model: nn.Module, forward: Callable[[], Tensor]) -> dict[str, int]:
    """Count the forward operations by branch, as `count_flops` does."""
    # the counter does not know the fused attention of CPUs; it counts the products of the MATH backend
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()
    return _named_branches(model, counter)


def _named_branches(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """Operations that were counted so far, by branch in the order of `BRANCHES`."""
    branches = _by_branch(type(model).__name__, counter)
    return {branch: branches[branch] for branch in BRANCHES if branch in branches}


def _by_branch(root: str, counter: FlopCounterMode) -> dict[str, int]:
    """Operations of each branch of a model whose class is `root`."""
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    called = {name.removeprefix(f"{root}.") for name in counts if name.startswith(f"{root}.")}
    # the outermost modules that were called: their counts include the modules inside them
    outer = [n for n in called if not any(n.startswith(f"{other}.") for other in called)]
    branches: dict[str, int] = {}
    for name in outer:
        branch = branch_of(name)
        branches[branch] = branches.get(branch, 0) + counts[f"{root}.{name}"]
    # the rest belongs to the backbone: its `features` runs without a call of the module
    rest = counts.get("Global", 0) - sum(branches.values())
    if rest:
        branches["backbone"] = branches.get("backbone", 0) + rest
    return branches


class _Storages(TorchDispatchMode):
    """Records the storages that operations allocate: a weak reference and the size, by identity.

    A weak reference keeps the identity of a storage from being reused, but does not keep its memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record the storages of its results."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.made.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        return out


def activation_bytes(forward: Callable[[], Tensor], known: Iterable[Tensor]) -> int:
    """Measure the bytes that a forward pass keeps in memory for its backward pass, including the output.

    Memory that several tensors share is counted once, as is the input that a layer under activation
    checkpointing keeps. Gradients of activations are not counted: the backward pass allocates and frees them.

    Args:
        forward: runs the model.
        known: tensors that exist anyway (parameters, buffers, the batch).
    """
    existing = {tensor.untyped_storage()._cdata for tensor in known}
    with _Storages() as storages:
        out = forward()
    kept = [size for key, (ref, size) in storages.made.items() if key not in existing and not ref.expired()]
    del out  # the output keeps everything alive that its backward pass needs
    return sum(kept)
