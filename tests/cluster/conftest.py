"""One dev cluster for the whole test run, and a recipe that trains on it in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import mmgnn
from make_encoder import make_encoder
from private_cluster import Cluster, hindrance, left_over

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import make_split

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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("devcluster") / "slurm")
    if why := hindrance(running.folder):
        pytest.skip(why)
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(running.folder / "slurm.conf"))
    try:
        running.do("up")
        yield running
    finally:
        running.do("down")
        patch.undo()
    assert not left_over(running.folder)


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


@pytest.fixture(scope="session")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two ranks on this machine, without Slurm."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    mmgnn("train", recipe, "--run", run, "--nproc", 2)
    return run
