"""What a run uses of its machine, for the journal: memory and processor of the first rank, memory of its GPU.

W&B's own monitor says more, but only of the segments that it wrote itself.
"""

from __future__ import annotations

import time

import psutil
import torch

INTERVAL = 10.0  # seconds between two readings


class RateMeter:
    """Reads the use of this process and of its device.

    Args:
        device: on which the rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first reading only begins the count
        self._read = time.monotonic()

    def read(self) -> dict[str, float]:
        """Gigabytes and per cent of one core since the last reading; nothing if that was just now."""
        if time.monotonic() - self._read < INTERVAL:
            return {}
        self._read = time.monotonic()
        found = {
            "system/memory_gb": self._process.memory_info().rss / 1e9,
            "system/cpu_percent": self._process.cpu_percent(),
        }
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            found["system/gpu_memory_gb"] = (total - free) / 1e9
            found["system/gpu_memory_peak_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
        return {name: round(value, 3) for name, value in found.items()}
