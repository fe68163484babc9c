"""Host memory that a step frees is there for the next step."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")

# pages that appear while a block as large as MiniLM's embeddings is taken, filled and freed five times
COUNT = """
import resource, torch
from mmgnn_dist.config import load_recipe
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.train.engine import BatchPlan, make_engine
from mmgnn_dist.train.ranks import init_distributed

small = "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 4, cutoff: 5.0}"
recipe = load_recipe(None, [small, "model.modality=graph", "train.zero_stage=STAGE"])
make_engine(FusedModel(recipe, ["sum"], None), recipe, BatchPlan(8, 1, 1), init_distributed(1).device)
for _ in range(20):  # first the blocks find their places
    torch.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("stage", [0, 1])
def test_freed_blocks_are_kept_at_stage_0_alone(stage):
    command = [sys.executable, "-c", COUNT.replace("STAGE", str(stage))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    faults, pages = int(done.stdout.splitlines()[-1]), 5 * 48_000_000 // 4096
    assert faults < pages / 100 if stage == 0 else faults > pages / 2
