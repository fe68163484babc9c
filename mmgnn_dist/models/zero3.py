"""Parameters of which a rank holds only a part: ZeRO stage 3.

DeepSpeed leaves an empty tensor in place of such a parameter and puts this rank's part of it, flat and padded
to equal parts, into `ds_tensor`. Around the forward of its module it is gathered, for which all ranks have to
run the same modules in the same order. Everything here treats a parameter that is not cut as one whose only
part is the whole, so that callers need not know the stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(module: nn.Module) -> bool:
    """Whether the ranks share the parameters of a module out among them."""
    return any(hasattr(parameter, "ds_tensor") for parameter in module.parameters())


def count(parameter: nn.Parameter) -> int:
    """Number of elements of the whole parameter."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def rank_of(parameter: nn.Parameter) -> int:
    """Number of dimensions of the whole parameter."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def local_shard(parameter: nn.Parameter) -> Tensor:
    """What this rank holds of a parameter; writing to it is seen by the model after `repartition`."""
    part = getattr(parameter, "ds_tensor", None)
    return parameter.detach() if part is None else part.data


def shard_of(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This rank's part of a whole value of a parameter, in the shape of `local_shard`."""
    if not hasattr(parameter, "ds_tensor"):
        return value
    size = parameter.ds_tensor.numel()
    part = value.flatten()[size * torch.distributed.get_rank() :][:size]
    return nn.functional.pad(part, (0, size - len(part)))


def gathered(named: Iterable[tuple[str, nn.Parameter]]) -> Iterator[tuple[str, Tensor]]:
    """Name and whole value of each parameter, one after another; all ranks have to take part."""
    for name, parameter in named:
        if hasattr(parameter, "ds_tensor"):
            from deepspeed import zero

            with zero.GatheredParameters([parameter]):
                yield name, parameter.detach()
        else:
            yield name, parameter.detach()


def repartition(parameters: Iterable[nn.Parameter]) -> None:
    """Let go of gathered values after `local_shard` was written to; all ranks have to take part.

    The next forward gathers the new ones, but for the small ones that DeepSpeed keeps whole at all times: if
    it finds one of them cut it takes its module for another than it recorded, and gives up.
    """
    cut: list[Any] = [p for p in parameters if hasattr(p, "ds_tensor")]
    if cut:
        cut[0].partition(param_list=cut)
        if kept := [p for p in cut if p.ds_persist]:
            kept[0].all_gather(kept)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # DeepSpeed gathers on a stream of its own
