"""What the training loop works on, and where it writes its lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.models.text_encoder.frozen_cache import Embeddings
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.engine import BatchPlan
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.tracking.journal import Journal

log = logging.getLogger(__name__)


@dataclass
class TrainContext:
    """The objects that the loop uses."""

    recipe: Recipe
    run: RunDir
    ranks: Ranks
    engine: Any
    plan: BatchPlan
    scaler: Scaler
    train: Loader
    validation: Loader
    embeddings: Embeddings | None
    metrics: list[str]
    units: list[str]
    journal: Journal | None
    progress: Progress
    export: Callable[[TrainState, Predictions | None], None]
    saver: Saver
    deadline: Deadline
    sink: Callable[[JournalLine], None] = field(default=lambda line: None)

    def forget_ids(self, step: int) -> None:
        """Drop ids of steps that run again from the logs of ranks that no longer exist."""
        for path in self.run.logs.glob("ids_rank_*.jsonl") if self.ranks.is_rank0 else ():
            if int(path.stem.rsplit("_", 1)[1]) >= self.ranks.world:
                Journal(path, step).close()

    def write(self, kind: str, **fields: Any) -> None:
        """Write one line to the journal and to W&B; only the first rank does so."""
        if self.journal:
            self.sink(self.journal.write(kind, **fields))

    def say_lost(self, fault: str) -> None:
        """Record in the journal that a sink of it has failed, and tell the user; once for each sink."""
        assert self.journal  # only the first rank has sinks
        self.journal.write("tracker", step=self.journal.step, why=fault)
        log.warning(fault)
        self.progress.say(f"{fault}: 'mmgnn sync' makes its record whole")
