"""Preparation at the size of QM9 and of ten times it: memory, counts, the same shards for any workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peak_memory import PeakMemory

from mmgnn_dist.data.shardset.shards import ShardSet

pytestmark = [pytest.mark.slow, pytest.mark.shared]
MMGNN = [sys.executable, "-m", "mmgnn_dist.cli"]
RDKIT = "data.providers=[table,file,rdkit]"


@pytest.fixture(scope="module")
def qm9(shared) -> Path:
    return shared / "data/qm9/qm9.parquet"


def prepare(sources: list[Path], to: Path, *overrides: str) -> tuple[dict, float]:
    """What the command counts, and its peak memory in bytes."""
    command = [*MMGNN, "data", "prepare", *map(str, sources), "--to", str(to), "--json", *overrides]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process, PeakMemory(process.pid) as memory:
        out, _ = process.communicate()
    assert process.returncode == 0
    counts, seconds = json.loads(out), time.monotonic() - started
    said = f"{to.name}: {counts['in']:,} molecules in {seconds:.1f} s, peak {memory.peak / 1e9:.2f} GB"
    print(said)
    return counts, memory.peak


def digests(shards: Path) -> list[str]:
    return [entry["sha256"] for entry in ShardSet.open(shards).manifest["shards"]]


def test_ten_times_qm9_takes_little_more_memory(qm9, tmp_path):
    table = pq.read_table(qm9)
    files = []
    for copy in range(10):
        # QM9's own index has six digits: other names are a user's table, whose units the file declares
        ids = pa.array([f"copy{copy}-{index}" for index in table["gdb_idx"].to_pylist()])
        units = {"mu": "D", "alpha": "a0^3", "r2": "a0^2", "cv": "cal/mol/K"}
        for name in ("homo", "lumo", "gap", "zpve", "u0", "u298", "h298", "g298"):
            units[name] = "Hartree"
        kept = table.select(
            [
                n
                for n in table.column_names
                if n in units or n in ("atomic_numbers", "positions", "smiles", "inchikey")
            ]
        ).append_column("id", ids)
        files.append(tmp_path / f"part{copy}.parquet")
        pq.write_table(kept, files[-1])
    declared = [f"data.units.{name}={unit}" for name, unit in units.items()]
    _, one = prepare([files[0]], tmp_path / "single", *declared)
    result, ten = prepare(files, tmp_path / "tenfold", *declared)
    assert result["in"] == 10 * len(table)
    assert result["kept"] + result["set_aside"] == result["in"]
    assert ten < 3e9 and ten < one + 6e8


def test_workers_and_a_kill_change_no_shard_of_qm9(qm9, tmp_path):
    _, peak = prepare([qm9], tmp_path / "two", RDKIT, "data.workers=2")
    assert peak < 3e9
    prepare([qm9], tmp_path / "one", RDKIT, "data.workers=1")
    killed = tmp_path / "killed"
    command = [*MMGNN, "data", "prepare", str(qm9), "--to", str(killed), RDKIT]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        records = tmp_path / "killed.partial/records"
        while len(list(records.glob("*.json"))) < 5:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not killed.exists()
    prepare([qm9], killed, RDKIT)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(killed)
