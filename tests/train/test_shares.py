"""A run that an earlier version began with other shares of its ranks does not go on with other bits."""

from __future__ import annotations

import json

import pytest

from mmgnn_dist.errors import UserError
from mmgnn_dist.train.checkpoint.store import CHECKPOINT_MANIFEST
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.engine import BatchPlan
from mmgnn_dist.train.stages.resume import SHARES, check_shares


@pytest.mark.parametrize(
    ("writers", "world", "passes", "refused"),
    [(1, 1, 1, False), (2, 2, 1, True), (1, 1, 2, True), (1, 2, 1, False), (2, 1, 1, False)],
)
def test_older_runs(tmp_path, writers, world, passes, refused):
    (tmp_path / CHECKPOINT_MANIFEST).write_text(json.dumps({"world": writers}), encoding="utf-8")
    plan = BatchPlan(8, passes, world)
    older = TrainState(step=3)
    if refused:
        with pytest.raises(UserError, match="shared batches among ranks otherwise"):
            check_shares(older, tmp_path, plan)
    else:
        check_shares(older, tmp_path, plan)
        assert older.shares == SHARES
    check_shares(TrainState(step=3, shares=SHARES), tmp_path, plan)
