"""Small preparations in this process: without Ray, whose start would take longer than the work itself.

The chunks are the same and each is done by the same code, so the shards are the same, bit for bit, and what
is staged is continued by either way.
"""

from __future__ import annotations

from collections.abc import Callable

from mmgnn_dist.chem.readers.source import Source
from mmgnn_dist.chem.readers.table import TableSource
from mmgnn_dist.data.prepare.chunks import ChunkRunner, PlannedRun, Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.ray_run import WORK, interruptible, staged_rows, watch
from mmgnn_dist.data.prepare.text.join import open_text_table
from mmgnn_dist.errors import WrongInput

# processor time in s on one core of a server; its order of magnitude counts: QM9 as a table with InChIKeys
# takes 20 s with Ray and 4 s without
RAY_START = 8.0
ROW = 1e-4  # reading, checking and writing a molecule of a table
RECORD = 4e-4  # the same of a record of text
SMILES_KEY = 1e-3  # InChIKey from a SMILES, RDKit's descriptors
CONFORMER = 2.5e-2  # a geometry from a SMILES of 9 heavy atoms
NAME = 1.6e-2  # a name by openclatura
OTHER_PROVIDER = 2.5e-2  # text of a provider whose cost is not known
PROVIDER_COSTS = {"table": 0.0, "file": 0.0, "rdkit": SMILES_KEY, "names": NAME}


def is_small(plan: PreparePlan) -> bool:
    """Whether a preparation takes less time in this process than the start of Ray."""
    text = sum(PROVIDER_COSTS.get(provider, OTHER_PROVIDER) for provider in plan.providers)
    return sum(source.rows * (_row_cost(source) + text) for source in plan.sources) < RAY_START


def _row_cost(source: Source) -> float:
    key = 0.0 if "inchikey" in source.columns else SMILES_KEY
    if not isinstance(source, TableSource):
        return RECORD + key
    return ROW + key + (CONFORMER * source.conformers.count if source.embeds else 0.0)


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
