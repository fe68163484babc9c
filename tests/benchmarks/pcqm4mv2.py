"""Preparation of PCQM4Mv2's layout at several sizes: rate, and peak memory of the command and all it starts.

    python tests/benchmarks/pcqm4mv2.py --sizes 100000 1000000

The molecules are made (`tests/support/pcqm_files.py`). How memory grows between two sizes bounds it for the
published 3.4 million molecules with geometries.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from pcqm_files import write_pcqm4mv2
from peak_memory import PeakMemory


def measure(archive: Path, to: Path) -> tuple[float, float]:
    """Return seconds and peak memory in bytes of one preparation."""
    command = [sys.executable, "-m", "mmgnn_dist.cli", "data", "prepare", str(archive), "--to", str(to)]
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with process, PeakMemory(process.pid) as memory:
        process.wait()
    assert process.returncode == 0
    return time.monotonic() - began, memory.peak


def main() -> None:
    """Measure each size once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--folder", type=Path, help="where files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for size in arguments.sizes:
            archive = write_pcqm4mv2(Path(folder) / f"raw-{size}", size)
            seconds, peak = measure(archive, Path(folder) / f"set-{size}")
            rate = f"{seconds:.0f} s, {size / seconds:.0f} molecules/s"
            print(f"{size:>9,} molecules: {rate}, {peak / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
