"""Resource use for the journal: memory and processor of the first rank, and memory of its GPU.

W&B's own monitor records more, but only for segments that W&B wrote itself.
"""

from __future__ import annotations

import time

import psutil
import torch

INTERVAL = 10.0  # seconds between two readings


class RateMeter:
    """Reads the resource use of this process and of its device.

    Args:
        device: device on which the rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call starts the measurement
        self._read = time.monotonic()

    def read(self) -> dict[str, float]:
        """Read gigabytes, and per cent of one core since the last reading; empty within `INTERVAL` of it."""
        if time.monotonic() - self._read < INTERVAL:
            return {}
        self._read = time.monotonic()
        usage = {
            "system/memory_gb": self._process.memory_info().rss / 1e9,
            "system/cpu_percent": self._process.cpu_percent(),
        }
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            usage["system/gpu_memory_gb"] = (total - free) / 1e9
            usage["system/gpu_memory_peak_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
        return {name: round(value, 3) for name, value in usage.items()}
