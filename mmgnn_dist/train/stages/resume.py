"""The second stage: load state and weights of the newest complete checkpoint, if any."""

from __future__ import annotations

from pathlib import Path

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.models.table_watch import tables_allowed
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.engine import BatchPlan
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.setting import Setting

SHARES = "snake"  # how batches are divided among ranks and passes (`data/loading/sampling.py`)


def resume(setting: Setting, built: Built) -> tuple[TrainState, Path | None]:
    """Load the newest complete checkpoint.

    Returns:
        The state to continue from, and the checkpoint, None without one.

    Raises:
        UserError: no checkpoint is complete, or it was written with another encoder or for other shares.
    """
    ranks = setting.ranks
    ranks.beat("looking for a checkpoint")
    checkpoint_dir = checkpoint.agreed_newest(setting.run.checkpoints, ranks)
    if checkpoint_dir is None:
        return TrainState(shares=SHARES, tables=tables_allowed(setting.inputs.recipe)), None
    ranks.beat("reading the checkpoint")
    # the weights are mapped from a file, and NFS cannot remove a mapped file: drop them after this call
    values, weights = checkpoint.load(checkpoint_dir, built.engine, ranks, built.encoder)
    built.average.restore(weights)
    state = TrainState(**values)
    check_shares(state, checkpoint_dir, built.plan)
    return state, checkpoint_dir


def check_shares(state: TrainState, checkpoint_dir: Path, plan: BatchPlan) -> None:
    """Take over the state of a run that shared its batches as this version does.

    Raises:
        UserError: a version that shared otherwise wrote it, with as many ranks: it would not go on with the
            same bits.
    """
    writers = read_json(checkpoint_dir / checkpoint.CHECKPOINT_MANIFEST)["world"]
    if state.shares != SHARES and writers == plan.world and plan.world * plan.accumulation > 1:
        raise UserError(
            f"{checkpoint_dir} was written by a version that shared batches among ranks otherwise: "
            "go on with that version or with another number of ranks, or train anew in another directory "
            "(--run DIR)"
        )
    state.shares = SHARES
