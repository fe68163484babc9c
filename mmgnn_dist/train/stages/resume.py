"""The second stage: load state and weights of the newest complete checkpoint, if any."""

from __future__ import annotations

from pathlib import Path

from mmgnn_dist.models.table_watch import tables_allowed
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.setting import Setting


def resume(setting: Setting, built: Built) -> tuple[TrainState, Path | None]:
    """Load the newest complete checkpoint.

    Returns:
        The state to continue from, and the checkpoint, None without one.

    Raises:
        UserError: no checkpoint is complete, or it was written with another encoder.
    """
    ranks = setting.ranks
    ranks.beat("looking for a checkpoint")
    checkpoint_dir = checkpoint.agreed_newest(setting.run.checkpoints, ranks)
    if checkpoint_dir is None:
        return TrainState(tables=tables_allowed(setting.inputs.recipe)), None
    ranks.beat("reading the checkpoint")
    # the weights are mapped from a file, and NFS cannot remove a mapped file: drop them after this call
    values, weights = checkpoint.load(checkpoint_dir, built.engine, ranks, built.encoder)
    built.average.restore(weights)
    return TrainState(**values), checkpoint_dir
