"""The machine of a benchmark: its processor, its instructions, versions, and its rate of matrix products."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import torch

from mmgnn_dist.train.provenance import versions

MATRIX = 768  # rows of the square matrices of the matmul rate: they fit into the cache of a core


class Machine(TypedDict):
    """Hardware and software of a measurement."""

    device: str
    instructions: str
    threads: int
    cores: int
    versions: dict[str, str]


def machine(device: torch.device) -> Machine:
    """Describe the machine that computes on a device."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else _processor(),
        "instructions": "CUDA" if gpu else _instructions(),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
    }


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of a measurement, s.

    On one CPU thread it is the processor time of this process, so that other users of the machine count
    little; else it is the time of day, after the device has finished.
    """
    if device.type == "cuda":

        def finished() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return finished
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def matmul_rate(device: torch.device, clock: Callable[[], float], repeats: int = 4) -> float:
    """Measure float32 operations per second of a product of two square matrices (2 per multiply-add)."""
    left, right = torch.randn(2, MATRIX, MATRIX, device=device)
    _ = left @ right
    begin = clock()
    for _repeat in range(repeats):
        _ = left @ right
    return repeats * 2 * MATRIX**3 / (clock() - begin)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _instructions() -> str:
    """The vector instructions that torch uses, and whether there are bf16 instructions."""
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return f"{torch.backends.cpu.get_cpu_capability()}{', bf16' if bf16 else ', no bf16'}"
