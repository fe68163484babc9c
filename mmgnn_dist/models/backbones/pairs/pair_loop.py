"""Compiled loops over the pairs of a batch on a CPU, in one part for each thread.

The parts end between two molecules, so that no two threads write to the same atom and a result has the same
bits every time. Without numba, and on a GPU, tensor operations do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mmgnn_dist.models.graph import Graph

WORTH_COMPILING = 2**18  # values of a pass over the pairs from which on loops pay, compilation included


def looped(values: Tensor, pairs: int) -> bool:
    """Whether messages are computed by compiled loops: many values in float32 on a CPU, with numba.

    Args:
        values: values of the atoms, [N, ..., C].
        pairs: number of pairs.
    """
    # the storage of a tensor without memory, as `plan` counts with, is on the device `meta`
    served = values.untyped_storage().device.type == "cpu" and values.dtype == torch.float32
    return served and pairs * values.shape[-1] >= WORTH_COMPILING and _numba()


@cache
def _numba() -> bool:
    return find_spec("numba") is not None


def pair_parts(graph: Graph, i: Tensor) -> list[slice]:
    """Cut pairs into about equal parts, one for each thread.

    Args:
        graph: the batch.
        i: first atom of each pair, int64 [P], ascending; both atoms are of one molecule.
    """
    first, ptr, parts = i.numpy(), graph.ptr.numpy(), torch.get_num_threads()
    if parts == 1 or not len(first):
        return [slice(0, len(first))]
    wanted = first[np.arange(1, parts) * len(first) // parts]  # an atom in the middle of a molecule
    atoms = ptr[np.searchsorted(ptr, wanted, side="right") - 1]
    bounds = [0, *np.searchsorted(first, atoms).tolist(), len(first)]
    return [slice(start, end) for start, end in pairwise(bounds)]


def equal_parts(count: int) -> list[slice]:
    """Cut a range into about equal parts, one for each thread."""
    threads = torch.get_num_threads()
    return [slice(start, end) for start, end in pairwise(count * k // threads for k in range(threads + 1))]


def as_array(tensor: Tensor) -> np.ndarray:
    """The values of a tensor in host memory, without a copy if they are contiguous."""
    return tensor.detach().contiguous().numpy()


def run_parts(parts: list[slice], run: Callable[[int, slice], None]) -> None:
    """Run a function on the number and the pairs of each part, the first part in this thread."""
    if len(parts) == 1:
        run(0, parts[0])
        return
    others = [_threads(len(parts)).submit(run, place, part) for place, part in enumerate(parts) if place]
    run(0, parts[0])
    for other in others:
        other.result()


@cache
def _threads(parts: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(parts - 1, thread_name_prefix="pairs")
