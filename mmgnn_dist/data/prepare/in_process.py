"""Small preparations in this process: without Ray, whose start would take longer than the work itself.

The chunks are the same and each is done by the same code, so the shards are the same, bit for bit, and what
is staged is continued by either way.
"""

from __future__ import annotations

from collections.abc import Callable

from mmgnn_dist.chem.readers.table import TableSource
from mmgnn_dist.data.prepare.chunks import ChunkRunner, PlannedRun, Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.ray_run import WORK, interruptible, staged_rows, watch
from mmgnn_dist.data.prepare.text.join import open_text_table
from mmgnn_dist.errors import WrongInput

# processor time in s on one core of a server; only its order of magnitude matters: the bundled sample takes
# 9.8 s with Ray and 2.5 s without
RAY_START = 8.0
ROW = 4e-4  # reading, checking and writing a molecule
SMILES_KEY = 1e-3  # InChIKey from a SMILES, RDKit's descriptors
CONFORMER = 2.5e-2  # a geometry from a SMILES of 9 heavy atoms
NAME = 1.6e-2  # a name by openclatura
OTHER_PROVIDER = 2.5e-2  # text of a provider whose cost is not known
PROVIDER_COSTS = {"table": 0.0, "file": 0.0, "rdkit": SMILES_KEY, "names": NAME}


def is_small(plan: PreparePlan) -> bool:
    """Whether a preparation takes less time in this process than the start of Ray."""
    row = ROW + SMILES_KEY
    row += sum(PROVIDER_COSTS.get(provider, OTHER_PROVIDER) for provider in plan.providers)
    seconds = 0.0
    for source in plan.sources:
        conformers = source.conformers.count if isinstance(source, TableSource) and source.embeds else 0
        seconds += source.rows * (row + CONFORMER * conformers)
    return seconds < RAY_START


def run_in_process(plan: PreparePlan, staging: Staging, report: Callable[[int, int, str], None]) -> None:
    """Do every chunk of a plan that is not staged yet, one after the other.

    Args:
        plan: the plan of the preparation.
        staging: staging folder for the shards and records.
        report: called with molecules done, all molecules and the present step.

    Raises:
        WrongInput: a source is damaged; reports the first in the order of the plan.
    """
    runner = ChunkRunner(plan, staging)
    with watch(plan.rows, staged_rows(plan, staging), report, WORK), interruptible():
        try:
            for run in plan.runs():
                for part in runner.feed(PlannedRun(first=run.first, end=run.end, fed=run.fed)):
                    if error := runner.work(part)["error"]:
                        raise WrongInput(error)
        finally:
            open_text_table.cache_clear()  # a later preparation may stage other tables under these paths
