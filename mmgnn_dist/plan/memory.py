"""Memory of a training step on each rank, by what holds it, for every ZeRO stage and offload.

With P parameters of which T are trained, W ranks, all of them float32 whatever the language model computes in
(the copies in bf16 that its backward pass needs are among the activations), a rank holds

    weights 4 P    gradients 4 T    state of the optimiser (AdamW) 8 T    average of the weights 4 T

From ZeRO stage 1 on the moments and a master copy of 4 T are shared among the ranks, from stage 2 the
gradients too, at stage 3 weights and average, beside the layers that are gathered at a time. Messages need
buffers. Offload moves the optimiser, or at stage 3 also the weights, to host memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmgnn_dist.train.engine import BUCKET, LIVE
from mmgnn_dist.train.optim.optimizers import AdamW, checkpoint_bytes_per_parameter

# elements that DeepSpeed reduces in one message at stage 0, to which it adds the parameter that exceeds it
WHOLE_BUCKET = 500_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank.

    Attributes:
        device: by what they hold, on the device.
        host: the same in host memory, of the first rank, which has most: checkpoints are copied there.
        peak: most bytes on the device at a time, in a training step.
    """

    device: dict[str, int]
    host: dict[str, int]
    peak: int


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
) -> Memory:
    """Memory of a rank.

    Args:
        parameters: number of parameters.
        trained: number of parameters that are trained.
        largest: elements of the largest trained parameter.
        activations: bytes.
        stage: ZeRO stage, 0 to 3.
        world: ranks.
        offload: `none`, `optimizer` or `parameters`.
        passes: micro-batches in a step.
        state_bytes: of a parameter in the optimiser.
    """
    # from stage 1 on a bucket that is filled and one that is sent; the largest parameter goes in one piece
    messages = 2 * 4 * max(min(BUCKET, trained), largest)
    if stage == 0:  # a flat copy of the gradients, where there is somebody to send it to
        messages = 4 * min(trained, WHOLE_BUCKET + largest) if world > 1 else 0
    gathered = 4 * min(parameters, LIVE) if world > 1 and stage == 3 else 0  # beside the own part
    # a pass after the first adds its gradients to those that are kept; stage 2 copies its sum in the end
    added = 0 if passes == 1 else (4 * largest, 4 * largest, 4 * trained // world, 0)[stage]
    device = {
        "weights": 4 * parameters // (world if stage == 3 else 1),
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
    # a checkpoint is copied here and written while training goes on. The first rank has all of it at stage 0;
    # weights and average at 1 and 2; at 3 the average that it has gathered, twice
    whole, shared = (8 + state_bytes) * trained, (4 + state_bytes) * trained // world
    host["checkpoint"] = whole if stage == 0 else 8 * trained + shared
    steady = sum(size for name, size in device.items() if name not in ("activations", "messages"))
    during = activations, messages
    # stage 0 sends after the backward pass, when the activations are gone
    return Memory(device, host, steady + (max(during) if stage == 0 else sum(during)))


def checkpoint_bytes(trained: int, stage: int, state_bytes: int = AdamW.state_bytes) -> int:
    """Size of a checkpoint on disk: weights, moments, average, and the master copy where there is one.

    Frozen weights are named, not copied.
    """
    return checkpoint_bytes_per_parameter(state_bytes, stage in (1, 2)) * trained


def sent_bytes(parameters: int, trained: int, stage: int, world: int, passes: int) -> int:
    """Bytes that each rank sends in a step, over a ring.

    With s = (W - 1) / W and p passes (micro-batches) in the step:

        stage 0   reduce gradients to all                     2 * 4 T s
        stage 1   the same, gather new weights                3 * 4 T s
        stage 2   the same, reduced after every pass          (2 p + 1) * 4 T s
        stage 3   gather weights forward and backward,        p * (2 * 4 P s + 4 T s)
                  reduce gradients to their owners, for every pass

    Below stage 3 DeepSpeed (0.19.8, `average_tensor`) reduces to all even where each rank keeps only a part.
    """
    whole = {
        0: 8 * trained,
        1: 12 * trained,
        2: 4 * trained * (2 * passes + 1),
        3: passes * (8 * parameters + 4 * trained),
    }[stage]
    return whole * (world - 1) // world
