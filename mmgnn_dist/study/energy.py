"""Energy that this machine has used so far, where it can be read: processors (RAPL) and NVIDIA GPUs.

The difference between two readings is what the machine used in between, for whatever ran on it.
"""

from __future__ import annotations

from pathlib import Path

RAPL = Path("/sys/class/powercap")


def joules() -> dict[str, float]:
    """Counters in joules, `cpu` and `gpu`; without one that cannot be read."""
    found = {}
    packages = list(RAPL.glob("intel-rapl:?/energy_uj")) if RAPL.is_dir() else []
    try:
        if packages:
            found["cpu"] = sum(int(path.read_text()) for path in packages) / 1e6
    except OSError:
        pass  # readable by root alone on most machines
    if (gpu := _gpus()) is not None:
        found["gpu"] = gpu
    return found


def _gpus() -> float | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1e3
    except pynvml.NVMLError:
        return None
