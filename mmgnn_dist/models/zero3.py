"""Access to parameters that are partitioned across ranks (ZeRO stage 3).

DeepSpeed replaces a partitioned parameter by an empty tensor and stores the part of this rank, flat and
padded to equal parts, in `ds_tensor`. It gathers the parameter around the forward pass of its module, so
all ranks must run the same modules in the same order. The functions here treat an unpartitioned parameter as
one whose only part is the whole, so callers do not need to know the stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters of a module are partitioned across ranks."""
    return any(hasattr(parameter, "ds_tensor") for parameter in module.parameters())


def count(parameter: nn.Parameter) -> int:
    """Number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def rank_of(parameter: nn.Parameter) -> int:
    """Number of dimensions of the whole parameter."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def local_shard(parameter: nn.Parameter) -> Tensor:
    """The part of a parameter that this rank holds; the model sees writes to it after `repartition`."""
    part = getattr(parameter, "ds_tensor", None)
    return parameter.detach() if part is None else part.data


def shard_of(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This rank's part of the whole value of a parameter, in the shape of `local_shard`."""
    if not hasattr(parameter, "ds_tensor"):
        return value
    size = parameter.ds_tensor.numel()
    part = value.flatten()[size * torch.distributed.get_rank() :][:size]
    return nn.functional.pad(part, (0, size - len(part)))


def gathered(named: Iterable[tuple[str, nn.Parameter]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and whole value of each parameter in turn; all ranks must take part."""
    for name, parameter in named:
        if hasattr(parameter, "ds_tensor"):
            from deepspeed import zero

            with zero.GatheredParameters([parameter]):
                yield name, parameter.detach()
        else:
            yield name, parameter.detach()


def repartition(parameters: Iterable[nn.Parameter]) -> None:
    """Release gathered values after writes to `local_shard`; all ranks must take part.

    The next forward pass gathers the new values. Small parameters that DeepSpeed always keeps whole are
    gathered at once: if DeepSpeed finds one of them partitioned, it does not recognise the recorded module
    and fails.
    """
    cut: list[Any] = [p for p in parameters if hasattr(p, "ds_tensor")]
    if cut:
        cut[0].partition(param_list=cut)
        if kept := [p for p in cut if p.ds_persist]:
            kept[0].all_gather(kept)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # DeepSpeed gathers on its own stream
