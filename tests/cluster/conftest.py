"""One dev cluster for the whole test run, and a recipe that trains on it in seconds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from make_encoder import make_encoder

from mmgnn_dist.data.shards import ShardSet
from mmgnn_dist.data.splits import make_split

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "slurm" / "devcluster" / "devcluster.py"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
RECIPE = """
name: small
targets: [homo, gap, energy]
data: {shards: %s}
text: {encoder: %s, fields: [iupac_name], mode: full}
model:
  modality: both
  backbone: {name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 10, cutoff: 5.0}
train:
  {epochs: 2, max_steps: 120, batch: 8, threads: 1, precision: fp32, zero_stage: 2, checkpoint_every: 20,
   validate_every: 2, log_ids: true, optim: {ema: 0.9}}
track: {wandb: offline}
"""


@dataclass
class Cluster:
    """The running dev cluster."""

    folder: Path

    def do(self, *words: str) -> None:
        """Run a command of the dev cluster."""
        subprocess.run([sys.executable, DEVCLUSTER, *words, "--dir", str(self.folder)], check=True)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    running = Cluster(tmp_path_factory.mktemp("devcluster") / "slurm")
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(running.folder / "slurm.conf"))
    try:
        running.do("up")
        yield running
    finally:
        running.do("down")
        patch.undo()


@pytest.fixture(scope="session")
def recipe(sample_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fused model with a tiny language model that is fully trained, dropout on."""
    folder = tmp_path_factory.mktemp("cluster")
    make_encoder(folder / "encoder", "bert")
    shards = ShardSet.open(shutil.copytree(sample_shards.path, folder / "shards"))
    make_split(shards, "kfold", 3, 42, "identity", None)
    path = folder / "small.yaml"
    path.write_text(RECIPE % (shards.path, folder / "encoder"))
    return path
