"""Energy use of this machine, if it can be read: processors (RAPL) and NVIDIA GPUs.

It is the energy of the whole machine, whatever runs on it. The counters of RAPL wrap around after about
0.26 MJ (half an hour on a small machine, minutes on a large one), so they are read often.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

RAPL = Path("/sys/class/powercap")
EVERY = 60.0  # seconds between two readings: the counter wraps around in this time only above 4 kW


class EnergyMeter:
    """Measures energy while its `with` block runs."""

    def __init__(self) -> None:
        packages = RAPL.glob("intel-rapl:?") if RAPL.is_dir() else []
        self._last: dict[Path, int] = dict.fromkeys(packages, 0)
        self._used = 0  # microjoules of all packages
        self._lock, self._end = threading.Lock(), threading.Event()

    def __enter__(self) -> EnergyMeter:
        """Start the measurement."""
        self._look()
        self._used, self._gpus = 0, _gpus()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End the reading thread."""
        self._end.set()
        self._thread.join()

    def joules(self) -> dict[str, int]:
        """Energy so far in joules, by `cpu` and `gpu`; a device that cannot be read is left out."""
        self._look()
        energy = {"cpu": round(self._used / 1e6)} if self._last else {}
        now = _gpus()
        if self._gpus is not None and now is not None:
            energy["gpu"] = round(now - self._gpus)
        return energy

    def _look(self) -> None:
        """Add the energy of each package since the last reading; the counter may wrap around once."""
        with self._lock:
            try:
                for package, before in self._last.items():
                    now = int((package / "energy_uj").read_text())
                    self._used += (now - before) % int((package / "max_energy_range_uj").read_text())
                    self._last[package] = now
            except OSError:
                self._last = {}  # only root can read the counters on most machines

    def _watch(self) -> None:
        while not self._end.wait(EVERY):
            self._look()


def _gpus() -> float | None:
    """Energy of all GPUs since their driver was loaded, in joules; None if it cannot be read."""
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
