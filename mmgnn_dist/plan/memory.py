"""Memory of a training step on each rank, by use, for every ZeRO stage and offload.

With P parameters, T of them trained, and W ranks, a rank holds these bytes. All values but frozen weights are
float32, whatever the precision of the language model; the bf16 copies for its backward pass count as
activations. Frozen weights have f bytes each: 4, or 2 with `text.frozen_precision=bf16`.

    weights 4 T + f (P - T)    gradients 4 T    state of the optimiser (AdamW) 8 T    their average 4 T

ZeRO stage 1 shards the moments and a master copy of 4 T among the ranks, stage 2 also the gradients, stage 3
also weights and average; a rank of stage 3 also holds the layers that it has gathered. Messages need buffers.
Offload moves the optimiser, or at stage 3 also the weights, to host memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from mmgnn_dist.train.engine import BUCKET, LIVE
from mmgnn_dist.train.optim.optimizers import AdamW, checkpoint_bytes_per_parameter

# elements that DeepSpeed reduces in one message at stage 0; the last parameter of a message may exceed it
WHOLE_BUCKET = 500_000_000
FROZEN_BYTES = {"fp32": 4, "bf16": 2}  # of a frozen weight, by `text.frozen_precision`


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank.

    Attributes:
        device: bytes on the device, by use.
        host: bytes in host memory of the first rank, by use; it has the most, with its copy of a checkpoint.
        peak: peak of bytes on the device in a training step.
    """

    device: dict[str, int]
    host: dict[str, int]
    peak: int


def pinned_bytes(size: int) -> int:
    """Return the bytes of a block of pinned host memory: torch rounds them up to a power of two."""
    return 1 << (size - 1).bit_length() if size else 0


def pinned_rounding(weights: Iterable[Tensor]) -> int:
    """Return the bytes that pinned memory adds to a float32 copy of the trained ones of some weights."""
    sizes = [4 * weight.numel() for weight in weights if weight.requires_grad]
    return sum(map(pinned_bytes, sizes)) - sum(sizes)


def memory(
    parameters: int,
    trained: int,
    largest: int,
    activations: int,
    stage: int,
    world: int,
    offload: str,
    passes: int = 1,
    state_bytes: int = AdamW.state_bytes,
    rounding: int = 0,
    frozen_bytes: int = 4,
) -> Memory:
    """Estimate the memory of a rank.

    Args:
        parameters: number of parameters.
        trained: number of parameters that are trained.
        largest: elements of the largest trained parameter.
        activations: bytes of the activations.
        stage: ZeRO stage, 0 to 3.
        world: number of ranks.
        offload: `none`, `optimizer` or `parameters`.
        passes: micro-batches in a step.
        state_bytes: bytes of optimiser state for each trained parameter.
        rounding: `pinned_rounding` of the weights, if the host copies of a GPU's tensors are pinned; 0: not.
        frozen_bytes: bytes of a frozen weight.
    """
    weights = 4 * trained + frozen_bytes * (parameters - trained)
    # from stage 1 on: one bucket to fill and one to send, each at least as large as the largest parameter
    messages = 2 * 4 * max(min(BUCKET, trained), largest)
    if stage == 0:  # a flat copy of the gradients, only with several ranks
        messages = 4 * min(trained, WHOLE_BUCKET + largest) if world > 1 else 0
    # in addition to its own part
    gathered = weights * min(parameters, LIVE) // parameters if world > 1 and stage == 3 else 0
    # every pass after the first adds its gradients to the kept ones; stage 2 copies the sum at the end
    added = 0 if passes == 1 else (4 * largest, 4 * largest, 4 * trained // world, 0)[stage]
    device = {
        "weights": weights // (world if stage == 3 else 1),
        "gradients": 4 * trained // (world if stage >= 2 else 1) + added,
        "optimizer": state_bytes * trained // (world if stage >= 1 else 1),
        "master_copy": 4 * trained // world if stage >= 1 else 0,
        "average": 4 * trained // (world if stage == 3 else 1),
        "gathered": gathered,
        "messages": messages,
        "activations": activations,
    }
    moved = {
        "none": (),
        "optimizer": ("optimizer", "master_copy"),
        "parameters": ("optimizer", "master_copy", "weights", "average"),
    }[offload]
    if offload != "none" and stage >= 2:
        moved += ("gradients",)
    host = {name: device[name] for name in moved}
    device |= dict.fromkeys(moved, 0)
    # a checkpoint is copied to host memory and written during training. The first rank holds all of it at
    # stage 0, weights and average at stages 1 and 2, and two copies of the gathered average at stage 3
    full_copy, own_share = (8 + state_bytes) * trained, (4 + state_bytes) * trained // world
    host["checkpoint"] = full_copy if stage == 0 else 8 * trained + own_share
    if rounding:
        # at stage 0 every tensor is copied by itself; else the rank's part of the state lies in flat tensors
        flat = (4 + state_bytes) // 4 * (pinned_bytes(4 * trained // world) - 4 * trained // world)
        host["rounding"] = rounding * (8 + state_bytes) // 4 if stage == 0 else 2 * rounding + flat
    steady = sum(size for name, size in device.items() if name not in ("activations", "messages"))
    temporary = activations, messages
    # stage 0 sends after the backward pass, when the activations are gone
    return Memory(device, host, steady + (max(temporary) if stage == 0 else sum(temporary)))


def checkpoint_bytes(trained: int, stage: int, state_bytes: int = AdamW.state_bytes) -> int:
    """Return the bytes of a checkpoint on disk: weights, moments, average, and the master copy if any.

    A checkpoint only names frozen weights; it has no copy of them.
    """
    return checkpoint_bytes_per_parameter(state_bytes, stage in (1, 2)) * trained


def sent_bytes(
    parameters: int, trained: int, stage: int, world: int, passes: int, frozen_bytes: int = 4
) -> int:
    """Return the bytes that each rank sends in a step, over a ring.

    With s = (W - 1) / W, p passes (micro-batches) in the step and w bytes of weights (4 P if none is bf16):

        stage 0   reduce gradients to all                     2 * 4 T s
        stage 1   the same, gather new weights                3 * 4 T s
        stage 2   the same, reduced after every pass          (2 p + 1) * 4 T s
        stage 3   gather weights forward and backward,        p * (2 w s + 4 T s)
                  reduce gradients to their owners, for every pass

    Below stage 3 DeepSpeed (0.19.8, `average_tensor`) reduces to all even where each rank keeps only a part.
    """
    message_bytes = {
        0: 8 * trained,
        1: 12 * trained,
        2: 4 * trained * (2 * passes + 1),
        3: passes * (2 * (4 * trained + frozen_bytes * (parameters - trained)) + 4 * trained),
    }[stage]
    return message_bytes * (world - 1) // world
