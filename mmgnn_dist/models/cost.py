"""What a model costs: parameters by branch, operations, and what is kept for the backward pass.

Operations are counted by torch's FlopCounterMode as the model runs: 2 for a multiply-add of matrix products
and attention, which is where the time goes. It misses what moves or touches every value once; with E edges,
N atoms, K tokens, H width, a forward pass has at least

    scatter of messages     E H additions a layer            activations   some 4 N H a layer
    radial basis            some 10 E a function             LayerNorm     8 N H, or 8 K H
    softmax of attention    5 a score                        pooling       N H

which is below a tenth of the products at the usual widths (H of 64 and more).
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
OTHER = "fusion"  # projections and learned constants go with it
HEADS = {"backbone": "backbone", "encoder": "text_encoder", "context": "context", "readout": "readout"}


def branch_of(name: str) -> str:
    """The branch of a parameter or module of the fused model, by its dotted name."""
    return ADAPTERS if ".lora_" in name else HEADS.get(name.split(".", 1)[0], OTHER)


def count_parameters(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, tuple[int, int]]:
    """Parameters and, of these, trainable ones of each branch that has any."""
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in named:
        total, trainable = counts.get(branch_of(name), (0, 0))
        size = parameter.numel()
        counts[branch_of(name)] = (total + size, trainable + size * parameter.requires_grad)
    return {branch: counts[branch] for branch in BRANCHES if branch in counts}


def count_flops(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[dict[str, int], int]:
    """Operations of a pass.

    Args:
        model: whose branches are told apart.
        forward: runs the model and returns what is differentiated.

    Returns:
        Forward operations by branch, adapters with the text encoder; operations forward and backward.
    """
    branches = count_forward(model, forward)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = forward()
        if out.requires_grad:
            out.sum().backward()
    return branches, counter.get_total_flops()


def count_forward(model: nn.Module, forward: Callable[[], Tensor]) -> dict[str, int]:
    """Forward operations by branch, as `count_flops` counts them."""
    # the fused attention of CPUs is unknown to the counter: written out, its products are counted
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()
    branches = _by_branch(type(model).__name__, counter)
    return {branch: branches[branch] for branch in BRANCHES if branch in branches}


def _by_branch(root: str, counter: FlopCounterMode) -> dict[str, int]:
    """Operations of each branch of a model whose class is `root`."""
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    called = {name.removeprefix(f"{root}.") for name in counts if name.startswith(f"{root}.")}
    # the outermost modules that were called: those inside them are counted with them
    outer = [n for n in called if not any(n.startswith(f"{other}.") for other in called)]
    branches: dict[str, int] = {}
    for name in outer:
        branch = branch_of(name)
        branches[branch] = branches.get(branch, 0) + counts[f"{root}.{name}"]
    # what runs outside of them belongs to the backbone, whose `features` is not a call of the module
    rest = counts.get("Global", 0) - sum(branches.values())
    if rest:
        branches["backbone"] = branches.get("backbone", 0) + rest
    return branches


class _Storages(TorchDispatchMode):
    """Watches the memory that operations hand out: size and a weak reference, by identity.

    A weak reference keeps the identity from being given away again, and the memory not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note the memory of its results."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.made.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        return out


def activation_bytes(forward: Callable[[], Tensor], known: Iterable[Tensor]) -> int:
    """Bytes that a forward pass leaves in memory for its backward pass, the output included.

    What several tensors share is counted once, and so is what a layer under activation checkpointing keeps,
    its input. Gradients of activations, which the backward pass makes and frees again, come on top.

    Args:
        forward: runs the model.
        known: tensors that are there anyway (parameters, buffers, the batch).
    """
    existing = {tensor.untyped_storage()._cdata for tensor in known}
    with _Storages() as storages:
        out = forward()
    kept = [size for key, (ref, size) in storages.made.items() if key not in existing and not ref.expired()]
    del out  # alive up to here, and with it all that its backward pass needs
    return sum(kept)
